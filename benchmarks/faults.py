"""Injects faults of machines and users into runs, and checks that nothing is lost.

python benchmarks/faults.py                              # each fault alone, as often as FAULTS says
python benchmarks/faults.py --share=0.05 --faults=killed,damaged
python benchmarks/faults.py --pairs=1000                 # two random faults at once
python benchmarks/faults.py --pairs=1000 --index=17      # one pair again, with the output of its processes

Each fault hits a small run on the digits, in separate processes. The run is then started again, and its last
state must be bit-equal to that of an undisturbed run; if the fault is irreparable, one line must say what is
wrong. These also count as losses: a traceback in any output, an unexplained exit status, a process that is
still alive 20 seconds after it should have ended, more than 1 GiB of memory, and a sound checkpoint taken for
a damaged one. Faults that mount a small disk need root and are skipped without it; `slow` throttles its disk
with a control group (version 1). The status is 1 if anything was lost.
"""

import argparse
import contextlib
import ctypes
import fcntl
import functools
import gc
import itertools
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from benchmarks import forks

STEPS = 40
LOG_EVERY, DRAW_EVERY, SAVE_EVERY = 2, 10, 5
KEYS = {
  'data.image_size': 8,
  'generator.widths': (8,),
  'generator.strides': (2,),
  'generator.norm': (True,),
  'discriminator.widths': (8,),
  'discriminator.strides': (2,),
  'discriminator.norm': (True,),
  'discriminator.dropout': 0.2,
  'latent.size': 10,
  'train.batch_size': 16,
  'train.augment': '',
  'train.num_steps': STEPS,
  'log.every_steps': LOG_EVERY,
  'log.tensorboard': False,
  'log.report': False,
  'sample.every_steps': DRAW_EVERY,
  'sample.num': 16,
  'checkpoint.every_steps': SAVE_EVERY,
  'checkpoint.keep': 2,
}
SECONDS = 20.0  # allowed beyond the usual duration of a process
MIB = 1024.0  # memory allowed for a process
SIGNS = ('Traceback', 'Fatal Python error', 'Exception ignored', 'terminate called')  # unhandled errors
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2  # capabilities that let root ignore file modes


class LostError(Exception):
  """Something was lost, or an exit was not explained."""


class Process(forks.Child):
  """A process of main.py that prints to files unless given other outputs."""

  def __init__(self, run: 'Run', arguments: Sequence[str]):
    self._run = run
    self._printed = [run.root / f'{next(run.numbers)}.{name}' for name in ('out', 'err')]
    files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in self._printed]
    outputs = {1: files[0], 2: files[1]} | run.outputs
    environment = run.usual | {'DCGAN_JAX_CACHE': str(run.cache)} | run.environment
    super().__init__(arguments, environment, (outputs[1], outputs[2]), run.first)
    for file in files:
      os.close(file)

  def poll(self) -> int | None:
    """Returns the status, None while it runs; reads its terminal output, and kills it if it is too large."""
    with contextlib.suppress(OSError):
      while self._run.terminal is not None and os.read(self._run.terminal, 4096):
        pass
    status = super().poll()
    if status is None:
      with contextlib.suppress(OSError, IndexError):
        pages = int(Path(f'/proc/{self.pid}/statm').read_text().split()[1])
        if pages * resource.getpagesize() > 2 * MIB * 2**20:  # The machine may not have more.
          os.kill(self.pid, signal.SIGKILL)
    return status

  def said(self) -> tuple[str, str]:
    """Returns its output, as far as it was written."""
    out, err = (path.read_text(errors='replace') for path in self._printed)
    return out, err


