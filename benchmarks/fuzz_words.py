"""Text targets of `benchmarks.fuzz`: flags, names of data sets and files, and whole commands."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import fuzz_inputs as inputs
from benchmarks.fuzz_inputs import ROOT, Act, Random, pick, spoil, text, write
from dcgan_jax.errors import InputError


def flags(random: Random, folder: Path) -> Act:
  """Fuzzes flags and overridden keys of a mode, up to the call of the library."""
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
    sys.argv = argv  # ml_collections reads overridden keys from here
    mode, rest = parsing.find_mode(argv)
    values = parsing.parse(mode or 'train', rest)
    if 'config' in values:
      chosen = shared.chosen_settings(values)
      if random.random() < 0.1:
        inputs.shapes(chosen)
    if 'workdir' in values:
      shared.folder(values)
    if 'coordinator' in values:
      processes.is_one_of_many(
        values.distributed, values.coordinator, values.num_processes, values.process_id
      )

  return act


def names(random: Random, folder: Path) -> Act:
  """Fuzzes names of images, classes, data sets and splits, and paths."""
  from dcgan_jax import data, files
  from dcgan_jax.runs import sampling
  from dcgan_jax.trained.walks import exemplars

  words = text(random)
  kind = random.integers(5)
  if kind == 0:
    return lambda: exemplars.parse('points', words)
  if kind == 1:
    return lambda: sampling.find_class('class', words, ('a', 'B', 'b'))
  if kind == 2:
    return lambda: files.named('out', words)
  if words.strip() in ('/', '~', '.'):  # Searching all of these for images would take long.
    words = 'x'
  name = pick(random, ['digits', 'folder:', 'stacked:', '']) + words
  return lambda: data.open_source(name, words, data.Fit((8, 8), 1))


def data_sets(random: Random, folder: Path) -> Act:
  """Fuzzes names of tfds data sets, without a network."""
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
  """Fuzzes the whole command line in a new process."""
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
  # Valid commands would train; the workdir is a file, which is refused last.
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
