"""The command line: its help, and its errors, each in one line and before anything is compiled."""

import errno
import gc
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import pytest
from conftest import ROOT, TINY, environment

import main
from dcgan_jax import settings
from dcgan_jax.command_line import commands, exits, parsing, shared

MODES = sorted(module.name.rstrip('_') for module in pkgutil.iter_modules(commands.__path__))

BAD = [
  ([], '--config is missing'),
  (['--config=configs/nope.py'], 'no such file'),
  (['--config=configs/digits.py', '--config.train.batchsize=3'], 'did you mean batch_size'),
  (
    ['--config=configs/digits.py', '--config.train.batch_size=abc'],
    'train.batch_size=abc: must be a whole number',
  ),
  (['--config=configs/digits.py', '--config.train.batch_size=3.5'], 'whole number'),
  (['--config=configs/digits.py', '--config.data.image_size=big'], 'height and width'),
  (['--config=configs/digits.py', '--config.data.flip=maybe'], 'choose True or False'),
  (['--config=configs/digits.py', '--config.train=3'], 'set one of its keys'),
  (['--config=configs/digits.py', '--mode=trian'], f'did you mean train? choose {", ".join(MODES)}'),
  (['--mode', 'nothing'], f'--mode=nothing: choose {", ".join(MODES)}'),
  (['--config=configs/digits.py', '--nosuchflag=1'], 'nosuchflag'),
  (['--config=configs/digits.py', 'extra'], 'unexpected'),
  (['--config=configs/image_folder.py'], 'choose digits, tfds:NAME or folder:PATH'),
  (
    ['--config=configs/digits.py', '--config.data.source=folder:/nonexistent', '--workdir=/nonexistent/run'],
    'no such folder',
  ),
  (['--config=configs/digits.py', '--workdir=main.py'], 'is a file'),
  (['--config=configs/digits.py', '--num_processes=2'], 'is given without --coordinator, --process_id'),
  (['--mode=sample'], '--workdir is missing'),
  (['--mode=sample', '--workdir=/nonexistent'], 'no run here'),
  (['--mode=sample', '--workdir=/nonexistent', '--num=0'], 'positive'),
  (
    ['--mode=sample', '--drop=3', '--plus=1'],
    'error: --drop=3: is not a flag of --mode=sample; it belongs to --mode=forget\n',
  ),
  (
    ['--mode=train', '--statistics=batch'],
    'is not a flag of --mode=train; it belongs to --mode=evaluate, --mode=export, --mode=forget, '
    '--mode=sample\n',
  ),
  (['--mode=sample', '--nosheet'], 'is not a flag of --mode=sample; it belongs to --mode=walk\n'),
  (
    ['--mode=sample', '--config=configs/digits.py'],
    'it belongs to --mode=import, --mode=summary, --mode=train',
  ),
  (['--mode=sample', '--config.train.batch_size=3'], 'is not a flag of --mode=sample'),
  (['--mode=probe', '--checkpoint'], 'checkpoint'),
  (['--mode=import'], '--format is missing'),
  (['--mode=export', '--workdir=/nonexistent'], '--format is missing'),
  (['--mode=export', '--workdir=/nonexistent', '--format=onnx'], 'no run here'),
  (['--mode=export', '--format=onxx'], 'should be one of'),
  (['--mode=export', '--format=onnx', '--statistics=batch'], 'should be one of <stored|population>'),
  (['--config=configs/nope.py', '--config.seed=1'], 'no such file; choose --config=configs/NAME.py'),
  (['--config=configs'], 'is a folder; give a regular file'),
  (['--config=/dev/zero', '--config.seed=1'], 'is not a regular file'),
  (['--config', '/dev/zero'], 'is not a regular file'),
  (['--flagfile=/dev/zero'], 'is not a regular file'),
  (['--flagfile', '/dev/zero'], 'is not a regular file'),
  (['--flagfile'], 'is a folder; give a regular file'),
  (['--mode=summary', '--config.seed=1'], '--config.seed: needs a config to change; choose --config='),
  (['--mode=sample', '--noworkdir'], '--workdir takes a value'),
  (['--mode=sample', '--seed=x'], 'flag --seed=x: must be a whole number'),
  (['--mode=sample', '--seed=' + '9' * 5000], ': must be a whole number'),
  (['--mode=walk', '--sheet=maybe'], 'flag --sheet=maybe: choose true or false'),
  (['--mode=sample', '--nosuchflag=1'], 'python main.py --mode=sample --help lists the flags'),
  (['--mode=sample', '--workdir=/nonexistent', '--num=99999999999'], '10,000,000 at most'),
  (
    ['--mode=sample', '--workdir=/nonexistent', '--checkpoint=²'],
    'choose last, best or the number of a step',
  ),
  (['--mode=sample', '--workdir=' + 'a' * 5000], 'File name too long'),
  (['--mode=sample', '--workdir=~nobody_here'], 'is not a path'),
  (['--config=configs/digits.py', '--config.data.image_size=' + '(' * 5000], 'height and width'),
  (['--config=configs/digits.py', '--config.seed=' + '9' * 5000], 'must be a whole number'),
  (['--coordinator=a:²', '--num_processes=2', '--process_id=0', '--config=configs/digits.py'], 'HOST:PORT'),
  (['--mode=import', '--format=newmu', '--workdir=x'], '--source is missing'),
  (['--mode=report', '--workdir= ,'], '--workdir= ,: names no folder'),
]


