"""Feeds every reader of a user's input with odd, broken and crafted input, from a seed.

For each input the only ways to end are a result and an `InputError` of one line, in bounded time and memory,
with nothing written beside the workdir and the cache. Each target runs in a process of its own.

python -m benchmarks.fuzz                                  # all, 12,820 inputs: a quarter of an hour
python -m benchmarks.fuzz --share=0.01                     # a hundredth of each target
python -m benchmarks.fuzz --target=images --index=17       # one input again, with its traceback
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fuzz_inputs as inputs
from benchmarks.fuzz_inputs import Random, pick, spoil, text, write
from dcgan_jax.errors import InputError

SECONDS = 10.0  # that an input may take
MIB = 1024  # of memory that a target may take beyond what it begins with
ROOT = Path(__file__).parents[1]

Act = Callable[[], Any]
Target = Callable[[Random, Path], Act]  # takes a folder to put files into; returns what reads them


def flags(random: Random, folder: Path) -> Act:
  """Flags and overridden keys of a mode, up to the call of the library."""
  from dcgan_jax.command_line import parsing, processes, shared

  mode = pick(random, parsing.modes())
  names = [name for name in parsing.define_flags(mode) if name != 'config']
  argv = ['main.py', f'--mode={pick(random, [mode] * 9 + [text(random)])}']
  if random.random() < 0.8 and mode in ('train', 'summary', 'import'):
    argv.append(f'--config={ROOT}/configs/digits.py')
  for _ in range(random.integers(1, 4)):
    key = pick(random, inputs.KEYS) if random.random() < 0.9 else text(random)
    flag = f'config.{key}' if mode in ('train', 'summary') else pick(random, names)
    words = text(random) if random.random() < 0.5 else pick(random, inputs.PLAUSIBLE)
    argv.append(pick(random, [f'--{flag}={words}'] * 9 + [text(random), f'--{text(random)}', f'--no{flag}']))

  def act() -> None:
    sys.argv = argv  # where ml_collections looks for overridden keys
    mode, rest = parsing.find_mode(argv)
    values = parsing.parse(mode or 'train', rest)
    if 'config' in values:
      chosen = shared.chosen_settings(values)
      if random.random() < 0.1:
        shapes(chosen)
    if 'workdir' in values:
      shared.folder(values)
    if 'coordinator' in values:
      processes.is_one_of_many(
        values.distributed, values.coordinator, values.num_processes, values.process_id
      )

  return act


def config_files(random: Random, folder: Path) -> Act:
  """The config.json of a run."""
  import dataclasses

  from configs import digits
  from dcgan_jax import settings
  from dcgan_jax.journal import workdir

  content = dataclasses.asdict(settings.check(digits.get_config()))
  changed = inputs.tree(random, content) if random.random() < 0.9 else inputs.value(random)
  encoded = json.dumps(changed).encode()
  encoded = pick(random, [encoded] * 6 + [spoil(random, encoded), b'[' * 100_000, b'{"a":' * 50_000])
  write(folder / 'config.json', encoded)

  def act() -> None:
    chosen = workdir.read_settings(folder)
    if random.random() < 0.1:
      shapes(chosen)

  return act


def shapes(chosen: Any) -> None:
  """Goes through a train step and all that it needs without computing it, as every run does at first."""
  import jax

  from dcgan_jax import experiment

  jax.eval_shape(experiment.build(chosen).initial_state)


def class_files(random: Random, folder: Path) -> Act:
  """The classes.json of a run."""
  from dcgan_jax.journal import workdir

  content = {'names': pick(random, [['a', 'b'], inputs.value(random), [text(random)] * 3])}
  encoded = json.dumps(content if random.random() < 0.8 else inputs.value(random)).encode()
  write(folder / 'classes.json', spoil(random, encoded) if random.random() < 0.5 else encoded)
  return lambda: workdir.read_classes(folder)


def metrics_files(random: Random, folder: Path) -> Act:
  """The metrics.jsonl of a run, what it says about the run, and sometimes its plots."""
  from dcgan_jax.journal import collapse, journal, metrics

  names = [
    'loss_d',
    'loss_g',
    'd_real',
    'd_fake',
    'fid',
    'coverage',
    'precision',
    'recall',
    'missing_classes',
  ]
  rows = [{'step': i, **{name: random.random() for name in names}} for i in range(random.integers(30))]
  for row in rows:
    if random.random() < 0.1:
      row[pick(random, ['step', *names])] = inputs.value(random)
    if random.random() < 0.1:
      row.pop(pick(random, names), None)
  encoded = '\n'.join(map(json.dumps, rows)).encode()
  path = write(folder / 'metrics.jsonl', spoil(random, encoded) if random.random() < 0.5 else encoded)

  def act() -> None:
    found = metrics.read(path)
    collapse.of_scores(found, 'fid'), collapse.of_outputs(found)
    if random.random() < 0.02:
      journal.draw_run(folder, 'fid')

  return act


def images(random: Random, folder: Path) -> Act:
  """A folder of image files."""
  from dcgan_jax import data

  for i in range(random.integers(1, 4)):
    encoded = inputs.image(random)
    encoded = pick(random, [encoded, spoil(random, encoded), spoil(random, encoded), random.bytes(40), b''])
    name = pick(random, ['x', 'x', 'é', 'a\nb', '\udcff', '.hidden', '\x1b[31m', 'a' * 200])
    write(folder / f'{name}{i}{pick(random, [".png", ".JPG", ".gif", ".webp", ".bmp", ".txt"])}', encoded)
  odd = random.integers(20)
  if odd == 0:
    os.mkfifo(folder / 'pipe.png')
  elif odd == 1:
    (folder / 'loop.png').symlink_to('loop.png')
    (folder / 'up').symlink_to(folder)
  elif odd == 2:
    (folder / 'zero.png').symlink_to('/dev/zero')
  size = int(pick(random, [1, 8, 30])), int(pick(random, [1, 8, 16]))
  fit = data.Fit(size, pick(random, [1, 3]), pick(random, ['crop', 'squash']))

  def act() -> None:
    source = data.open_source(f'folder:{folder}', 'train', fit)
    source.identity()
    data.load(source, 'images')

  return act


def pytorch(random: Random, folder: Path) -> Act:
  """PyTorch's weights, as `--mode=import` takes them."""
  from configs import cifar10
  from dcgan_jax import settings
  from dcgan_jax.interop import importing

  paths = []
  for i, tensors in enumerate(inputs.networks(random)):
    names = list(tensors)
    if random.random() < 0.1:
      tensors.pop(pick(random, names))
    crafted = random.random() < 0.1
    content = inputs.crafted_pickle(random) if crafted else inputs.torch_zip(random, tensors)
    if crafted and random.random() < 0.5:
      stream = io.BytesIO()
      with inputs.zipfile.ZipFile(stream, 'w') as archive:
        archive.writestr('x/data.pkl', content)
      content = stream.getvalue()
    paths.append(write(folder / f'{i}.pth', content))
  source = ','.join(map(str, pick(random, [paths, paths[:1], paths[::-1]])))
  chosen = settings.check(cifar10.get_config())
  return lambda: importing._adopt(chosen, importing._read_pytorch(source), source)


