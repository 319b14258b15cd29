"""Termination of the process: on Ctrl-C, at the end of its work and after a bug."""

import gc
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from dcgan_jax.command_line import output

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
      os._exit(130)
    frame = frame.f_back
  raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
  """Exits without waiting for Orbax's threads, which may wait an hour for a failed save.

  After a bug, other threads get `LONGEST_END` seconds to finish.
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
  if any(type(thread).__module__.startswith('orbax') for thread in threading.enumerate()):
    output.drain()
    os._exit(status)
  if status == BUG:
    last = threading.Timer(LONGEST_END, os._exit, [status])
    last.daemon = True
    last.start()
  sys.exit(status)