@pytest.mark.parametrize(('arguments', 'text'), BAD, ids=lambda x: x if isinstance(x, str) else None)
def test_bad_input_is_one_line(refused, arguments, text):
  assert text in refused(*arguments)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('empty', ['', ' '])
def test_an_empty_workdir_is_refused(refused, mode, empty):
  assert refused(f'--mode={mode}', f'--workdir={empty}').startswith(
    f'error: flag --workdir={empty}: is empty'
  )


@pytest.mark.parametrize('override', [[], ['--config.seed=1']])
@pytest.mark.parametrize(
  ('content', 'text'),
  [
    ('X = 1\ndef get_config(:', 'line 2: SyntaxError: invalid syntax'),
    ('def get_config():\n  return undefined', "line 2: NameError: name 'undefined' is not defined"),
    ('\n\nimport nothing_here', "line 3: ModuleNotFoundError: No module named 'nothing_here'"),
    ('def get_config():\n  f()\ndef f():\n  raise ValueError("a\\nb")', 'line 4: ValueError: a b'),
    ('int("x")', "line 1: ValueError: invalid literal for int() with base 10: 'x'"),
    ('open("/nonexistent")', 'line 1: FileNotFoundError: [Errno 2] No such file or directory'),
    ('from configs import digits\ndigits.get_config().seed = "x"', 'line 2: TypeError: Could not override'),
    ('assert False', 'line 1: AssertionError\n'),
    ('exit("no")', 'line 1: SystemExit: no'),
    ('', "has no attribute 'get_config'"),
    ('def get_config():\n  pass', 'get_config() returns NoneType; let it return a ConfigDict'),
  ],
)
def test_an_error_in_a_config_names_its_file_and_line(refused, tmp_path, content, text, override):
  (tmp_path / 'mine.py').write_text(content)
  line = refused(f'--config={tmp_path}/mine.py', *override)
  assert line.startswith(f'error: --config={tmp_path}/mine.py: ') and text in line


def test_a_config_may_take_an_argument(refused, tmp_path, monkeypatch):
  content = 'from configs import digits\ndef get_config(text):\n  config = digits.get_config()\n'
  mine = tmp_path / 'mine.py'
  mine.write_text(content + '  config.train.batch_size = int(text.partition("/")[2])\n  return config')
  flags = ['main.py', f'--config={mine}:a.b/24', '--config.seed=3']
  monkeypatch.setattr(sys, 'argv', flags)  # in which ml_collections looks for the keys
  values = parsing.parse('train', flags)
  assert (values.config.train.batch_size, values.config.seed) == (24, 3)
  assert shared.folder(values) == Path('runs/mine')
  assert "line 4: ValueError: invalid literal for int() with base 10: ''" in refused(f'--config={mine}:24')
  assert 'TypeError: get_config() missing 1 required' in refused(f'--config={mine}')
  assert f'--config={mine}x:24: no such file' in refused(f'--config={mine}x:24')
  assert 'takes 0 positional arguments' in refused('--config=configs/digits.py:24')
  mine.rename(tmp_path / 'mine.py:a')
  assert 'TypeError: get_config() missing 1 required' in refused(f'--config={mine}:a')  # a name with a colon
  values = parsing.parse('train', ['main.py', f'--config={mine}:a:/8'])
  assert values.config.train.batch_size == 8


def test_an_end_with_a_text_is_a_bug(call_main, monkeypatch):
  def run(values):
    raise SystemExit('no more')

  monkeypatch.setattr(parsing, 'find_command', lambda mode: types.SimpleNamespace(run=run))
  monkeypatch.setattr(parsing, 'parse', lambda mode, argv: None)
  assert call_main('--mode=summary') == (exits.BUG, '', 'no more\n')


