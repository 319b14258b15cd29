"""The pages: their commands, their links, and the figures that files of the repository know."""

import ast
import configparser
import dataclasses
import functools
import importlib
import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys

import jax
import pytest
from conftest import ROOT

from configs import digits
from dcgan_jax import settings
from dcgan_jax.command_line import parsing, processes, shared
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment
from dcgan_jax.trained.explorer import folder, precision

PAGES = [*sorted(ROOT.glob('*.md')), *sorted(ROOT.glob('docs/**/*.md')), ROOT / 'examples' / 'tour.ipynb']
MARKDOWN = [page for page in PAGES if page.suffix == '.md']
# Files whose docstrings or messages have commands or name pages.
SOURCES = [
  path
  for name in ('*', 'benchmarks/*', 'configs/*', 'examples/*', 'dcgan_jax/**/*')
  for path in sorted(ROOT.glob(f'{name}.py'))
]
WIDTH = 120  # characters of a line of Markdown
LIBRARY = [  # what the modes call
  'evaluation.evaluate',
  'runs.sampling',
  'trained.analysis.forget',
  'trained.analysis.probe',
  'trained.analysis.project',
  'trained.analysis.summary',
  'trained.explorer.folder',
  'trained.films',
  'trained.hub.writing',
  'trained.interop.exporting',
  'trained.interop.importing',
  'trained.report.page',
  'trained.targets.report',
  'trained.walks.walk',
  'training.loop',
  'training.verification',
]
FENCE = re.compile(r'^ *```(\w*).*?\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r'`([^`\n]+)`')
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"|^\[[^\]]+\]: (\S+)', re.MULTILINE)
FILE = re.compile(
  r'(?<![\w/.-])(?:benchmarks|configs|dcgan_jax|docs|examples|tests)/[\w/-]+\.(?:py|md|ipynb|png)\b(?:#[\w-]+)?'
)
KEY = re.compile(r'(--config\.)?(([a-z_]+)\.[a-z_]+)(?:=.*)?')
KEYS = settings.flat(dataclasses.asdict(settings.Settings()))
SECTIONS = {key.partition('.')[0] for key in KEYS}
EXTRAS = {  # what commands of a page need, and the extra that the page must then name
  r'--format=(onnx|web)\b': 'export',
  r'--out=\S+\.mp4\b': 'video',
  r'--config\.log\.tracker=wandb': 'wandb',
  r'--target=v\d': 'aot',
}
LACKING = re.compile('is not installed|matches no folder of a run')  # not there, and no fault of a command
OWN = re.compile(r'\b(configs/NAME|mine)\.py(:ARG)?')  # what the pages call a config of the reader's
# Programs are not run: each call that bash makes of one is written to a file, with its expanded arguments.
RECORD = r"""
PATH=/nowhere
command_not_found_handle() { printf '%s\037' "$@" >> "$CALLS"; printf '\036' >> "$CALLS"; }
seq() { local i; for ((i = $1; i <= $2; i++)); do echo $i; done; }
for name in cd source . exec kill ulimit; do eval "$name() { :; }"; done
"""
NOTICE = (folder.STATIC / 'vendor' / 'NOTICE.txt').read_text()
IMAGES = (50_000, 60_000)  # CIFAR-10's and MNIST's
FIGURES = {  # how pages say a figure, and whether its groups are right
  r'minimal\.py\),? a (?:whole|complete) DCGAN in (?:under )?(\d+) lines': lambda most: (
    _lines('examples/minimal.py') <= most < _lines('examples/minimal.py') + 10
  ),
  r'Python 3\.(\d+) or newer': lambda minor: f'>=3.{minor}' == _metadata()['options']['python_requires'],
  r'images of (\d+) latents then change': lambda n: n == precision.CHECKED,
  r'then change by less than ([\d.]+) of 255': lambda change: float(change) == precision.MOST,
  r'((?:onnxruntime-web|gifenc) \d[\d.]*\d)': lambda version: f'{version}, ' in NOTICE,
  r'(\d+) epochs, ([\d,]+) steps of (\d+) images': lambda epochs, steps, batch: (
    steps in [math.ceil(epochs * images / batch) for images in IMAGES]
  ),
  r'(\d+) epochs of `(\w+)`': lambda epochs, name: _is_epochs(epochs, name),
  r'\| `(\w+)` \|.* an epoch, of (\d+)': lambda name, epochs: _is_epochs(epochs, name),
  r'\| `(\w+)` \|.* of ([\d,]+) steps \|': lambda name, steps: steps == _preset(name).train.num_steps,
  r'runs/digits/samples/step_0*(\d+)\.png': lambda steps: steps == _preset('digits').train.num_steps,
  r'step of `(\w+)`.*? ([\d,]+) bytes together, which is the size of the parameters': lambda name, size: (
    size == 4 * _parameters(name)
  ),
}


@functools.cache
def _text(path):
  """Returns the text of a page, of a source file, or of the Markdown in a notebook."""
  if path.suffix != '.ipynb':
    return path.read_text()
  cells = json.loads(path.read_text())['cells']
  return '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown')


def _prose(page):
  """Returns the Markdown of a page without its blocks of code."""
  return FENCE.sub('', _text(page))


def _id(path):
  return str(path.relative_to(ROOT))


def _lines(name):
  return len((ROOT / name).read_text().splitlines())


def _metadata():
  metadata = configparser.ConfigParser()
  metadata.read(ROOT / 'setup.cfg')
  return metadata


def _missing(wanted, there):
  return ', '.join(f'no {name}' for name in sorted(set(wanted) - set(there)))


def _blocks(path):
  """Returns the blocks of shell commands of a page, or the lines of commands in the docstring of a module."""
  if path.suffix != '.py':
    return [block for language, block in FENCE.findall(_text(path)) if language == 'sh']
  text = ast.get_docstring(ast.parse(_text(path))) or ''
  return re.findall(r'^ *(?:python|pip) (?:.*\\\n)*.*$', text, re.MULTILINE)


def _calls(block, folder):
  """Returns the calls of programs in a block, each a list of arguments; also those within an argument."""
  (folder / 'docs').mkdir(exist_ok=True)
  log = folder / 'calls'
  log.write_text('')
  bash = ['/bin/bash', '--norc', '-c', RECORD + block]
  env = {'CALLS': str(log), 'SLURM_ARRAY_TASK_ID': '1'}
  done = subprocess.run(bash, cwd=folder, env=env, capture_output=True, text=True, timeout=20, check=False)
  assert done.stderr == '', done.stderr
  assert not os.listdir(folder / 'docs'), f'writes into docs/: {block}'
  calls = [call.split('\037')[:-1] for call in log.read_text().split('\036')[:-1]]
  for word in [word for call in calls for word in call if 'python main.py' in word]:
    calls += _calls(re.sub(r'^--[\w-]+=', '', word), folder)
  return calls


@pytest.fixture
def parsed(monkeypatch):
  """A function that has main.py's arguments checked by their mode's command; it returns the error, or ''."""
  chosen = settings.check(digits.get_config())
  for name in LIBRARY:
    monkeypatch.setattr(importlib.import_module(f'dcgan_jax.{name}'), 'run', lambda *_, **__: None)
  page = importlib.import_module('dcgan_jax.trained.report.page')
  monkeypatch.setattr(page, 'write_after_training', lambda *_, **__: None)
  monkeypatch.setattr(workdir, 'read_settings', lambda folder: chosen)
  monkeypatch.setattr(workdir, 'require_run', lambda folder: None)
  monkeypatch.setattr(shared, 'origin', lambda values: None)

  def call_after_checks(values, function):
    processes.is_one_of_many(values.distributed, values.coordinator, values.num_processes, values.process_id)
    function()

  monkeypatch.setattr(processes, 'run_together', call_after_checks)
  monkeypatch.chdir(ROOT)

  def call(arguments):
    arguments = [OWN.sub('configs/digits.py', word) for word in arguments]
    monkeypatch.setattr(sys, 'argv', ['main.py', *arguments])
    try:
      mode, rest = parsing.find_mode(sys.argv)
      if not any(parsing.HELP.fullmatch(word) for word in rest):
        parsing.find_command(mode or 'train').run(parsing.parse(mode or 'train', rest))
    except InputError as error:
      return '' if LACKING.search(str(error)) else str(error)
    return ''

  return call


def _check(call, parsed):
  """Returns what is wrong with a call of a program; '' if nothing is, or the program is not ours."""
  if any(re.match('-.*=(./)?docs/', word) for word in call):
    return 'writes into docs/'
  if 'main.py' in call:
    return parsed(call[call.index('main.py') + 1 :])
  if call[0] == 'pip':
    extras = re.findall(r'\.\[(.*?)\]', ' '.join(call))
    return _missing(','.join(extras).split(',') if extras else [], _metadata()['options.extras_require'])
  if call[0] == 'pytest':
    files = [word for word in call[1:] if '/' in word]
    return _missing(files, [name for name in files if (ROOT / name).exists()])
  if call[:2] == ['python', '-m']:
    return '' if importlib.util.find_spec(call[2]) else f'no module {call[2]}'
  if call[0] == 'python' and call[1].endswith('.py'):
    return _check_script(call[1], call[2:])
  return ''


def _check_script(name, arguments):
  """Returns what is wrong with a call of another script than main.py: it, or a flag of it, does not exist."""
  if not (ROOT / name).exists():
    return f'no {name}'
  flags = re.findall(r'(?:^| )\[?--(\w+)', ' '.join(arguments))  # An optional one is in brackets.
  return _missing(flags, [*re.findall(r"'(?:--)?(\w+)'", _text(ROOT / name)), 'help'])


def test_commands_are_valid(parsed, tmp_path):
  wrong, count = [], 0
  for block in [block for path in [*PAGES, *SOURCES] for block in _blocks(path)]:
    calls = _calls(block, tmp_path)
    count += len(calls)
    code = re.sub(r'(^|\s)#.*', '', block)
    if sum('main.py' in call for call in calls) < code.count('main.py'):
      wrong.append(f'not all commands were reached: {code}')
    wrong += [f'a folder of dots: {line}' for line in code.splitlines() if re.search(r'=\.\.\.( |$)', line)]
    wrong += [f'{shlex.join(call)}: {said}' for call in calls if (said := _check(call, parsed))]
  assert count > 100 and not wrong, '\n'.join(wrong)


def test_extras_are_named_beside_the_commands_that_need_them():
  missing = []
  for page in MARKDOWN:
    commands = '\n'.join(_blocks(page))
    needed = {extra for pattern, extra in EXTRAS.items() if re.search(pattern, commands)}
    named = set(re.findall(r'\w+', ' '.join(re.findall(r'\.\[(.*?)\]', _text(page)))))
    missing += [(_id(page), extra) for extra in sorted(needed - named)]
  assert not missing


@functools.cache
def _anchors(page):
  """Returns the anchors of a page, as GitHub makes them of its headings."""
  found = []
  for heading in re.findall(r'^#+ +(.*?)#* *$', _prose(page), re.MULTILINE):
    title = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', heading).strip().lower()
    anchor = re.sub(r'[^\w\- ]', '', title).replace(' ', '-')
    before = sum(re.sub(r'-\d+$', '', one) == anchor for one in found)
    found.append(f'{anchor}-{before}' if before else anchor)
  return {*found, *re.findall(r'<a (?:id|name)="(.*?)"', _text(page))}


def _is_broken(link, page):
  """Returns whether a relative link of a page leads nowhere, or out of the repository."""
  path, _, anchor = link.partition('#')
  target = (page.parent / path).resolve() if path else page
  if not target.is_file() or not target.is_relative_to(ROOT):  # Sphinx has no pages of folders.
    return True
  return bool(anchor) and target.suffix in ('.md', '.ipynb') and anchor not in _anchors(target)


def test_links_lead_somewhere():
  links = [
    (page, link)
    for page in PAGES
    for groups in LINK.findall(CODE.sub('', _prose(page)))
    for link in groups
    if link and not re.match('[a-z]+:', link)
  ]
  assert len(links) > 100
  assert not [(_id(page), link) for page, link in links if _is_broken(link, page)]


def test_anchors_are_those_of_github(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(
    '# A `b.c`, and (d)\n```sh\n# none\n```\n## [E_f](x.md) – g\n## E_f – g\n## a `b.c`, and (d)\n'
  )
  assert _anchors(page) == {'a-bc-and-d', 'e_f--g', 'e_f--g-1', 'a-bc-and-d-1'}