@dataclass
class Run:
  """A run to inject faults into.

  Attributes:
    root: Folder of all its files.
    random: Generator of moments, files and bytes.
    shared: Read-only folder with the cache and initial runs.
    usual: Environment variables of the user.
    duration: Seconds of an undisturbed start.
    keys: Keys of its config in addition to KEYS.
    arguments: Flags of the disturbed start in addition to those of the config.
    environment: Environment variables in addition to `usual`.
    first: Functions that its processes call before anything else.
    outputs: Descriptors in place of 1 and 2; None for closed.
    terminal: Descriptor to read the terminal output of its processes from.
    statuses: Acceptable exit statuses, in addition to 0 and to 2 with an explanation.
    excused: Names of checks that the fault itself makes fail.
    alone: Whether there is no second fault.
  """

  root: Path
  random: np.random.Generator
  shared: Path
  usual: dict[str, str]
  duration: float = 0.0
  keys: dict[str, Any] = field(default_factory=dict)
  arguments: list[str] = field(default_factory=list)
  environment: dict[str, str] = field(default_factory=dict)
  first: list[Callable[[], object]] = field(default_factory=list)
  outputs: dict[int, int | None] = field(default_factory=dict)
  terminal: int | None = None
  statuses: set[int] = field(default_factory=set)
  excused: set[str] = field(default_factory=set)
  alone: bool = True

  def __post_init__(self) -> None:
    self.folder, self.cache = self.root / 'run', self.root / 'cache'
    self.root.mkdir(parents=True, exist_ok=True)
    if not self.cache.exists() and (self.shared / 'cache').exists():
      shutil.copytree(self.shared / 'cache', self.cache)
    self.numbers, self.begin = itertools.count(), 0
    self.processes: list[Process] = []
    self.status, self.out, self.err, self.peak = 0, '', '', 0.0
    self.patience = SECONDS + 3 * self.duration

  def start(self, *arguments: str) -> Process:
    """Starts training, or another mode given by the arguments."""
    command = [f'--workdir={self.folder}']
    if not any(argument.startswith('--mode=') for argument in arguments):
      command += ['--config=configs/digits.py']
      command += [f'--config.{key}={value}' for key, value in (KEYS | self.keys).items()]
    self.processes.append(Process(self, [*command, *arguments]))
    return self.processes[-1]

  def end(self, process: Process) -> None:
    """Waits for a process to end, reads its output, and checks that it ended properly."""
    in_time = process.wait(self.patience)
    if not in_time:
      process.send_signal(signal.SIGKILL)
      process.wait(SECONDS)
    self.status, self.peak = int(process.status or 0), max(self.peak, process.peak)
    self.out, self.err = process.said()
    tail = f'status {self.status}: {self.err.strip()[-600:]}'
    if process.peak > MIB:
      raise LostError(f'{process.peak:.0f} MiB of memory')
    if not in_time:
      raise LostError(f'no end after {self.patience:.0f} s; {self.out[-200:]} {tail}')
    said = self.out + self.err
    sign = min((said.index(sign) for sign in SIGNS if sign in said), default=None)
    if 'traceback' not in self.excused and sign is not None:
      raise LostError(f'a traceback: status {self.status}: {said[sign:][:4000]}')
    if self.status not in {0, 2} | self.statuses:
      raise LostError(tail)
    if self.status == 2 and not self.outputs:
      errors = [line for line in self.err.splitlines() if line.startswith('error: ')]
      if len(errors) != 1 or not self.err.rstrip().endswith(errors[0]):
        raise LostError(f'not a line at the end: {tail}')

  def finish(self, *arguments: str) -> None:
    """Runs to the end and expects success."""
    self.end(self.start(*arguments))
    if self.status:
      raise LostError(f'status {self.status}: {self.err.strip()[-300:]}')

  def refuse(self, *arguments: str, saying: str = '') -> None:
    """Starts a process that must be refused in one line that contains `saying`."""
    self.end(self.start(*arguments))
    self.check_refused(saying)

  def check_refused(self, saying: str) -> None:
    """Checks that the last process was refused, with `saying` if there was no other fault."""
    ended_otherwise = self.status in self.statuses
    if not ended_otherwise and (self.status != 2 or (self.alone and saying not in self.err)):
      raise LostError(f'status {self.status}, {saying!r} expected: {self.err.strip()[-300:]}')

  def begin_at_half(self) -> None:
    """Creates a run that was stopped halfway, unless there is one."""
    if not self.folder.joinpath('config.json').exists():
      shutil.copytree(self.shared / 'half', self.folder, dirs_exist_ok=True)

  def rows(self) -> int:
    """Returns the number of rows of metrics."""
    with contextlib.suppress(OSError):
      return (self.folder / 'metrics.jsonl').read_bytes().count(b'\n')
    return 0

  def wait_for(self, process: Process, happened: Callable[[], object]) -> bool:
    """Waits until `happened` returns true; returns False if the process ends first."""
    while process.poll() is None:
      if happened():
        return True
      if process.age > self.patience:
        break
      time.sleep(0.001)
    return False

  def has_come_to(self, rows: int) -> bool:
    """Returns whether `rows` rows have been added since the start: 0 needs a config.json, -1 nothing."""
    least = min(self.begin + rows, STEPS // LOG_EVERY)
    return rows < 0 or ((self.folder / 'config.json').exists() and self.rows() >= least)

  def is_saving(self) -> bool:
    """Returns whether a checkpoint is being written."""
    return any(self.folder.glob('checkpoints/*.orbax-checkpoint-tmp*'))

  def kill(self, process: Process, number: signal.Signals) -> None:
    """Sends a signal and expects its effect."""
    self.expect(number)
    process.send_signal(number)
    if number == signal.SIGKILL:  # Until it is dead, it holds the lock.
      process.wait(SECONDS)

  def expect(self, number: signal.Signals) -> None:
    """Allows a process to end by a signal that is about to be sent; in training, it saves first."""
    trains = self.rows() > self.begin and not self.is_trained()
    at_once = number == signal.SIGKILL or not trains or not self.alone
    self.statuses |= {128 + number, *([-number] if at_once else [])}

  def is_trained(self) -> bool:
    """Returns whether the last checkpoint exists."""
    return (self.folder / f'checkpoints/{STEPS}').exists()

  def check_what_was_said(self) -> None:
    """Checks that everything the process reported is on disk, and everything that precedes a checkpoint."""
    logged = [int(step) for step in re.findall(r'^step (\d+)/', self.out, re.MULTILINE)]
    saved = [int(step) for step in re.findall(r' saved (?:step )?(\d+)[, ]', self.out)]
    checkpoints = [int(path.name) for path in self.folder.glob('checkpoints/*') if path.name.isdigit()]
    if 'saved' not in self.excused and saved and max(checkpoints, default=0) < saved[-1]:
      raise LostError(f'step {saved[-1]} was said to be saved')
    least = max([*logged, *checkpoints], default=0)
    rows = self.folder / 'metrics.jsonl'
    found = re.findall(r'^{"step": (\d+),.*}$', rows.read_text(), re.MULTILINE) if rows.exists() else []
    missing = set(range(LOG_EVERY, least + 1, LOG_EVERY)) - set(map(int, found))
    if 'rows' not in self.excused and missing:
      raise LostError(f'rows of steps {sorted(missing)}, though step {least} was logged or saved')
    drawn = range(0, max(checkpoints, default=-1) + 1, DRAW_EVERY)
    unseen = [n for n in drawn if not (self.folder / f'samples/step_{n:08d}.png').exists()]
    if 'pictures' not in self.excused and unseen:
      raise LostError(f'pictures of steps {unseen}, though a later step was saved')
    if 'damaged' not in self.excused and (self.folder / 'damaged').exists():
      raise LostError(f'a sound checkpoint was moved: {os.listdir(self.folder / "damaged")}')

  def disarm(self) -> None:
    """Makes the next start an undisturbed one."""
    self.arguments, self.environment, self.first, self.statuses = [], {}, [], set()
    self.outputs, self.terminal = {}, None
    self.excused -= {'traceback'}


# A fault is a generator. Up to its first `yield` it prepares the run, which is then started. At a random
# moment it is sent the process and acts. After its second `yield`, when the process has ended, it repairs.
Fault = Callable[[Run], Generator[None, Process, None]]


def killed(run: Run) -> Generator[None, Process, None]:
  """Kills the run."""
  process = yield
  run.kill(process, signal.SIGKILL)
  yield


def killed_in_a_save(run: Run) -> Generator[None, Process, None]:
  """Kills the run while Orbax writes in the background."""
  process = yield
  if run.wait_for(process, run.is_saving):
    time.sleep(run.random.uniform(0, 0.03))
  run.kill(process, signal.SIGKILL)
  yield


def killed_at_the_gif(run: Run) -> Generator[None, Process, None]:
  """Kills the run while the GIF is written; the next start writes it again."""
  process = yield
  run.wait_for(process, lambda: any(path.name != 'samples.gif' for path in run.folder.glob('*samples.gif*')))
  run.kill(process, signal.SIGKILL)
  yield
  run.disarm()
  run.finish()
  if not (run.folder / 'samples.gif').exists():
    raise LostError('the GIF')


def killed_in_preparation(run: Run) -> Generator[None, Process, None]:
  """Kills the run before its first step, with nothing in the cache."""
  shutil.rmtree(run.cache)
  process = yield
  process.wait(run.random.uniform(0.1, run.duration))
  run.kill(process, signal.SIGKILL)
  yield


def terminated(run: Run) -> Generator[None, Process, None]:
  """Sends SIGTERM."""
  process = yield
  run.kill(process, signal.SIGTERM)
  yield


def hung_up(run: Run) -> Generator[None, Process, None]:
  """Sends SIGHUP, as a terminal does when it is closed."""
  process = yield
  run.kill(process, signal.SIGHUP)
  yield


def told_by_the_cluster(run: Run) -> Generator[None, Process, None]:
  """Sends SIGUSR1, as SLURM does before the time limit."""
  process = yield
  run.kill(process, signal.SIGUSR1)
  yield


def interrupted_twice(run: Run) -> Generator[None, Process, None]:
  """Presses Ctrl-C twice, the second time most likely during the save."""
  process = yield
  run.excused.add('traceback')  # A traceback of KeyboardInterrupt is acceptable.
  run.statuses |= {1, 130, -signal.SIGINT}
  process.send_signal(signal.SIGINT)
  time.sleep(run.random.uniform(0, 0.3))
  process.send_signal(signal.SIGINT)
  yield


def full(run: Run) -> Generator[None, Process, None]:
  """Fills the disk during the run, which continues and reports it; then frees space."""
  with mounted(run, 'size=2m'):
    run.excused |= {'rows', 'pictures'}
    yield
    filler = run.folder / 'filler'
    subprocess.run(['dd', 'if=/dev/zero', f'of={filler}', 'bs=4k'], capture_output=True, check=False)
    yield
    if run.alone and run.status and 'could not be saved' not in run.err and 'No space' not in run.err:
      raise LostError(f'status {run.status}: {run.err[-300:]}')
    filler.unlink()


def slow(run: Run) -> Generator[None, Process, None]:
  """Trains on a disk that writes half a megabyte per second, and kills the run."""
  run.patience *= 5
  with throttled(run, 2**19):
    process = yield
    run.kill(process, signal.SIGKILL)
    yield


def read_only(run: Run) -> Generator[None, Process, None]:
  """Reads from a read-only workdir, and trains there, which is refused."""
  with mounted(run, 'size=20m'):
    run.begin_at_half()
    subprocess.run(['mount', '-o', 'remount,ro', run.folder], check=True)
    yield
    yield
    run.check_refused('cannot be written')
    out = f'--out={run.root / "out.png"}'
    run.finish('--mode=sample', out)
    run.finish('--mode=walk', '--points=0,1', out)
    run.finish('--mode=sample', out, '--statistics=population')
    subprocess.run(['mount', '-o', 'remount,rw', run.folder], check=True)


def damaged(run: Run) -> Generator[None, Process, None]:
  """Damages a file of the last checkpoint in one of four ways, and maybe samples before resuming."""
  run.begin_at_half()
  run.excused |= {'damaged'}
  files = sorted(p for p in (run.folder / f'checkpoints/{STEPS // 2}').rglob('*') if p.is_file())
  damage(files[run.random.integers(len(files))], run.random)
  if run.alone and run.random.integers(2):
    run.finish('--mode=sample', f'--out={run.root / "out.png"}')
  yield
  yield


def bit_flipped(run: Run) -> Generator[None, Process, None]:
  """Flips a bit in the arrays of the last checkpoint."""
  run.begin_at_half()
  run.excused |= {'damaged'}
  files = [p for p in (run.folder / f'checkpoints/{STEPS // 2}').rglob('*') if p.is_file()]
  flip(max(files, key=lambda p: p.stat().st_size), run.random)
  yield
  yield


def half_a_line(run: Run) -> Generator[None, Process, None]:
  """Truncates the last line of the metrics."""
  run.begin_at_half()
  run.excused |= {'rows'}
  path = run.folder / 'metrics.jsonl'
  path.write_bytes(path.read_bytes()[: -int(run.random.integers(1, 200))])
  yield
  yield


def another_config(run: Run) -> Generator[None, Process, None]:
  """Starts with another config, which is refused."""
  run.begin_at_half()
  run.keys['train.batch_size'] = 32
  yield
  yield
  del run.keys['train.batch_size']
  run.check_refused('train.batch_size was 16 and is 32')


def networks_that_do_not_fit(run: Run) -> Generator[None, Process, None]:
  """Resumes with other widths, which is refused and leaves the config unchanged."""
  run.begin_at_half()
  before = (run.folder / 'config.json').read_bytes()
  run.keys['generator.widths'] = (9,)
  run.arguments = ['--allow_config_change']
  yield
  yield
  del run.keys['generator.widths']
  run.check_refused('')
  if (run.folder / 'config.json').read_bytes() != before:
    raise LostError('config.json has the widths that were refused')


def two_starters(run: Run) -> Generator[None, Process, None]:
  """Starts a second process, which is refused and told about the first."""
  process = yield
  start_second(run, process, f'process {process.pid} of')
  yield


def removed_lock(run: Run) -> Generator[None, Process, None]:
  """Removes the lock file and starts a second process, which is refused all the same."""
  process = yield
  (run.folder / '.lock').unlink(missing_ok=True)
  start_second(run, process, '')
  yield


def read_beside(run: Run) -> Generator[None, Process, None]:
  """Reads the run in another process while it trains."""
  process = yield
  mode = ['sample', 'verify', 'report'][run.random.integers(3)]
  out = {'sample': [f'--out={run.root / "out.png"}'], 'report': [f'--out={run.root / "out.html"}']}
  with stopped(run, process) as in_training:
    if in_training:
      run.end(run.start(f'--mode={mode}', *out.get(mode, [])))
  yield


def clock_jumps(run: Run) -> Generator[None, Process, None]:
  """Makes the clock jump back and forth by an hour, and kills the run."""
  run.first.append(let_the_clock_jump)
  process = yield
  run.kill(process, signal.SIGKILL)
  yield


def vanished_data(run: Run) -> Generator[None, Process, None]:
  """Removes the folder of images for one start, which is refused."""
  source = run.root / 'images'
  shutil.copytree(run.shared / 'images', source)
  run.keys['data.source'] = f'folder:{source}'
  run.finish(f'--config.train.num_steps={STEPS // 2}')
  source.rename(run.root / 'away')
  yield
  yield
  run.check_refused(str(source))
  (run.root / 'away').rename(source)


def corrupt_cache(run: Run) -> Generator[None, Process, None]:
  """Damages every file in the cache, or replaces the cache by a file."""
  for path in sorted(run.cache.rglob('*')):
    if path.is_file():
      damage(path, run.random)
  if run.random.integers(2):
    shutil.rmtree(run.cache)
    run.cache.touch()
  yield
  yield


def stalled_output(run: Run) -> Generator[None, Process, None]:
  """Prints to a pipe of 4096 bytes that nobody reads."""
  reader, writer = os.pipe()
  fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
  fill = os.fdopen(os.dup(writer), 'wb', buffering=0)
  fill.write(b'.' * 3000 + b'\n')  # so that a few lines fill it
  fill.close()
  run.outputs[1] = writer
  try:
    yield
    os.close(writer)
    yield
    os.set_blocking(reader, False)
    run.out = os.read(reader, 4096).decode(errors='replace')
  finally:
    os.close(reader)


def full_output(run: Run) -> Generator[None, Process, None]:
  """Prints to a full disk: standard output, standard error or both."""
  with open('/dev/full', 'w') as device:
    for number in ((1,), (2,), (1, 2))[run.random.integers(3)]:
      run.outputs[number] = device.fileno()
    yield
    yield


def closed_output(run: Run) -> Generator[None, Process, None]:
  """Closes standard output, standard error or both before the start."""
  for number in ((1,), (2,), (1, 2))[run.random.integers(3)]:
    run.outputs[number] = None
  yield
  yield


def vanished_output(run: Run) -> Generator[None, Process, None]:
  """Closes the terminal on which the run prints, which also sends SIGHUP."""
  master, slave = pty.openpty()
  os.set_blocking(master, False)
  run.outputs |= {1: slave, 2: slave}
  run.terminal = master
  run.first += [lambda: os.close(master), take_the_terminal]
  yield
  run.terminal = None
  run.expect(signal.SIGHUP)
  os.close(slave)
  os.close(master)
  yield


def unreadable(run: Run) -> Generator[None, Process, None]:
  """Removes the permissions of a folder of the run, or the folder itself, for part of the training."""
  run.first.append(heed_modes)
  run.excused |= {'rows', 'pictures'}
  process = yield
  folder = (run.folder / 'checkpoints', run.folder / 'samples', run.cache)[run.random.integers(3)]
  begin, is_renamed, away = run.rows(), bool(run.random.integers(2)), run.root / 'away'
  with contextlib.suppress(FileNotFoundError):
    folder.rename(away) if is_renamed else folder.chmod(0)
  end = time.monotonic() + run.random.uniform(0.2, 4)
  run.wait_for(process, lambda: run.rows() >= begin + 2 * SAVE_EVERY or time.monotonic() > end)
  if away.exists():
    process.send_signal(signal.SIGSTOP)
    if folder.exists():  # It was created again; keep what is new in it.
      for path in folder.iterdir():
        if not (away / path.name).exists():
          path.rename(away / path.name)
      shutil.rmtree(folder)
    away.rename(folder)
    process.send_signal(signal.SIGCONT)
  elif folder.exists():
    folder.chmod(0o755)
  yield


def unreadable_at_the_start(run: Run) -> Generator[None, Process, None]:
  """Starts with unreadable checkpoints, which is refused and moves none."""
  run.begin_at_half()
  run.first.append(heed_modes)
  folder = run.folder / ('checkpoints', f'checkpoints/{STEPS // 2}')[run.random.integers(2)]
  folder.chmod(0)
  yield
  yield
  folder.chmod(0o755)


def wide_numbers(run: Run) -> Generator[None, Process, None]:
  """Starts with JAX_ENABLE_X64, which is refused or works, but moves no checkpoint."""
  run.begin_at_half()
  run.environment['JAX_ENABLE_X64'] = '1'
  yield
  yield


def few_files(run: Run) -> Generator[None, Process, None]:
  """Limits the number of open files."""
  run.begin_at_half()
  most = int(run.random.integers(12, 60))
  run.first.append(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
  yield
  yield


def little_memory(run: Run) -> Generator[None, Process, None]:
  """Limits memory to a little more than that of the libraries."""
  run.begin_at_half()
  run.excused.add('traceback')  # XLA aborts if it cannot start a thread, and nothing can explain why.
  run.statuses |= {-signal.SIGABRT, -signal.SIGSEGV, 127}  # 127: the dynamic linker's, for a thread's data
  more = int(2 ** run.random.uniform(26, 31))

  def limit() -> None:
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))

  run.first.append(limit)
  yield
  yield