@pytest.mark.parametrize('mode', MODES)
def test_a_current_folder_that_was_deleted_is_one_line(refused, tmp_path, monkeypatch, mode):
  (tmp_path / 'gone').mkdir()
  monkeypatch.chdir(tmp_path / 'gone')
  (tmp_path / 'gone').rmdir()
  assert 'the current folder is not there (No such file or directory)' in refused(f'--mode={mode}')


def test_files_of_flags_and_configs_are_ordinary_files(refused, tmp_path):
  """Refuses pipes, also those that a flag file includes, and endless flag files."""
  os.mkfifo(tmp_path / 'pipe')
  with (tmp_path / 'huge').open('wb') as file:
    file.truncate(2**40)
  for name in ('pipe', 'huge'):
    for flag in ('config', 'flagfile'):
      (tmp_path / 'leads').write_text(f'# to it\n--{flag}={tmp_path}/{name}\n')
      given = (
        (f'--{flag}={tmp_path}/{name}',),
        (f'--{flag}', f'{tmp_path}/{name}'),
        (f'--flagfile={tmp_path}/leads',),
      )
      for arguments in given:
        assert f'{tmp_path}/{name}: ' in (said := refused(*arguments)) and 'give a regular file' in said
  (tmp_path / 'itself').write_text(f'--flagfile={tmp_path}/itself\n' * 2)
  assert 'leads to itself' in refused(f'--flagfile={tmp_path}/itself')


def test_a_file_of_flags_may_lead_to_another(refused, tmp_path):
  (tmp_path / 'a').write_text(f'--flagfile={tmp_path}/b\n')
  (tmp_path / 'b').write_text('# flags\n--config=configs/digits.py\n--nosuchflag=1\n')
  assert 'nosuchflag' in refused(f'--flagfile={tmp_path}/a')


def test_help_lists_every_mode_with_a_line_and_an_example(call_main):
  status, printed, error = call_main('--help')
  assert (status, error) == (0, '') and printed.startswith(main.__doc__)
  lines = printed.splitlines()
  for mode in MODES:
    (found,) = (i for i, line in enumerate(lines) if re.match(rf'  {mode} +[A-Z].*\.$', line))
    assert lines[found + 1].strip().startswith('python main.py ')
    command = f'--mode={mode}' if mode != 'train' else '--config='
    assert command in lines[found + 1]
  assert call_main('--helpfull') == call_main('-help') == (status, printed, error)


def _flags(printed):
  return set(re.findall(r'^  --(\w+)=', printed, re.MULTILINE))


def test_help_of_a_mode_shows_its_flags_and_no_others(call_main):
  status, printed, error = call_main('--mode=sample', '--help')
  assert (status, error) == (0, '')
  shared = {'workdir', 'checkpoint', 'num', 'seed'}
  together = {'distributed', 'coordinator', 'num_processes', 'process_id'}
  assert _flags(printed) == shared | together | {'out', 'latents', 'class', 'statistics'}
  assert '--drop' not in printed and '--config' not in printed
  assert '--statistics=stored|batch|population' in printed and 'Default: samples.png.' in printed
  assert max(map(len, printed.splitlines())) <= 110


@pytest.mark.parametrize('mode', MODES)
def test_help_of_every_mode(call_main, mode):
  status, printed, error = call_main('--help', f'--mode={mode}')
  summary = importlib.import_module(
    f'dcgan_jax.command_line.commands.{mode}{"_" * (mode == "import")}'
  ).__doc__
  assert (status, error) == (0, '') and printed.startswith(summary.strip()) and 'workdir' in _flags(printed)


def test_help_of_training_has_every_key(call_main):
  _, printed, _ = call_main('--mode=train', '--help')
  words = ' '.join(printed.split())
  for line in settings.help_lines():
    assert ' '.join(line.replace(': ', ' ', 1).split()) in words