def test_named_files_exist():
  named = [(path, name) for path in [*PAGES, *SOURCES] for name in FILE.findall(_text(path))]
  real = [(path, name) for path, name in named if not re.search(r'NAME|/x\.', name)]
  assert len(real) > 100
  assert not [(_id(path), name) for path, name in real if _is_broken(name, ROOT / 'README.md')]


def _is_ours(name):
  """Returns whether a dotted name, such as `data.load`, is of the package."""
  module, _, member = f'dcgan_jax.{name}'.rpartition('.')
  return importlib.util.find_spec(module) is not None and hasattr(importlib.import_module(module), member)


def test_named_keys_exist():
  found = [(page, KEY.fullmatch(code)) for page in PAGES for code in CODE.findall(_prose(page))]
  named = [(page, *match.groups()) for page, match in found if match]
  assert len(named) > 100
  assert not [
    (_id(page), key)
    for page, flag, key, section in named
    if key not in KEYS and (flag or (section in SECTIONS and not _is_ours(key)))
  ]


def _preset(name):
  return settings.check(importlib.import_module(f'configs.{name}').get_config())


def _is_epochs(number, name):
  """Returns whether a preset trains for a number of epochs; some say so in steps."""
  train = _preset(name).train
  if not train.num_steps:
    return number == train.num_epochs
  return number in [round(train.num_steps * train.batch_size / images) for images in IMAGES]


