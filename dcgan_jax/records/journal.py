"""The record of a run in training: it logs, draws, scores and saves when each is due."""

import concurrent.futures
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import processes
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import checkpoints, collapse, metrics, workdir
from dcgan_jax.records.checkpoints import stamp
from dcgan_jax.records.schedule import Due, Schedule
from dcgan_jax.records.timing import Clock, Tracer
from dcgan_jax.records.writer import PendingGrid, Writer
from dcgan_jax.settings import Settings
from dcgan_jax.threads import Background

Draw = Callable[[GanState], PendingGrid]  # starts to draw samples on the devices
MOST_SAVES = 2  # copies of the state, one of which is being written, before training waits for the disk


class Score(Protocol):
  """The function from a state to the scores of its generator."""

  @property
  def protocol(self) -> str:
    """How scores are taken; only scores of the same protocol can be compared."""

  def __call__(self, state: GanState) -> dict[str, float]:
    """Returns the scores by name."""


class _Copy(NamedTuple):
  """A state to be saved, and the checksums of its arrays; None to compute these when it is saved."""

  state: GanState
  sums: dict[str, Array] | None


@dataclass(frozen=True)
class _Round:
  """A round in flight, and what to write when the devices are done.

  Attributes:
    step: Last step of the round.
    due: What is due after it.
    sums: Sums of the metrics over its steps.
    last: Metrics of its last step.
    finite: Whether all numbers of the state are finite; None if not asked.
    grid: Samples, if a grid is due.
    copied: A copy of the state, if it is to be saved.
  """

  step: int
  due: Due
  sums: metrics.Values
  last: metrics.Values
  finite: Array | None = None
  grid: PendingGrid | None = None
  copied: _Copy | None = None


