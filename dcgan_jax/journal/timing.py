"""Where the time of a run goes: a clock for the metrics, and a tracer for profilers."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax


class Clock:
  """Measures the time between two rows of metrics, and how much of it was spent waiting for input."""

  def __init__(self, step: int):
    self._restart(step)

  def _restart(self, step: int) -> None:
    self._step, self._start, self._waited = step, time.perf_counter(), 0.0

  @contextlib.contextmanager
  def waiting(self, values: Any) -> Iterator[None]:
    """Counts the time within as waiting for input, unless the devices still work on `values` after it."""
    start = time.perf_counter()
    yield
    if all(value.is_ready() for value in jax.tree.leaves(values)):
      self._waited += time.perf_counter() - start

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves out the time within."""
    start = time.perf_counter()
    yield
    self._start += time.perf_counter() - start

  def lap(self, step: int, batch_size: int) -> dict[str, float]:
    """Returns `images_per_second` since the last lap, and `input_wait`, the share of time spent waiting."""
    seconds = time.perf_counter() - self._start
    rate, wait = (step - self._step) * batch_size / seconds, self._waited / seconds
    self._restart(step)
    return {'images_per_second': round(rate, 2), 'input_wait': round(wait, 5)}


class Tracer:
  """Traces ten steps for a profiler, once the first ten, which compile, are done."""

  def __init__(self, folder: Path, start: int):
    self._folder, self._first, self._running, self._done = folder, start + 10, False, False

  def step(self, step: int, state: Any) -> None:
    """Starts or ends the trace; call it after each program, with the steps done and the new state."""
    if self._done or step < self._first:
      return
    if not self._running:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(self._folder))
      self._running, self._first = True, step
    elif step >= self._first + 10:
      jax.block_until_ready(state)
      self.close(step)

  def close(self, step: int) -> None:
    """Ends the trace, if it has not ended yet, or says why there is none."""
    if self._running:
      jax.profiler.stop_trace()
      self._running, self._done = False, True
      print(f'trace of steps {self._first} to {step} in {self._folder}, for TensorBoard or Perfetto')
    elif not self._done:
      print(f'no trace: it takes more than ten steps, to {self._first} at least')
