"""Time: a clock for the metrics, and a tracer for profilers."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

# What the main thread spends time on.
PARTS = ('compilation', 'device', 'input', 'pictures', 'scores', 'saves')


class Clock:
  """Measures the time between two rows of metrics, and what the main thread spends it on."""

  def __init__(self, step: int):
    self.restart(step)

  def restart(self, step: int) -> None:
    """Starts a new interval at a step."""
    self._step, self._start = step, time.perf_counter()
    self._spent = dict.fromkeys(PARTS, 0.0)
    self._idle = 0.0

  @contextlib.contextmanager
  def spent(self, part: str) -> Iterator[None]:
    """Counts the time of the block as one of `PARTS`."""
    start = time.perf_counter()
    yield
    self._spent[part] += time.perf_counter() - start

  @contextlib.contextmanager
  def waiting(self, values: Any) -> Iterator[None]:
    """Counts the time of the block as input, and as idle if the devices finished `values` first."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    self._spent['input'] += seconds
    if all(value.is_ready() for value in jax.tree.leaves(values)):
      self._idle += seconds

  def lap(self, step: int, images_per_step: int) -> dict[str, float]:
    """Ends the interval at a step and starts the next one.

    Returns:
      `images_per_second`, not counting compilation and scores; `input_wait`, the share of time that devices
      were idle for lack of input; `time/PART` in seconds for each of `PARTS`; `time/other` for the rest.
    """
    seconds = time.perf_counter() - self._start
    training = seconds - self._spent['compilation'] - self._spent['scores']
    rate = (step - self._step) * images_per_step / training
    row = {'images_per_second': round(rate, 2), 'input_wait': round(self._idle / seconds, 5)}
    row |= {f'time/{part}': round(self._spent[part], 5) for part in PARTS}
    row['time/other'] = round(max(0.0, seconds - sum(self._spent.values())), 5)
    self.restart(step)
    return row


class Tracer:
  """Traces ten steps for a profiler, after the first ten, which compile."""

  def __init__(self, folder: Path, start: int):
    self._folder, self._first, self._running, self._done = folder, start + 10, False, False

  def step(self, step: int, state: Any) -> None:
    """Starts or ends the trace; call it after each round, with its last step and the new state."""
    if self._done or step < self._first:
      return
    if not self._running:
      jax.block_until_ready(state)
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # It slows the steps, and threads that end meanwhile can crash it.
      jax.profiler.start_trace(str(self._folder), profiler_options=options)
      self._running, self._first = True, step
    elif step >= self._first + 10:
      jax.block_until_ready(state)
      self.close(step)

  def close(self, step: int) -> None:
    """Ends the trace if it is running, or says why there is none."""
    if self._running:
      jax.profiler.stop_trace()
      self._running, self._done = False, True
      print(f'trace of steps {self._first} to {step} in {self._folder}, for TensorBoard or Perfetto')
    elif not self._done:
      print(f'no trace: training ended before step {self._first}, where tracing starts')
