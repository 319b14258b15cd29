"""Requests to stop: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1, handled so that a run can save first."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

STOPS = (signal.SIGINT, signal.SIGTERM)
# A lost connection, and what SLURM and others send ahead of the end; Windows has neither.
NOTICES = [getattr(signal, name) for name in ('SIGHUP', 'SIGUSR1') if hasattr(signal, name)]


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
  """Yields a function that returns the signal that has arrived, if one has.

  A second Ctrl-C or SIGTERM then acts as usual. SIGHUP and SIGUSR1, which come in pairs or ahead of SIGTERM,
  never do; a process that ignores one of them, as under nohup, continues to ignore it.

  With several processes a request counts when it has reached any of them, and all see it at the same call of
  the function. So each process must call it equally often.
  """
  if jax.process_count() > 1:
    # JAX's runtime has its own handler for SIGTERM, by which the processes agree.
    with _handled((signal.SIGINT, *_heeded()), lambda *_: os.kill(os.getpid(), signal.SIGTERM)):
      calls = itertools.count(1)
      reached = multihost_utils.reached_preemption_sync_point
      yield lambda: signal.SIGTERM if reached(next(calls)) else None
  elif threading.current_thread() is not threading.main_thread():
    yield lambda: None  # Python delivers signals to the main thread only.
  else:
    caught: list[signal.Signals] = []

    def note(number: int, _: Any) -> None:
      caught.append(signal.Signals(number))
      if number in STOPS:
        again.close()

    with _handled(_heeded(), note), contextlib.ExitStack() as again:
      again.enter_context(_handled(STOPS, note))
      yield lambda: caught[0] if caught else None


def _heeded() -> list[signal.Signals]:
  """Returns the notices that this process does not ignore."""
  return [number for number in NOTICES if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Callable[[int, Any], None]) -> Iterator[None]:
  """Handles signals during the block, and restores the previous handlers."""
  previous = {number: signal.signal(number, handler) for number in numbers}
  try:
    yield
  finally:
    for number, before in previous.items():
      signal.signal(number, before)