def test_ctrl_c_is_one_line(call_main, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(main.parsing, 'parse', interrupt)
  assert call_main('--mode=sample') == (130, '', 'interrupted\n')


def test_ctrl_c_is_heard_where_an_exception_would_be_lost(tmp_path, monkeypatch):
  """Interrupts an import, where C extensions raise an ImportError instead, and the garbage collector."""
  ends, said = [], []
  monkeypatch.setattr(main.os, '_exit', ends.append)
  monkeypatch.setattr(main.os, 'write', lambda number, text: said.append((number, text)))
  (tmp_path / 'interrupted_module.py').write_text(
    'from dcgan_jax.command_line import exits\nimport sys\nexits.interrupt(2, sys._getframe())'
  )
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(KeyboardInterrupt):  # after the end, which is none here
    importlib.import_module('interrupted_module')
  assert ends and set(ends) == {130} and set(said) == {(2, b'interrupted\n')}
  ends.clear()

  def collect(phase, info):
    with pytest.raises(KeyboardInterrupt):
      exits.interrupt(2, sys._getframe())

  monkeypatch.setattr(gc, 'callbacks', [collect])
  collect('start', {})
  assert set(ends) == {130}
  ends.clear()
  with pytest.raises(KeyboardInterrupt):
    exits.interrupt(2, sys._getframe())
  assert not ends


@pytest.mark.parametrize(
  'error',
  [
    MemoryError('Unable to allocate 7.45 GiB for an array'),
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory\nallocating 7.45 GiB'),
  ],
)
def test_too_little_memory_is_one_line(refused, monkeypatch, error):
  def run(_):
    raise error

  monkeypatch.setattr(parsing.find_command('sample'), 'run', run)
  line = refused('--mode=sample')
  assert 'out of memory' in line and '7.45 GiB' in line and 'smaller train.batch_size' in line


@pytest.mark.parametrize(
  ('number', 'remedy'),
  [
    (errno.EMFILE, 'cannot be opened: Too many open files; raise the limit, as by `ulimit -n 1024`'),
    (errno.EDQUOT, 'cannot be written: Disk quota exceeded; free some room'),
  ],
)
def test_what_a_machine_lacks_is_one_line(refused, monkeypatch, number, remedy):
  def run(_):
    raise OSError(number, os.strerror(number), 'digits.csv')

  monkeypatch.setattr(parsing.find_command('sample'), 'run', run)
  assert refused('--mode=sample') == f'error: digits.csv: {remedy}\n'


LEAVE = """
import multiprocessing, runpy, sys, threading, time
from dcgan_jax.command_line import parsing
worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,), daemon=True)
worker.start()
print(worker.pid, flush=True)
threading.Thread(target=threading.Event().wait).start()
def fail(*_):
  raise {error}
parsing.parse = fail
sys.argv = ['main.py', '--mode=sample']
runpy.run_path('main.py', run_name='__main__')
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('error', 'status', 'said'),
  [
    ("ZeroDivisionError('a bug')", 1, ['Traceback', 'ZeroDivisionError: a bug']),
    ('KeyboardInterrupt', 130, ['interrupted']),
  ],
)
def test_threads_and_workers_do_not_hold_up_the_end(error, status, said):
  """Starts a thread that never ends, like those of Orbax and XLA, and a worker like Grain's."""
  done = subprocess.run(
    [sys.executable, '-c', LEAVE.replace('{error}', error)],
    cwd=ROOT,
    env=os.environ | {'GLIBC_TUNABLES': ''},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == status and all(words in done.stderr for words in said)
  worker, until = Path('/proc', done.stdout.strip(), 'stat'), time.monotonic() + 20
  while worker.exists() and worker.read_text().split()[2] != 'Z' and time.monotonic() < until:
    time.sleep(0.01)
  assert time.monotonic() < until


@pytest.mark.parametrize('arguments', [['--config=configs/digits.py'], ['--mode=sample']])
def test_a_workdir_that_is_not_utf8_is_refused(refused, untrained, tmp_path, arguments):
  folder = shutil.copytree(untrained, tmp_path / os.fsdecode(b'caf\xe9'))
  text = refused(*arguments, f'--workdir={folder}')
  assert 'caf\\udce9' in text and 'is not UTF-8' in text and 'choose a path whose bytes are UTF-8' in text


def test_a_bug_keeps_its_traceback(call_main, monkeypatch):
  def run(_):
    raise RuntimeError('a bug')

  monkeypatch.setattr(parsing.find_command('sample'), 'run', run)
  with pytest.raises(RuntimeError, match='a bug'):
    call_main('--mode=sample')


OF_A_RUN = [
  ['--mode=evaluate'],
  ['--mode=export', '--format=onnx'],
  ['--mode=film'],
  ['--mode=forget', '--class=3'],
  ['--mode=probe'],
  ['--mode=project', '--images=x'],
  ['--mode=report'],
  ['--mode=sample'],
  ['--mode=verify'],
  ['--mode=walk'],
]
# Modes that take no devices, or in which something else is said to be wrong first.
NO_DEVICES = ('--mode=film', '--mode=project', '--mode=report', '--mode=verify')


@pytest.mark.slow
def test_a_variable_that_jax_cannot_read_is_one_line():
  for name in ('JAX_ENABLE_X64', 'JAX_NUM_CPU_DEVICES', 'JAX_DEFAULT_MATMUL_PRECISION'):
    command, env = [sys.executable, 'main.py', '--mode=summary', TINY[0]], environment() | {name: 'maybe'}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith('error: JAX_...: ValueError: ')
    assert name.lower() in done.stderr.lower() and done.stderr.count('\n') == 1


@pytest.mark.slow
def test_a_window_system_that_is_not_there_does_not_matter(tmp_path):
  command = [sys.executable, 'main.py', *TINY, '--config.train.num_steps=1', f'--workdir={tmp_path}/run']
  env = environment() | {'MPLBACKEND': 'nonsense'}
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
  assert (done.returncode, done.stderr) == (0, '') and (tmp_path / 'run' / 'losses.png').is_file()


@pytest.mark.slow
def test_devices_that_are_not_there_are_one_line_in_every_mode(untrained):
  """Checks that no mode uses JAX before it knows that there are devices."""
  commands = [TINY, ['--mode=summary', '--config=configs/digits.py'], *OF_A_RUN]
  commands = [[*command, f'--workdir={untrained}'] for command in commands if command[0] not in NO_DEVICES]
  code = 'import json, sys, main\nfor sys.argv in json.loads(sys.argv[1]): print(main.main())'
  given = json.dumps([['main.py', *command] for command in commands])
  env = environment() | {'JAX_PLATFORMS': 'nonsense'}
  done = subprocess.run(
    [sys.executable, '-c', code, given], cwd=ROOT, env=env, capture_output=True, text=True, check=True
  )
  assert done.stdout == '2\n' * len(commands)
  assert done.stderr.count('\n') == len(commands)
  lines = done.stderr.splitlines()
  assert all(line.startswith('error: JAX_PLATFORMS=nonsense: JAX finds no such device') for line in lines)


@pytest.mark.skipif(not hasattr(os, 'getuid'), reason='folders are closed to other users in another way')
def test_a_workdir_of_another_user_is_one_line_in_every_mode(tmp_path):
  """Opens no folder without permission; root becomes nobody for this."""
  for path in (tmp_path, *tmp_path.parents[:-1]):
    if os.getuid() == 0 and not path.stat().st_mode & 1:
      path.chmod(0o755)
  (tmp_path / 'closed').mkdir(mode=0)
  closed = tmp_path / 'closed'
  commands = [[*mode, f'--workdir={closed}'] for mode in ([], ['--mode=summary'], *OF_A_RUN)]
  commands += [['--mode=report', f'--workdir={closed}/x'], ['--flagfile', f'{closed}/x']]
  code = (
    'import json, os, sys, main; from dcgan_jax.command_line import parsing; parsing.help_of_all(); '
    'os.getuid() or os.setuid(65534)\n'
    'for sys.argv in json.loads(sys.argv[1]): print(main.main())'
  )
  given = json.dumps([['main.py', *command] for command in commands])
  done = subprocess.run(
    [sys.executable, '-c', code, given], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout == '2\n' * len(commands)
  lines = done.stderr.splitlines()
  assert len(lines) == len(commands) and all(f'{closed}' in line for line in lines)
  assert all(line.startswith('error: ') and 'Permission denied' in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_reader_that_has_left_is_no_stack_trace(unbuffered):
  reader, writer = os.pipe()
  os.close(reader)
  command, env = [sys.executable, 'main.py', '--help'], os.environ | {'PYTHONUNBUFFERED': unbuffered}
  done = subprocess.run(command, cwd=ROOT, env=env, stdout=writer, stderr=subprocess.PIPE, text=True)
  os.close(writer)
  assert (done.returncode, done.stderr) == (128 + 13, '')


@pytest.mark.slow
def test_help_and_errors_do_not_import_jax():
  slow = ('jax', 'tensorflow', 'sklearn', 'tensorflow_datasets')
  commands = [['--help'], ['--mode=train', '--help']]
  commands += [*TINY, '--config.train.batch_size=0'], ['--mode=sample', '--drop=3'], ['--mode=sample']
  commands += [[*mode, '--workdir=/nonexistent'] for mode in OF_A_RUN]
  code = (
    'import json, sys, main\n'
    'for sys.argv in json.loads(sys.argv[1]):\n'
    f'  print("END", main.main(), *sorted(sys.modules.keys() & {set(slow)}))'
  )
  given = json.dumps([['main.py', *command] for command in commands])
  done = subprocess.run(
    [sys.executable, '-c', code, given], cwd=ROOT, capture_output=True, text=True, check=True
  )
  ends = [line for line in done.stdout.splitlines() if line.startswith('END')]
  assert ends == ['END 0'] * 2 + ['END 2'] * (len(commands) - 2)