def _parameters(name):
  """Returns the number of parameters of both networks of a preset."""
  shapes = experiment.build(_preset(name)).shapes
  return sum(leaf.size for leaf in jax.tree.leaves((shapes.generator.params, shapes.discriminator.params)))


def _wrong_figures(text):
  """Yields the figures of a text that are not those of the files."""
  text = re.sub(r'\n(?=[^\n|#-])', ' ', text)  # Lines of a paragraph are one.
  for pattern, is_right in FIGURES.items():
    for match in re.finditer(pattern, text):
      bare = [group.replace(',', '') for group in match.groups()]
      if not is_right(*(int(group) if group.isdigit() else group for group in bare)):
        yield match[0]


def test_figures_are_those_of_the_files():
  assert not [(_id(page), figure) for page in PAGES for figure in _wrong_figures(_prose(page))]


def test_wrong_figures_are_found():
  text = 'This is 25 epochs,\n9,767 steps of 128 images, Python 3.10 or newer, onnxruntime-web 1.2.3 (MIT)'
  assert [figure.split()[0] for figure in _wrong_figures(text)] == ['Python', 'onnxruntime-web', '25']


def test_the_readme_is_short():
  assert _lines('README.md') <= 150


def test_pages_are_narrow():
  lines = [(_id(page), i, line) for page in MARKDOWN for i, line in enumerate(_text(page).splitlines(), 1)]
  assert not [(page, i) for page, i, line in lines if len(line) > WIDTH], f'lines longer than {WIDTH}'


def test_the_server_that_is_advised_is_of_this_machine_alone():
  """Finds no advice to show a folder to the whole network, which is what http.server does by itself."""
  texts = [_text(path) for path in [*PAGES, *SOURCES, *folder.STATIC.glob('*.js')]]
  advice = [line for text in texts for line in text.splitlines() if '-m http.server' in line]
  assert len(advice) >= 3 and all('-m http.server --bind 127.0.0.1' in line for line in advice), advice
