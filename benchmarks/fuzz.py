"""Fuzzes every reader of user input with odd, broken and crafted input, from a seed.

Each input must lead to a result or an `InputError` of one line, in bounded time and memory, with nothing
written outside the workdir and the cache. Each target runs in its own process.

python -m benchmarks.fuzz                                  # all, 13,420 inputs: a quarter of an hour
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

from benchmarks import fuzz_files as files
from benchmarks import fuzz_words as words
from benchmarks.fuzz_inputs import ROOT, Act, Random
from dcgan_jax.errors import InputError

SECONDS = 10.0  # time limit of an input
MIB = 1024  # memory limit of a target, in addition to its initial memory


Target = Callable[[Random, Path], Act]  # (random, folder for input files) -> function that reads them

# Targets, their number of inputs in a full campaign, and seconds per input.
TARGETS: dict[str, tuple[Target, int, float]] = {
  'flags': (words.flags, 2000, SECONDS),
  'config.json': (files.config_files, 2000, SECONDS),
  'classes.json': (files.class_files, 600, SECONDS),
  'metrics.jsonl': (files.metrics_files, 1000, SECONDS),
  'images': (files.images, 2000, SECONDS),
  'pytorch': (files.pytorch, 1500, SECONDS),
  'newmu': (files.newmu, 800, SECONDS),
  'latents': (files.latents, 500, SECONDS),
  'images.npz': (files.arrays_of_images, 700, SECONDS),
  'statistics.npz': (files.kept_arrays, 400, SECONDS),
  'cached images': (files.kept_images, 300, SECONDS),
  'inception': (files.inception_files, 200, SECONDS),
  'names': (words.names, 600, SECONDS),
  'tfds names': (words.data_sets, 100, SECONDS),
  'main.py': (words.commands, 120, 60.0),
  'hub folders': (files.hub_folders, 600, SECONDS),
}


class Stuck(BaseException):
  """An input has exceeded the time limit."""


def _interrupt(*_: Any) -> None:
  raise Stuck


def _memory() -> float:
  """Returns the peak memory of this process in MiB."""
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
  """Fuzzes one target in this process; returns the results."""
  target, _, seconds = TARGETS[name]
  warnings.simplefilter('ignore')  # Warnings are shown to users and are not failures.
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
      if random.random() < 0.02:
        _put_pipe(random, Path(folder))
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
    begin = begin or _memory()  # after all imports
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


def _put_pipe(random: Random, folder: Path) -> None:
  """Replaces one of the files by a pipe without a writer."""
  found = sorted(path for path in folder.iterdir() if path.is_file() and path.stat().st_size)
  if found:
    path = found[random.integers(len(found))]
    path.unlink()
    os.mkfifo(path)


def start_target(name: str, count: int, seed: int) -> dict[str, Any]:
  """Fuzzes one target in a new process and an empty folder."""
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
  """Runs the campaign, one target or one input; returns 1 if anything failed."""
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
