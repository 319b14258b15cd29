"""Termination of the process: on Ctrl-C, at the end of its work and after a bug."""

import gc
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from dcgan_jax.command_line import output

INTERRUPTED = 130  # exit status after Ctrl-C
BROKEN_PIPE = 141  # exit status of a process killed by SIGPIPE
BUG = 1  # exit status after a traceback
LONGEST_END = 5.0  # seconds until the process is killed after a traceback


def hear_interrupts() -> None:
  """Installs `interrupt` as the handler of Ctrl-C."""
  signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
  """Raises KeyboardInterrupt, or exits in imports and garbage-collector callbacks, which would swallow it."""
  deaf = {getattr(callback, '__code__', None) for callback in gc.callbacks}
  while frame is not None:
    if frame.f_code in deaf or frame.f_code.co_filename.startswith('<frozen importlib'):
      os.write(2, b'interrupted\n')
      os._exit(INTERRUPTED)
    frame = frame.f_back
  raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
  """Exits the process.

  It exits at once after Ctrl-C, and where threads of Orbax may wait an hour for a failed save: the
  interpreter's own exit waits for threads, and crashes if one of XLA is still at work. After a bug, threads
  get `LONGEST_END` seconds to finish.
  """
  try:
    sys.stdout.flush()
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards what Python has yet to flush
    if isinstance(error, BrokenPipeError):
      status = BROKEN_PIPE
    elif status == 0:
      print(f'error: standard output: cannot be written: {error.strerror}', file=sys.stderr)
      status = 2
  saves = any(type(thread).__module__.startswith('orbax') for thread in threading.enumerate())
  if status == INTERRUPTED or saves:
    _end(status)
  if status == BUG:
    last = threading.Timer(LONGEST_END, _end, [status])
    last.daemon = True
    last.start()
  sys.exit(status)


def _end(status: int) -> NoReturn:
  """Exits now, with the worker processes, after what was printed is written."""
  import multiprocessing

  for worker in multiprocessing.active_children():
    worker.terminate()
  output.drain()
  os._exit(status)
