"""How a process ends: at Ctrl-C, at the end of its work, and after a bug."""

import gc
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from dcgan_jax.command_line import output

BROKEN_PIPE = 141  # the status of a process that SIGPIPE ends
BUG = 1  # of a traceback
LONGEST_END = 5.0  # seconds that threads and what they hold may take to end after a traceback


def hear_interrupts() -> None:
  """Lets Ctrl-C raise KeyboardInterrupt, or end the process where that would be lost."""
  signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
  """Raises KeyboardInterrupt; ends the process in imports and in callbacks of the garbage collector."""
  deaf = {getattr(callback, '__code__', None) for callback in gc.callbacks}
  while frame is not None:
    if frame.f_code in deaf or frame.f_code.co_filename.startswith('<frozen importlib'):
      os.write(2, b'interrupted\n')
      os._exit(130)
    frame = frame.f_back
  raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
  """Ends the process, also if threads of Orbax wait, maybe for an hour, for a save that has failed.

  After a bug no other thread holds it up for long, either.
  """
  try:
    sys.stdout.flush()
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python still has to write
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
