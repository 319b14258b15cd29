"""Requests to stop: Ctrl-C and SIGTERM, noted so that a run can save first."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
  """Yields a function that tells whether Ctrl-C or SIGTERM has come; a second signal then acts as usual.

  In a run of several processes a request counts when it has reached any of them, and all are told at the same
  call of the function. So each process must call it equally often.
  """
  if jax.process_count() > 1:
    # JAX's runtime has its own handler for SIGTERM, by which the processes agree.
    previous = signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    calls = itertools.count(1)
    reached = multihost_utils.reached_preemption_sync_point
    try:
      yield lambda: signal.SIGTERM if reached(next(calls)) else None
    finally:
      signal.signal(signal.SIGINT, previous)
  elif threading.current_thread() is not threading.main_thread():
    yield lambda: None  # Python delivers signals to the main thread only.
  else:
    with _noted_signals() as caught:
      yield lambda: caught[0] if caught else None


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[signal.Signals]]:
  """Yields a list to which the first Ctrl-C or SIGTERM is added, instead of ending the process."""
  caught: list[signal.Signals] = []

  def note(number: int, _: Any) -> None:
    caught.append(signal.Signals(number))
    for name, handler in previous.items():
      signal.signal(name, handler)

  previous = {name: signal.signal(name, note) for name in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield caught
  finally:
    for name, handler in previous.items():
      signal.signal(name, handler)
