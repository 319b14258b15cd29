"""The output of a run, which no stalled or missing reader holds up."""

import contextlib
import errno
import io
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest
from conftest import ROOT, TINY, environment, start_together

from dcgan_jax.command_line import output
from dcgan_jax.records import checkpoints, metrics

fcntl = pytest.importorskip('fcntl')

CHATTY = [
  *TINY,
  '--config.train.num_steps=120',
  '--config.log.every_steps=1',
  '--config.sample.every_steps=0',
  '--config.checkpoint.every_steps=40',
]
SAVED = [40, 80, 120]


class Refusing(io.RawIOBase):
  """A file that fails on demand."""

  def __init__(self):
    self.error, self.taken = None, b''

  def writable(self):
    return True

  def write(self, data):
    if self.error:
      raise OSError(self.error, os.strerror(self.error))
    self.taken += bytes(data[:3])
    return len(data[:3])


@pytest.fixture
def pipe():
  """The reader of a pipe of 4 KiB, and a `Stream` that writes to it."""
  reader, writer = os.pipe()
  fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
  with open(reader, 'rb', buffering=0) as other, open(writer, 'w') as own:
    stream = output.Stream(own)
    yield other, stream
    with contextlib.suppress(ValueError):
      os.set_blocking(other.fileno(), False)
      while not stream.drain():  # Its thread is done before the files are closed.
        other.read(10_000)


def test_lines_are_written_when_they_are_printed(pipe):
  reader, stream = pipe
  for text in ('one\n', 'two', ' and\nthree', '\n'):
    stream.write(text)
    if '\n' in text:
      assert reader.read(100).decode().endswith('\n')
  stream.write('\rbar')
  stream.flush()
  assert reader.read(100) == b'\rbar'
  assert not stream.isatty() and stream.fileno() != reader.fileno()


def test_nobody_waits_for_a_reader_who_takes_nothing(pipe, monkeypatch):
  """Fills a pipe with a stalled reader; the oldest lines are dropped and counted."""
  monkeypatch.setattr(output, 'PATIENCE', 0.2)
  monkeypatch.setattr(output, 'MOST', 50)
  reader, stream = pipe
  before = time.monotonic()
  for i in range(1000):
    print(f'line {i:04} {"x" * 90}', file=stream, flush=True)
  assert time.monotonic() - before < 5
  assert not stream.drain()
  monkeypatch.setattr(output, 'PATIENCE', 10)
  taken = bytearray()

  def read():
    while b'the end\n' not in taken:
      taken.extend(reader.read(4096))

  thread = threading.Thread(target=read)
  thread.start()
  assert stream.drain()
  print('the end', file=stream)
  thread.join()
  lines = taken.decode().splitlines()
  (at,) = (i for i, line in enumerate(lines) if line.startswith('['))
  missing = 1000 - (len(lines) - 2)
  assert lines[at] == f'[{missing} lines of output are missing here: they could not be written]'
  numbers = [int(line.split()[1]) for line in lines[:at] + lines[at + 1 : -1]]
  assert numbers == [*range(at), *range(950, 1000)]


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EIO, errno.EPIPE])
def test_what_cannot_be_written_is_counted_and_said_when_it_can(number):
  raw = Refusing()
  stream = output.Stream(io.TextIOWrapper(io.BufferedWriter(raw), encoding='ascii'))
  print('first: ü', file=stream)
  raw.error = number
  print('lost', file=stream)
  print('lost, too', file=stream)
  raw.error = None
  print('last', file=stream)
  assert raw.taken.decode().splitlines() == [
    'first: \\xfc',
    '[2 lines of output are missing here: they could not be written]',
    'last',
  ]


def _command(*arguments):
  return [sys.executable, 'main.py', *CHATTY, *arguments]


def _assert_complete(folder):
  assert [row['step'] for row in metrics.read(folder / 'metrics.jsonl')] == [*range(1, 121)]
  assert checkpoints.steps(folder / 'checkpoints') == SAVED
  assert (folder / 'losses.png').exists()


@pytest.mark.slow(15)
@pytest.mark.parametrize(
  'redirection',
  ['>&- 2>&- <&-', '>/dev/full', '2>/dev/full >/dev/full', '| true'],
)
def test_a_run_that_cannot_print_is_complete(tmp_path, redirection):
  shell = f'"$@" {redirection}'
  done = subprocess.run(
    ['bash', '-o', 'pipefail', '-c', shell, 'bash', *_command(f'--workdir={tmp_path}/run')],
    cwd=ROOT,
    env=environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, '')
  _assert_complete(tmp_path / 'run')


@pytest.mark.slow(10)
def test_a_terminal_that_goes_away(tmp_path):
  """Reads the progress bar from a terminal, and then closes the terminal."""
  mine, theirs = pty.openpty()
  termios.tcsetwinsize(mine, (24, 100))
  process = subprocess.Popen(
    _command(f'--workdir={tmp_path}/run'), cwd=ROOT, env=environment(), stdout=theirs, stderr=theirs
  )
  os.close(theirs)
  shown = b''
  while b'/120' not in shown:
    shown += os.read(mine, 1000)
  os.close(mine)
  assert process.wait(timeout=240) == 0
  _assert_complete(tmp_path / 'run')


@pytest.mark.slow(10)
@pytest.mark.parametrize('number', [None, signal.SIGTERM, signal.SIGUSR1])
def test_a_full_pipe_holds_neither_checkpoints_nor_signals(tmp_path, number):
  steps = ['--config.train.num_steps=1000000'] if number else []
  (process,) = start_together([*CHATTY, f'--workdir={tmp_path}/run', *steps], processes=1)
  fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
  deadline = time.monotonic() + 240
  if number:
    folder = tmp_path / 'run' / 'checkpoints'
    while process.returncode is None and max(checkpoints.steps(folder), default=0) < 200:
      assert time.monotonic() < deadline
      time.sleep(0.05)
    process.send_signal(number)
  while process.returncode is None and time.monotonic() < deadline:
    time.sleep(0.05)
  assert process.returncode == (128 + number if number else 0)
  if not number:
    _assert_complete(tmp_path / 'run')
  process.communicate()