def newmu(random: Random, folder: Path) -> Act:
  """The arrays of the paper's authors, as `--mode=import` takes them."""
  from configs import svhn
  from dcgan_jax import settings
  from dcgan_jax.interop import importing

  def of(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)

  arrays = [of(5, 64), of(64), of(64), of(4, 3, 5, 5), of(3), of(3), of(3, 3, 5, 5)]
  whole = random.random() < 0.3
  for i, array in enumerate(arrays, 1):
    if random.random() < 0.02:
      array = of(*(int(n) for n in random.integers(0, 6, random.integers(5))))
    keep = whole or random.random() < 0.8
    stream = io.BytesIO()
    np.save(stream, array)
    write(folder / f'gen_{i:02d}.npy', stream.getvalue() if keep else inputs.npy(random, array))
  chosen = settings.check(svhn.get_config())
  return lambda: importing._adopt(chosen, importing._read_newmu(str(folder)), str(folder))


def latents(random: Random, folder: Path) -> Act:
  """Latents for `--mode=sample`, through a generator."""
  from dcgan_jax import sampling

  array = random.standard_normal((int(random.integers(4)), int(pick(random, [10, 10, 10, 3]))))
  array = array.astype(pick(random, [np.float32, np.float64, np.int64, np.uint8, bool]))
  path = write(folder / 'z.npy', inputs.npy(random, array))
  sampler = _sampler()
  return lambda: sampler.from_latents(sampling._read_latents(str(path)))


def _sampler() -> Any:
  """Returns an untrained generator at work, always the same."""
  import jax

  from dcgan_jax import sampling
  from dcgan_jax.latents import Latents
  from dcgan_jax.models import Generator

  if 'sampler' not in _MADE:
    module = Generator(
      widths=(8, 6), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(8, 8), channels=1
    )
    variables = module.init(jax.random.key(0), jax.numpy.zeros((1, 10)))
    _MADE['sampler'] = sampling.Sampler(module, variables, Latents(10), 0)
  return _MADE['sampler']