def renamed_workdir(run: Run) -> Generator[None, Process, None]:
  """Renames the workdir in mid-run, which ends the run with one line; then renames it back."""
  process = yield
  run.excused |= {'rows', 'pictures'}
  away = run.root / 'elsewhere'
  with stopped(run, process) as in_training:
    if in_training and not run.is_trained():
      run.folder.rename(away)
  yield
  if away.exists():
    check_not_made_again(run)
    away.rename(run.folder)


def removed_workdir(run: Run) -> Generator[None, Process, None]:
  """Removes the workdir in mid-run, which ends the run with one line."""
  process = yield
  with stopped(run, process) as in_training:
    is_removed = in_training and not run.is_trained()
    if is_removed:
      run.excused |= {'rows', 'pictures', 'saved'}
      shutil.rmtree(run.folder)
  yield
  if is_removed:
    check_not_made_again(run)


def check_not_made_again(run: Run) -> None:
  """Checks that the run has not created another workdir, and has reported that its own is gone."""
  if run.folder.exists():
    raise LostError(f'status {run.status}; a workdir was made again: {sorted(os.listdir(run.folder))}')
  run.check_refused('workdir')


def let_the_clock_jump() -> None:
  """Makes the clock of this process jump by an hour, back and forth, every second."""
  now = time.time
  time.time = lambda: now() + 3600 * (int(now()) % 3 - 1)


