"""Keeps the tracebacks of Orbax's threads and tasks from the terminal: what is wrong is said in one line."""

import contextlib
import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

LOGGERS = ('absl', 'asyncio')
STRAGGLERS = 0.2  # seconds that tasks take to end after one of them has failed


def silence() -> None:
  """Silences the loggers for good, as a run does whose checkpoints are written in the background."""
  for name in LOGGERS:
    logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def quietly() -> Iterator[Callable[[], None]]:
  """Silences loggers, warnings and unraisable errors during the block.

  Yields:
    A function to call after a failure, which waits for the tasks that are left and lets them complain.
  """
  levels = {name: logging.getLogger(name).level for name in LOGGERS}
  hook = sys.unraisablehook
  silence()
  sys.unraisablehook = _nothing
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield _settle
  finally:
    sys.unraisablehook = hook
    for name, level in levels.items():
      logging.getLogger(name).setLevel(level)


def _settle() -> None:
  time.sleep(STRAGGLERS)
  gc.collect()


def _nothing(unraisable: Any) -> None:
  pass