class Journal:
  """Keeps the record of a run. Each process has one, and that of process 0 writes.

  Attributes:
    clock: Measures the speed in the metrics.
    healthy: Whether all numbers of the state were finite at the last look.
    collapse: Sign of collapse for which the run must stop, in words; '' for none.
  """

  def __init__(
    self,
    folder: Path,
    settings: Settings,
    schedule: Schedule,
    draw: Draw,
    score: Score | None,
    distance: str,
    charts: plots.Charts,
    profile: bool = False,
  ):
    """Opens the files of a run, dropping rows after the first step.

    Args:
      folder: The workdir.
      settings: The run's settings.
      schedule: What is due, and when.
      draw: Draws samples of a state.
      score: Scores the generator of a state; None if scores are never due.
      distance: Name of the score that ranks checkpoints, the lower the better.
      charts: Charts of the scores, which the log and scores.png show.
      profile: Whether to trace some steps for a profiler.

    Raises:
      InputError: Nothing can be saved there.
    """
    self.clock, self.healthy, self.collapse = Clock(schedule.start), True, ''
    self._folder, self._settings, self._schedule = folder, settings, schedule
    self._draw, self._score, self._distance, self._charts = draw, score, distance, charts
    self._in_flight: deque[_Round] = deque()
    self._sums: list[metrics.Values] = []  # of the rounds since the last row
    self._step = self._logged = schedule.start
    self._place = workdir.Place(folder)
    self._writer: Writer | None = None
    # First, because the writer drops the rows after the first step, and a save may turn out to be impossible.
    self._saver = checkpoints.Saver(
      folder / 'checkpoints', settings.checkpoint.keep, self.say, schedule.start
    )
    if processes.is_main():
      self._writer = Writer(self._place, settings, schedule, distance, charts)
    self._saves = Background('saver', MOST_SAVES)
    scored = checkpoints.best(folder / 'checkpoints', self._protocol)
    self._least = scored[0][1].distance if scored else math.inf  # the best score so far
    traces = profile and processes.is_main()
    self._tracer = Tracer(folder / 'profile', schedule.start) if traces else None

  def begin(self, state: GanState) -> None:
    """Compiles the functions that take states, draws a new run's first grid, and starts the clock."""
    _is_finite(state)
    if jax.process_count() == 1:
      _copy(state)
    if self._writer and self._schedule.draw_every:
      grid = self._draw(state)
      if self._schedule.start == 0:
        self._writer.grid(0, grid)
    self.clock.restart(self._schedule.start)

  def record(self, state: GanState, step: int, sums: metrics.Values, last: metrics.Values) -> None:
    """Notes a round in flight, and starts on the devices what is due after it; `wait` writes it.

    Args:
      state: The new state; the next round may take over its buffers.
      step: Last step of the round.
      sums: Sums of the metrics over its steps.
      last: Metrics of the last step.
    """
    if self._tracer:
      self._tracer.step(step, state)
    due = self._schedule.due(step)
    with self.clock.spent('pictures'):
      grid = self._draw(state) if self._writer and due.draw else None
    with self.clock.spent('saves'):
      # Several processes save together, and at once; one saves beside training, after the scores.
      copied = _copy(state) if due.save and not due.score and jax.process_count() == 1 else None
    finite = _is_finite(state) if due.log or due.score or due.save else None
    self._in_flight.append(_Round(step, due, sums, last, finite, grid, copied))
    if due.score or (due.save and copied is None):
      self.wait(0)
      if due.score and self.healthy:
        self._score_now(step, state, due.save)
      elif self.healthy:
        with self.clock.spent('saves'):
          self._save(_Copy(state, None))

  def wait(self, most: int) -> None:
    """Blocks until at most `most` rounds are in flight, and writes what is due after the others."""
    while len(self._in_flight) > most and self.healthy:
      done = self._in_flight.popleft()
      with self.clock.spent('device'):
        jax.block_until_ready((done.last, done.finite))
      self._step = done.step
      self._sums.append(done.sums)
      self.healthy = done.finite is None or bool(done.finite)
      if self.healthy:  # Otherwise nothing of it is written.
        self._write(done)

  def _write(self, done: _Round) -> None:
    """Writes what is due after a round that is done."""
    step, due = done.step, done.due
    if due.log:
      speed = self.clock.lap(step, self._settings.train.images_per_step)
      if self._writer:
        steps = step - self._logged
        self._writer.progress(step, done.last, self._sums, steps, speed, self._saver.standing)
      self._sums, self._logged = [], step
    if self._writer:
      self._writer.advance(step)
      with self.clock.spent('pictures'):
        if done.grid:
          self._writer.grid(step, done.grid)
    with self.clock.spent('saves'):
      if done.copied is not None:
        self._save(done.copied)
    if due.log and not due.score:
      self._heed_collapse()

  def _score_now(self, step: int, state: GanState, saves: bool) -> None:
    """Scores the generator, and saves the state if that is due or if it is the best so far."""
    if self._score is None:
      return
    with self.clock.spent('scores'):
      row = self._score(state)
    if self._writer:
      self._writer.scores(step, row | {'protocol': self._protocol})
    distance = row[self._distance]
    with self.clock.spent('saves'):
      if saves or bool(processes.agreed(distance < self._least)):
        copied = _copy(state) if jax.process_count() == 1 else _Copy(state, None)
        self._save(copied, checkpoints.Score(distance, self._protocol))
    self._least = min(self._least, distance)
    self._heed_collapse()

  def _save(self, copied: _Copy, score: checkpoints.Score | None = None) -> None:
    """Saves a state beside training; several processes save together, at once.

    A checkpoint is not begun before all rows and pictures given to the writer are on disk, so that a run
    resumed from it has them.

    Raises:
      InputError: The workdir is gone.
    """
    self._place.check()
    written = self._writer.background.last if self._writer else None

    def save() -> None:
      if written:
        concurrent.futures.wait([written])
      self._saver.save(copied.state, score, copied.sums)
      if jax.process_count() == 1:
        self._saver.settle()

    if jax.process_count() == 1:
      self._saves.do(save)
    else:
      save()

  def _heed_collapse(self) -> None:
    """Looks for a sign of collapse, if the run must stop for one and no row has had one yet."""
    stops = self._settings.train.on_collapse != 'continue'
    if stops and not self.collapse:  # Rows of later rounds may no longer show the sign.
      sign = ''
      if self._writer:
        self._writer.background.drain()
        sign = collapse.grave(self._writer.signs)
      if processes.agreed(bool(sign)):
        self.collapse = sign or 'another process has found a sign of collapse'

  @property
  def _protocol(self) -> str:
    """How the scores are taken."""
    return self._score.protocol if self._score else ''

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    if self._writer:
      self._writer.say(line)
    elif processes.is_main():
      print(line, flush=True)

  def finish(self, state: GanState) -> None:
    """Saves the last step, unless it is saved already or not finite, and waits until it is on disk.

    Raises:
      InputError: The workdir is gone.
    """
    self.wait(0)
    self._saves.drain()
    self._saver.settle()
    if self.healthy and self._saver.saved != self._step:
      self.healthy = bool(_is_finite(state))
      if self.healthy:
        self._save(_Copy(state, None))
        self._saves.drain()
        self._saver.settle()
    self._place.check()

  @property
  def unsaved(self) -> str:
    """Why the last state is not on disk, and what to do about it; '' if it is."""
    if not self._saver.problem:
      return ''
    remedy = 'free some room' if self._saver.lacks_room else 'fix that'
    return f'{self._saver.problem}; {remedy}, then run the same command again to continue'

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._saves.close()
    if self._writer:
      self._writer.close()
    self._saver.close()
    self._saves.check()

  def summarize(self) -> None:
    """Ends the trace, if there is one, and draws the pictures of the whole run."""
    if self._tracer:
      self._tracer.close(self._step)
    if self._writer:
      draw_run(self._folder, self._distance, self._charts)

  def divergence(self, state: GanState) -> str:
    """Returns the error message for a state whose numbers are no longer finite."""
    networks = ('generator', 'discriminator')
    broken = ' and '.join(name for name in networks if not _is_finite(getattr(state, name)))
    done = checkpoints.steps(self._folder / 'checkpoints')
    kept = f'the last good checkpoint is of step {done[-1]}' if done else 'there is no checkpoint yet'
    return (
      f'workdir={self._folder}: training has diverged: at step {self._step} numbers of {broken} are not '
      f'finite; {kept}; try lower learning rates, with --allow_config_change or in another --workdir'
    )


def draw_run(folder: Path, distance: str, charts: plots.Charts) -> None:
  """Draws the pictures of the whole run: losses, the charts of its scores, and a GIF of its samples."""
  rows = metrics.read(folder / 'metrics.jsonl')
  with workdir.said_if_not_written(folder / 'losses.png'):
    if any('loss_d' in row for row in rows):
      plots.plot_losses(folder / 'losses.png', rows)
  with workdir.said_if_not_written(folder / 'scores.png'):
    if any(distance in row for row in rows):
      best = min(metrics.comparable(rows, distance), key=lambda row: row[distance])
      plots.plot_scores(folder / 'scores.png', rows, charts, distance, best)
  with workdir.said_if_not_written(folder / 'samples.gif'):
    frames = workdir.samples(folder)
    if frames:
      pictures.save_gif(folder / 'samples.gif', frames)


@jax.jit
def _is_finite(tree: Any) -> Array:
  """Returns whether every number in the tree is finite."""
  numbers = (x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating))
  return jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()


@jax.jit
def _copy(state: GanState) -> _Copy:
  """Returns a copy of a state on the same devices, and its checksums while no later step is queued."""
  return _Copy(jax.tree.map(jnp.copy, state), stamp.sums(state))