def heed_modes() -> None:
  """Drops the capabilities of root that override file modes."""
  header = (ctypes.c_uint32 * 2)(0x20080522, 0)
  data, libc = (ctypes.c_uint32 * 6)(), ctypes.CDLL(None, use_errno=True)
  libc.capget(header, data)
  for i in range(3):  # effective, permitted, inheritable
    data[i] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
  if libc.capset(header, data):
    raise OSError(ctypes.get_errno(), 'capset')


def take_the_terminal() -> None:
  """Starts a session with standard output as its controlling terminal."""
  os.setsid()
  fcntl.ioctl(1, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def stopped(run: Run, process: Process) -> Iterator[bool]:
  """Suspends a process during the block; yields whether it holds the lock of the workdir."""
  own = run.outputs, run.first, run.environment
  process.send_signal(signal.SIGSTOP)
  run.outputs, run.first, run.environment = {}, [], {}
  try:
    yield process.poll() is None and f' {process.pid} ' in Path('/proc/locks').read_text()
  finally:
    run.outputs, run.first, run.environment = own
    process.send_signal(signal.SIGCONT)


def start_second(run: Run, process: Process, saying: str) -> None:
  """Starts a second process, which must be refused while the first trains."""
  with stopped(run, process) as in_training:
    if in_training:
      run.refuse(saying=saying)


def damage(path: Path, random: np.random.Generator) -> None:
  """Truncates, empties or removes a file, or flips a bit of it."""
  ways: list[Callable[[], Any]] = [
    lambda: os.truncate(path, path.stat().st_size // 2),
    lambda: os.truncate(path, 0),
    path.unlink,
    lambda: flip(path, random),
  ]
  ways[random.integers(len(ways))]()


def flip(path: Path, random: np.random.Generator) -> None:
  """Flips a bit of a file, unless it is empty."""
  content = bytearray(path.read_bytes())
  if content:
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


@contextlib.contextmanager
def mounted(run: Run, options: str, *device: str) -> Iterator[None]:
  """Mounts a disk as the workdir, and finally replaces it by a copy."""
  run.folder.mkdir()
  subprocess.run(['mount', *(device or ['-t', 'tmpfs', 'tmpfs']), '-o', options, run.folder], check=True)
  try:
    yield
    copy = run.root / 'copy'
    shutil.copytree(run.folder, copy)
  finally:
    subprocess.run(['umount', run.folder], check=True)
  run.folder.rmdir()
  copy.rename(run.folder)


@contextlib.contextmanager
def throttled(run: Run, bytes_per_second: int) -> Iterator[None]:
  """Mounts a disk as the workdir with a write limit for this process and its children."""
  image, group = run.root / 'disk', Path(f'/sys/fs/cgroup/blkio/dcgan_jax_faults_{os.getpid()}')
  with image.open('wb') as file:
    file.truncate(2**28)
  subprocess.run(['mkfs.ext2', '-q', '-F', image], check=True)
  loop = subprocess.check_output(['losetup', '--find', '--show', image], text=True).strip()
  number = Path('/sys/block', Path(loop).name, 'dev').read_text().strip()
  group.mkdir(exist_ok=True)
  (group / 'blkio.throttle.write_bps_device').write_text(f'{number} {bytes_per_second}')
  (group / 'cgroup.procs').write_text(str(os.getpid()))
  try:
    # Only a process's own writes are throttled, so nothing may be left to kernel threads.
    with mounted(run, 'sync', loop):
      yield
      (group.parent / 'cgroup.procs').write_text(str(os.getpid()))
  finally:
    (group.parent / 'cgroup.procs').write_text(str(os.getpid()))
    subprocess.run(['losetup', '-d', loop], check=True)
    group.rmdir()


def make_images(folder: Path) -> None:
  """Writes images for `vanished_data`."""
  folder.mkdir(parents=True)
  random = np.random.default_rng(0)
  for i in range(64):
    Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f'{i}.png')


# For each fault, its number of runs in a full campaign, and the resources that it uses: faults that share one
# are not combined, nor are those with '*'. They prepare a run in this order.
FAULTS: dict[Fault, tuple[int, set[str]]] = {
  full: (10, {'workdir', 'disk'}),
  slow: (5, {'*'}),
  read_only: (4, {'*'}),
  damaged: (40, {'checkpoints'}),
  bit_flipped: (10, {'checkpoints'}),
  unreadable_at_the_start: (6, {'checkpoints'}),
  networks_that_do_not_fit: (4, {'config'}),
  another_config: (4, {'config'}),
  half_a_line: (8, {'metrics'}),
  wide_numbers: (2, set()),
  few_files: (10, {'limits'}),
  little_memory: (10, {'limits'}),
  vanished_data: (3, {'*'}),
  corrupt_cache: (10, {'cache'}),
  killed: (60, set()),
  killed_in_a_save: (20, set()),
  killed_at_the_gif: (6, {'*'}),
  killed_in_preparation: (4, {'*'}),
  terminated: (15, set()),
  hung_up: (10, set()),
  told_by_the_cluster: (10, set()),
  interrupted_twice: (8, set()),
  two_starters: (5, {'lock'}),
  removed_lock: (5, {'lock'}),
  read_beside: (9, set()),
  clock_jumps: (5, set()),
  stalled_output: (6, {'output'}),
  full_output: (9, {'output'}),
  closed_output: (9, {'output'}),
  vanished_output: (6, {'output'}),
  unreadable: (15, {'checkpoints', 'cache', 'workdir'}),
  renamed_workdir: (6, {'workdir'}),
  removed_workdir: (6, {'workdir'}),
}
NEED_ROOT = (full, slow, read_only)
IN_TRAINING = (full, two_starters, removed_lock, read_beside, unreadable, renamed_workdir, removed_workdir)


def draw_pair(random: np.random.Generator, choices: Sequence[Fault]) -> list[Fault]:
  """Returns two faults that can be combined."""
  while True:
    pair = sorted(random.choice(len(choices), 2, replace=False))
    first, second = (choices[i] for i in pair)
    things = FAULTS[first][1], FAULTS[second][1]
    if not things[0] & things[1] and '*' not in things[0] | things[1]:
      return [first, second]


def draw_moment(run: Run, fault: Fault) -> tuple[int, float]:
  """Returns a moment: the number of rows of metrics written, -1 for not even a config, and extra seconds."""
  least = 1 if fault in IN_TRAINING else -1
  return int(run.random.integers(least, STEPS // LOG_EVERY)), float(run.random.uniform(0, 0.1))


def suffer(faults: Sequence[Fault], run: Run) -> str:
  """Injects faults into a run and finishes it; returns what was lost, '' for nothing."""
  run.alone = len(faults) == 1
  suffered = [fault(run) for fault in faults]
  try:
    for fault in suffered:
      next(fault)
    run.begin = run.rows()
    process = run.start(*run.arguments)
    moments = sorted((draw_moment(run, fault), i) for i, fault in enumerate(faults))
    for (rows, seconds), i in moments:
      run.wait_for(process, functools.partial(run.has_come_to, rows))
      process.wait(seconds)
      suffered[i].send(process)
    run.end(process)
    for fault in reversed(suffered):
      next(fault, None)
    run.check_what_was_said()
    run.disarm()
    run.finish()
    if run.alone and 'damaged' not in run.excused:
      run.check_what_was_said()
  except (LostError, subprocess.SubprocessError, OSError, ValueError) as error:
    return f'{type(error).__name__}: {error}'
  finally:
    for process in run.processes:
      process.send_signal(signal.SIGKILL)
      process.wait(SECONDS)
    for fault in reversed(suffered):
      fault.close()
  return ''


def last_state(folder: Path) -> Any:
  """Returns the state of the last step of a run."""
  from dcgan_jax.records import checkpoints, workdir
  from dcgan_jax.runs import experiment

  create = experiment.build(workdir.read_settings(folder)).initial_state
  return checkpoints.restore(folder / 'checkpoints', STEPS, create)


def is_equal(a: Any, b: Any, exact: bool = True) -> bool:
  """Returns whether two states are bit-equal or, if not `exact`, equal up to rounding."""
  import jax

  pairs = [
    (np.asarray(x), np.asarray(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  ]
  if not exact:
    return all(np.allclose(x, y, rtol=0, atol=1e-4) for x, y in pairs)
  return all(x.tobytes() == y.tobytes() for x, y in pairs)


def judge(problem: str, folder: Path, undisturbed: Any, exact: bool = True) -> str:
  """Returns what was lost: `problem`, or that the last states differ; '' for nothing."""
  try:
    return problem or ('' if is_equal(last_state(folder), undisturbed, exact) else 'the last states differ')
  except (OSError, ValueError) as error:
    return f'the last state: {error}'


def prepare(shared: Path, usual: dict[str, str]) -> tuple[float, float]:
  """Trains the initial and reference runs; returns the duration of a start, and its MiB."""
  make_images(shared / 'images')
  images = {'data.source': f'folder:{shared / "images"}'}
  for name, keys in (
    ('first', {}),
    ('digits', {}),
    ('half', {'train.num_steps': STEPS // 2}),
    ('images', images),
  ):
    run = Run(shared / f'of {name}', np.random.default_rng(0), shared, usual, 300, keys)
    run.finish()
    if name == 'first':  # It has compiled everything that the others need.
      run.cache.rename(shared / 'cache')
    elif name == 'digits':
      duration, peak = run.processes[-1].age, run.peak
    run.folder.rename(shared / f'{name} run')
  (shared / 'half run').rename(shared / 'half')
  return duration, peak


@dataclass(frozen=True)
class Task:
  """A run with some faults, given by their positions in FAULTS."""

  faults: tuple[int, ...]
  seed: tuple[int, ...]
  root: Path
  shared: Path
  usual: dict[str, str]
  duration: float
  shows: bool = False  # whether to show the output of the processes


def do(task: Task) -> tuple[Task, str, float]:
  """Runs a task; returns it, what was lost and the peak MiB of a process."""
  gc.set_threshold(200_000, 50, 50)  # Children need not scan the millions of objects of the libraries.
  gc.freeze()
  random = np.random.default_rng(task.seed)
  run = Run(task.root, random, task.shared, task.usual, task.duration)
  problem = suffer([list(FAULTS)[i] for i in task.faults], run)
  for process in run.processes if task.shows else ():
    print(f'--- {process.pid} ended with {process.status}', *process.said(), sep='\n', flush=True)
  return task, problem, run.peak


def main() -> int:
  """Runs the campaign and prints its table; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--share', type=float, default=1.0, help='of the counts of a whole campaign')
  parser.add_argument('--faults', default='', help='with commas; all if it is not given')
  parser.add_argument('--pairs', type=int, default=0, help='how many pairs of faults, instead of each alone')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--index', type=int, help='of the one pair, or the one time of each fault, to be tried')
  parser.add_argument('--jobs', type=int, default=2, help='how many runs at once')
  arguments = parser.parse_args()
  names = arguments.faults.split(',') if arguments.faults else [fault.__name__ for fault in FAULTS]
  chosen = [f for f in FAULTS if f.__name__ in names and (os.getuid() == 0 or f not in NEED_ROOT)]
  places, one = {fault: i for i, fault in enumerate(FAULTS)}, arguments.index
  plan: list[tuple[list[Fault], int]] = []  # faults of each run, and its number among runs of the same faults
  if arguments.pairs:
    numbers = range(arguments.pairs) if one is None else [one]
    plan = [(draw_pair(np.random.default_rng([arguments.seed, i]), chosen), i) for i in numbers]
  for fault in [] if arguments.pairs else chosen:
    times = range(max(1, round(FAULTS[fault][0] * arguments.share)))
    plan += [([fault], i) for i in (times if one is None else [one])]
  with tempfile.TemporaryDirectory(prefix='faults') as top, forks.SERVER.Pool(arguments.jobs) as pool:
    shared, usual = Path(top) / 'shared', dict(os.environ)
    duration, usual_peak = pool.apply(prepare, (shared, usual))
    undisturbed = {name: last_state(shared / f'{name} run') for name in ('digits', 'images')}
    tasks = [
      Task(
        tuple(places[fault] for fault in faults),
        (arguments.seed, i),
        Path(top, str(n)),
        shared,
        usual,
        duration,
        one is not None,
      )
      for n, (faults, i) in enumerate(plan)
    ]
    print(f'a start takes {duration:.1f} s and {usual_peak:.0f} MiB')
    print('| fault | times | bit-equal afterwards | at most MiB |\n|---|---|---|---|', flush=True)
    lost = 0
    for _, together in itertools.groupby(
      pool.imap(do, tasks), lambda done: arguments.pairs or done[0].faults
    ):
      lines: dict[str, list[tuple[bool, float]]] = {}
      for task, problem, peak in together:
        names = [list(FAULTS)[i].__name__ for i in task.faults]
        state = undisturbed['images' if vanished_data.__name__ in names else 'digits']
        # Optax rounds differently with x64 enabled.
        exact = wide_numbers.__name__ not in names
        problem = judge(problem, task.root / 'run', state, exact)
        shutil.rmtree(task.root)
        for name in names:
          lines.setdefault(name, []).append((not problem, peak))
        if problem:
          lost += 1
          how = f'--pairs={arguments.pairs}' if arguments.pairs else f'--faults={names[0]}'
          print(
            f'LOST: {how} --seed={task.seed[0]} --index={task.seed[1]}, {" and ".join(names)}: {problem}',
            file=sys.stderr,
            flush=True,
          )
      for name, ends in lines.items():
        good, peaks = zip(*ends, strict=True)
        print(
          f'| {name.replace("_", " ")} | {len(ends)} | {sum(good)} of {len(ends)} | {max(peaks):.0f} |',
          flush=True,
        )
    pool.close()
    pool.join()
  return int(lost > 0)


if __name__ == '__main__':
  sys.exit(main())