_MADE: dict[str, Any] = {}


def arrays_of_images(random: Random, folder: Path) -> Act:
  """An .npz for `--mode=evaluate --images`."""
  from dcgan_jax import data
  from dcgan_jax.evaluation import evaluate

  count = int(pick(random, [0, 9, 30, 30, 30, 30]))
  array = random.integers(0, 256, (count, 8, 8, int(pick(random, [1, 1, 1, 3]))), np.uint8)
  path = write(
    folder / pick(random, ['x.npz', 'x', '\udcff.npz']), inputs.npz(random, {'x': array, 'y': array})
  )
  return lambda: evaluate._read_images(str(path), data.Fit((8, 8), 1), 20)


def kept_arrays(random: Random, folder: Path) -> Act:
  """Kept statistics of a run, and arrays of the cache, which are made again if they are broken."""
  from dcgan_jax.data import cache

  good = {'norm0/mean': np.zeros(4, np.float32), 'norm0/var': np.ones(4, np.float32)}
  path = write(folder / 'kept.npz', inputs.npz(random, good))

  def fits(kept: dict[str, np.ndarray]) -> bool:
    return {key: x.shape for key, x in kept.items()} == {key: x.shape for key, x in good.items()}

  def act() -> None:
    assert fits(cache.arrays_in(path, lambda: good, fits))

  return act


def kept_images(random: Random, folder: Path) -> Act:
  """Decoded images in the cache, which are decoded again if they are broken."""
  from PIL import Image

  from dcgan_jax import data
  from dcgan_jax.data import cache

  (folder / 'pictures').mkdir()
  Image.new('L', (9, 9), 200).save(folder / 'pictures' / 'x.png')
  source = data.open_source(f'folder:{folder}/pictures', 'train', data.Fit((8, 8), 1))
  cache.load(source, 'pictures')
  newest = max((cache.folder() / 'images').glob('*.npy'), key=lambda path: path.stat().st_mtime_ns)
  broken = [inputs.npy(random, np.zeros((1, 8, 8, 1), np.uint8)), inputs.npy(random, np.zeros((1, 9, 8, 1)))]
  newest.write_bytes(pick(random, broken))
  if random.random() < 0.3:
    newest.with_suffix('.json').write_bytes(spoil(random, newest.with_suffix('.json').read_bytes()))

  def act() -> None:
    found = cache.load(source, 'pictures')
    assert found.dtype == np.uint8 and found.shape[1:] == (8, 8, 1)

  return act


def inception_files(random: Random, folder: Path) -> Act:
  """Inception's weights: everything is refused but the published file, which is not here."""
  from dcgan_jax.evaluation import extractors

  path = write(folder / 'weights.pth', random.bytes(int(random.integers(10_000))))
  odd = pick(random, [str(path), str(path), str(path), str(folder), '/dev/zero', text(random), f'{path}/x'])
  return lambda: extractors.find_weights(odd, download=False)


def names(random: Random, folder: Path) -> Act:
  """Names of images, classes, data sets and splits, and paths."""
  from dcgan_jax import data, files, sampling
  from dcgan_jax.analysis import exemplars

  words = text(random)
  kind = random.integers(5)
  if kind == 0:
    return lambda: exemplars.parse('points', words)
  if kind == 1:
    return lambda: sampling.find_class('class', words, ('a', 'B', 'b'))
  if kind == 2:
    return lambda: files.named('out', words)
  if words.strip() in ('/', '~', '.'):  # Looking for images in all of them would take its time.
    words = 'x'
  name = pick(random, ['digits', 'folder:', 'stacked:', '']) + words
  return lambda: data.open_source(name, words, data.Fit((8, 8), 1))


def data_sets(random: Random, folder: Path) -> Act:
  """Names of tfds data sets, without a network."""
  from dcgan_jax import data

  os.environ |= {'HTTPS_PROXY': 'http://127.0.0.1:9', 'HTTP_PROXY': 'http://127.0.0.1:9'}
  os.environ['TFDS_DATA_DIR'] = pick(random, [str(folder), str(folder), '/dev/null', str(folder / 'x')])
  known = pick(
    random, ['mnist', 'cifar10', 'imdb_reviews', 'mnst', 'lsun/bedroom', 'mnist:9.9.9', 'mnist:3.*.*']
  )
  name = pick(
    random, [known, known, text(random), f'{known}/{text(random)}', f'hf:{known}', f'{known}:{text(random)}']
  )
  split = pick(random, ['train', text(random)])
  return lambda: data.open_source(f'tfds:{name}', split, data.Fit((8, 8), 1))


