"""Keeps tracebacks of Orbax's threads and tasks off the terminal, where errors are reported in one line."""

import contextlib
import gc
import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

LOGGERS = ('absl', 'asyncio')
STRAGGLERS = 0.2  # seconds in which tasks end after one of them has failed


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Silences, during the block, the errors that Orbax's threads and tasks print, and nothing else.

  They print through loggers, through Python's hooks for uncaught errors, and as warnings of abandoned tasks.
  """
  levels = {name: logging.getLogger(name).level for name in LOGGERS}
  unraisable, in_thread = sys.unraisablehook, threading.excepthook

  def ignore_unraisable(error: Any) -> None:
    if not _is_known(error.exc_value):
      unraisable(error)

  def ignore_in_thread(error: Any) -> None:
    if not _is_known(error.exc_value):
      in_thread(error)

  for name in LOGGERS:
    logging.getLogger(name).setLevel(logging.CRITICAL)
  sys.unraisablehook, threading.excepthook = ignore_unraisable, ignore_in_thread
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
      yield
  finally:
    sys.unraisablehook, threading.excepthook = unraisable, in_thread
    for name, level in levels.items():
      logging.getLogger(name).setLevel(level)


def settle() -> None:
  """Waits, after a failure, for the remaining tasks, and lets them print their errors."""
  time.sleep(STRAGGLERS)
  gc.collect()


def _is_known(error: BaseException | None) -> bool:
  """Returns whether an error comes from Orbax, or from a task that outlived its event loop.

  An event loop that could not be created, because too many files are open, raises one when it is deleted.
  """
  if error is None:
    return False
  outlived = any(
    words in str(error) for words in ('Event loop is closed', 'was never awaited', "no attribute '_ssock'")
  )
  return outlived or any('orbax' in frame.filename for frame in traceback.extract_tb(error.__traceback__))