def commands(random: Random, folder: Path) -> Act:
  """The whole command line, in a process of its own."""
  write(folder / 'config.json', spoil(random, b'{"seed": 1}'))
  write(folder / 'file', random.bytes(100))
  words = text(random).replace('\udcff', '\xff')[:1000]
  mode = pick(random, ['sample', 'walk', 'evaluate', 'import', 'probe', 'forget', 'summary', 'train'])
  argument = {
    'train': pick(random, [f'--config.{pick(random, inputs.KEYS)}={words}', f'--{words}', words]),
    'import': f'--source={pick(random, [words, str(folder / "file"), str(folder)])}',
    'sample': f'--{pick(random, ["latents", "out", "class", "num", "seed"])}={words}',
    'walk': f'--{pick(random, ["points", "plus", "out", "class", "path"])}={words}',
    'evaluate': f'--{pick(random, ["images", "weights", "num", "features"])}={words}',
  }.get(mode, f'--checkpoint={words}')
  rest = {
    'train': ['--config=configs/digits.py'],
    'import': [f'--format={pick(random, ["pytorch", "newmu"])}'],
  }
  argv = [f'--mode={mode}', *rest.get(mode, []), argument]
  # What is right would be trained: the workdir is a file, which is refused last.
  argv.append(f'--workdir={folder / "file" if mode in ("train", "import") else folder}')

  def act() -> None:
    done = subprocess.run(
      [sys.executable, str(ROOT / 'main.py'), *argv],
      capture_output=True,
      cwd=ROOT,
      check=False,
      timeout=60,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    )
    said = done.stderr.decode(errors='replace')
    assert done.returncode in (0, 2) and 'Traceback' not in said, f'{argv}: {done.returncode}: {said[-2000:]}'
    if done.returncode:
      assert said.startswith('error: ') and said.count('\n') == 1, f'{argv}: {said}'
      raise InputError(said.removeprefix('error: ').strip())

  return act


# Each target, how many inputs the whole campaign has of it, and how many seconds one may take.
TARGETS: dict[str, tuple[Target, int, float]] = {
  'flags': (flags, 2000, SECONDS),
  'config.json': (config_files, 2000, SECONDS),
  'classes.json': (class_files, 600, SECONDS),
  'metrics.jsonl': (metrics_files, 1000, SECONDS),
  'images': (images, 2000, SECONDS),
  'pytorch': (pytorch, 1500, SECONDS),
  'newmu': (newmu, 800, SECONDS),
  'latents': (latents, 500, SECONDS),
  'images.npz': (arrays_of_images, 700, SECONDS),
  'statistics.npz': (kept_arrays, 400, SECONDS),
  'cached images': (kept_images, 300, SECONDS),
  'inception': (inception_files, 200, SECONDS),
  'names': (names, 600, SECONDS),
  'tfds names': (data_sets, 100, SECONDS),
  'main.py': (commands, 120, 60.0),
}


class Stuck(BaseException):
  """An input that takes too long."""


def _interrupt(*_: Any) -> None:
  raise Stuck


def _memory() -> float:
  """Returns the most MiB that this process has had so far."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(act: Act, seconds: float) -> tuple[str, str]:
  """Tries one input: ('accepted', ''), ('refused', why) or ('failed', traceback)."""
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    act()
    return 'accepted', ''
  except InputError as error:
    message = str(error)
    good = message.isprintable() and 3 < len(message) < 1100 and 'Traceback' not in message
    return ('refused', message) if good else ('failed', f'not a line: {message!r}')
  except Stuck:
    return 'failed', f'took longer than {seconds} s:\n{traceback.format_exc()[-2000:]}'
  except BaseException:
    return 'failed', traceback.format_exc()[-3000:]
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)


def run_target(name: str, indices: range, seed: int, show: bool) -> dict[str, Any]:
  """Feeds one target, in this process; returns what became of the inputs."""
  target, _, seconds = TARGETS[name]
  warnings.simplefilter('ignore')  # A user would see them, and they end nothing.
  signal.signal(signal.SIGALRM, _interrupt)
  report: dict[str, Any] = {'inputs': 0, 'accepted': 0, 'refused': 0, 'failed': 0, 'slowest': 0.0}
  report |= {'failures': [], 'messages': []}
  begin = 0.0
  for i in indices:
    random = np.random.default_rng([seed, list(TARGETS).index(name), i])
    with (
      tempfile.TemporaryDirectory(prefix='fuzz', dir='.') as folder,
      contextlib.redirect_stdout(io.StringIO()),
    ):
      act = target(random, Path(folder).absolute())
      faulthandler.dump_traceback_later(seconds * 6, exit=True)
      start = time.monotonic()
      outcome, why = attempt(act, seconds)
      report['slowest'] = max(report['slowest'], time.monotonic() - start)
      faulthandler.cancel_dump_traceback_later()
    report['inputs'] += 1
    report[outcome] += 1
    if outcome == 'failed':
      report['failures'].append([i, why])
    elif why and len(report['messages']) < 60:
      report['messages'].append(why)
    begin = begin or _memory()  # Whatever is imported has been.
    if show:
      print(outcome, why)
  left = [path.name for path in Path().iterdir() if path.name != 'cache']
  if left:
    report['failed'] += 1
    report['failures'].append([-1, f'left beside the inputs: {left}'])
  report['memory'] = _memory() - begin
  if report['memory'] > MIB:
    report['failed'] += 1
    report['failures'].append([-1, f'took {report["memory"]:.0f} MiB'])
  return report


def start_target(name: str, count: int, seed: int) -> dict[str, Any]:
  """Feeds one target in a process of its own, in an empty folder."""
  with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
    (Path(folder) / 'work').mkdir()
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.fuzz', f'--target={name}', f'--count={count}', f'--seed={seed}'],
      cwd=Path(folder) / 'work',
      env=os.environ
      | {
        'PYTHONPATH': str(ROOT),
        'DCGAN_JAX_CACHE': f'{folder}/work/cache',
        'JAX_PLATFORMS': 'cpu',
        'TF_CPP_MIN_LOG_LEVEL': '3',
      },
      capture_output=True,
      text=True,
      errors='replace',
      check=False,
    )
    outside = [path.name for path in Path(folder).iterdir() if path.name != 'work']
  try:
    report = json.loads(done.stdout.splitlines()[-1])
  except (IndexError, json.JSONDecodeError):
    failures = [[-1, f'the process ended with {done.returncode}: {done.stderr[-3000:]}']]
    report = {'inputs': 0, 'accepted': 0, 'refused': 0, 'failed': 1, 'slowest': 0.0, 'memory': 0.0}
    report |= {'failures': failures, 'messages': []}
  if outside:
    report['failed'] += 1
    report['failures'].append([-1, f'written outside: {outside}'])
  return report


def main() -> int:
  """Runs the campaign, or one target, or one input; returns 1 if anything failed."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--share', type=float, default=1.0, help='of the inputs of each target')
  parser.add_argument('--messages', help='a file for samples of what was refused, and why')
  parser.add_argument('--target', choices=list(TARGETS))
  parser.add_argument('--count', type=int, help='inputs of the target, in this process')
  parser.add_argument('--index', type=int, help='of one input of the target')
  given = parser.parse_args()
  if given.target and (given.index is not None or given.count):
    indices = range(given.count or 0) if given.index is None else range(given.index, given.index + 1)
    report = run_target(given.target, indices, given.seed, given.index is not None)
    print(json.dumps(report))
    return int(report['failed'] > 0)
  print(
    f'{"target":16}{"inputs":>8}{"accepted":>10}{"refused":>9}{"failures":>10}{"slowest":>9} s{"peak":>6} MiB'
  )
  columns = ('inputs', 'accepted', 'refused', 'failed')
  total, failures, messages, slowest, peak = dict.fromkeys(columns, 0), [], [], 0.0, 0.0
  for name, (_, count, _) in TARGETS.items():
    if given.target not in (None, name):
      continue
    report = start_target(name, max(1, round(count * given.share)), given.seed)
    total = {key: total[key] + report[key] for key in columns}
    slowest, peak = max(slowest, report['slowest']), max(peak, report['memory'])
    failures += [(name, *failure) for failure in report['failures']]
    messages += [f'{name}: {message}' for message in report['messages']]
    _print_row(name, report, report['slowest'], report['memory'])
  _print_row('all', total, slowest, peak)
  if given.messages:
    Path(given.messages).write_text('\n'.join(messages) + '\n')
  for name, index, why in failures:
    print(f'\n--target={name!r} --index={index} --seed={given.seed}:\n{why}')
  return int(bool(failures))


def _print_row(name: str, report: dict[str, Any], slowest: float, peak: float) -> None:
  numbers = f'{report["inputs"]:8}{report["accepted"]:10}{report["refused"]:9}{report["failed"]:10}'
  print(f'{name:16}{numbers}{slowest:11.2f}{peak:10.0f}', flush=True)


if __name__ == '__main__':
  sys.exit(main())
