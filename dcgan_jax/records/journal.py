"""The journal of a run in training: it logs, draws, scores and saves when each is due."""

import concurrent.futures
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import parallel
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import checkpoints, collapse, metrics, workdir
from dcgan_jax.records.plan import Plan
from dcgan_jax.records.timing import Clock, Tracer
from dcgan_jax.records.writer import Picture, Writer
from dcgan_jax.threads import Background

Draw = Callable[[GanState], Picture]  # begins to draw, on the devices
MOST_SAVES = 2  # copies of the state, one of which is being written, before training waits for the disk


class Score(Protocol):
  """The function from a state to the scores of its generator."""

  @property
  def protocol(self) -> str:
    """How they are taken; only scores of the same protocol can be compared."""

  def __call__(self, state: GanState) -> dict[str, float]:
    """Returns the scores by name."""


@dataclass(frozen=True)
class _Program:
  """A program of steps that the devices may still be working on, and what is to be done when they have."""

  step: int  # after it
  sums: metrics.Values  # of the metrics of its steps
  last: metrics.Values  # the metrics of the last one
  finite: Array | None = None  # whether all numbers of the state are; None if nobody asks
  picture: Picture | None = None
  state: GanState | None = None  # a copy, to be saved


class Journal:
  """Keeps the record of a run; each process has one, of which that of process 0 writes.

  Attributes:
    clock: tells the speed in the metrics.
    healthy: whether all numbers of the state were finite when they were last looked at.
    collapse: the sign of collapse for which the run is to end, in words; '' for none.
  """

  def __init__(self, folder: Path, plan: Plan, draw: Draw, score: Score | None):
    self.plan, self.clock, self.healthy, self.collapse = plan, Clock(plan.start), True, ''
    self._folder, self._draw, self._score = folder, draw, score
    self._programs: deque[_Program] = deque()  # that the devices may still be working on
    self._sums: list[metrics.Values] = []  # of the programs since the last row
    self._step = self._logged = plan.start
    self._place = workdir.Place(folder)
    self._writer: Writer | None = None
    # First, because the writer drops the rows after the first step, and a save may turn out to be impossible.
    self._saver = checkpoints.Saver(folder / 'checkpoints', plan.keep, self.say, plan.start)
    self._writer = Writer(self._place, plan) if parallel.is_main() else None
    self._saves = Background('saver', MOST_SAVES)
    scored = checkpoints.best(folder / 'checkpoints', self._protocol)
    self._least = scored[0][1].distance if scored else math.inf  # the best score so far
    self._tracer = Tracer(folder / 'profile', plan.start) if plan.profile and parallel.is_main() else None

  def begin(self, state: GanState) -> None:
    """Compiles what is done with states, draws the first picture of a new run, and starts the clock."""
    _is_finite(state)
    if jax.process_count() == 1:
      _copy(state)
    if self._writer and self.plan.draw_every:
      picture = self._draw(state)
      if self.plan.start == 0:
        self._writer.picture(0, picture)
    self.clock.restart(self.plan.start)

  def record(self, state: GanState, step: int, sums: metrics.Values, last: metrics.Values) -> None:
    """Notes a program of steps, and begins on the devices what is due after it.

    The rest is done by `wait`.

    Args:
      state: that it leads to; the next program may take over its buffers.
      step: the steps done.
      sums: of the metrics of its steps.
      last: the metrics of the last step.
    """
    if self._tracer:
      self._tracer.step(step, state)
    logs, draws, scores, saves = self._due(step)
    with self.clock.spent('pictures'):
      picture = self._draw(state) if self._writer and draws else None
    with self.clock.spent('saves'):
      # Several processes save together, and at once; one saves beside training, after the scores.
      copied = _copy(state) if saves and not scores and jax.process_count() == 1 else None
    finite = _is_finite(state) if logs or scores or saves else None
    self._programs.append(_Program(step, sums, last, finite, picture, copied))
    if scores or (saves and copied is None):
      self.wait(0)
      if scores and self.healthy:
        self._score_now(step, state, saves)
      elif self.healthy:
        with self.clock.spent('saves'):
          self._save(state)

  def wait(self, most: int) -> None:
    """Waits until the devices work on at most so many programs, and writes what is due after the others."""
    while len(self._programs) > most and self.healthy:
      program = self._programs.popleft()
      with self.clock.spent('device'):
        jax.block_until_ready((program.last, program.finite))
      self._step = program.step
      self._sums.append(program.sums)
      self.healthy = program.finite is None or bool(program.finite)
      if self.healthy:  # Otherwise nothing of it is written.
        self._write(program)

  def _write(self, program: _Program) -> None:
    """Writes what is due after a program that is done."""
    step = program.step
    logs, _, scores, _ = self._due(step)
    if logs:
      speed = self.clock.lap(step, self.plan.images_per_step)
      if self._writer:
        steps = step - self._logged
        self._writer.progress(step, program.last, self._sums, steps, speed, self._saver.standing)
      self._sums, self._logged = [], step
    if self._writer:
      self._writer.advance(step)
      with self.clock.spent('pictures'):
        if program.picture:
          self._writer.picture(step, program.picture)
    with self.clock.spent('saves'):
      if program.state is not None:
        self._save(program.state)
    if logs and not scores:
      self._heed_collapse()

  def _score_now(self, step: int, state: GanState, saves: bool) -> None:
    """Scores the generator, and saves the state if that is due or if it is the best so far."""
    if self._score is None:
      return
    with self.clock.spent('scores'):
      row = self._score(state)
    if self._writer:
      self._writer.scores(step, row | {'protocol': self._protocol})
    distance = row[self.plan.distance]
    with self.clock.spent('saves'):
      if saves or bool(parallel.agreed(distance < self._least)):
        copied = _copy(state) if jax.process_count() == 1 else state
        self._save(copied, checkpoints.Score(distance, self._protocol))
    self._least = min(self._least, distance)
    self._heed_collapse()

  def _save(self, state: GanState, score: checkpoints.Score | None = None) -> None:
    """Saves a state beside training; in a run of several processes, which do it together, at once.

    A checkpoint is not begun before all rows and pictures that were given to the writer are on disk, so that
    a run that goes on from it has them.

    Raises:
      InputError: the folder of the run is gone.
    """
    self._place.check()
    written = self._writer.background.last if self._writer else None

    def save() -> None:
      if written:
        concurrent.futures.wait([written])
      self._saver.save(state, score)
      if jax.process_count() == 1:
        self._saver.settle()

    if jax.process_count() == 1:
      self._saves.do(save)
    else:
      save()

  def _heed_collapse(self) -> None:
    """Looks for a sign of collapse for which the run is to end, if it is to and no row has had one yet."""
    if self.plan.heeds_collapse and not self.collapse:  # Rows of programs in flight may have none any more.
      sign = ''
      if self._writer:
        self._writer.background.drain()
        sign = collapse.grave(self._writer.signs)
      self.collapse = (sign or 'another process has seen it') if parallel.agreed(bool(sign)) else ''

  def _due(self, step: int) -> tuple[bool, bool, bool, bool]:
    """Returns whether rows of metrics, pictures, scores and checkpoints are due after a step."""
    plan = self.plan
    every = (plan.log_every, plan.draw_every, plan.score_every, plan.save_every)
    logs, draws, scores, saves = (plan.is_due(each, step) for each in every)
    return logs, draws, scores, saves

  @property
  def _protocol(self) -> str:
    """How the scores are taken."""
    return self._score.protocol if self._score else ''

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    if self._writer:
      self._writer.say(line)
    elif parallel.is_main():
      print(line, flush=True)

  def finish(self, state: GanState) -> None:
    """Saves the last step, unless it is saved already or not finite, and waits until it is on disk.

    Raises:
      InputError: the folder of the run is gone.
    """
    self.wait(0)
    self._saves.drain()
    self._saver.settle()
    if self.healthy and self._saver.saved != self._step:
      self.healthy = bool(_is_finite(state))
      if self.healthy:
        self._save(state)
        self._saves.drain()
        self._saver.settle()
    self._place.check()

  @property
  def unsaved(self) -> str:
    """What kept the last state from disk, and what to do about it; '' if nothing did."""
    if not self._saver.problem:
      return ''
    remedy = 'free some room' if self._saver.lacks_room else 'put that right'
    return f'{self._saver.problem}; {remedy}, and the same command goes on from there'

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._saves.close()
    if self._writer:
      self._writer.close()
    self._saver.close()
    self._saves.check()

  def summarize(self) -> None:
    """Ends the trace, if one was asked for, and draws the pictures of the whole run."""
    if self._tracer:
      self._tracer.close(self._step)
    if self._writer:
      draw_run(self._folder, self.plan.distance)

  def divergence(self, state: GanState) -> str:
    """Returns what to say of a run whose numbers are no longer finite."""
    networks = ('generator', 'discriminator')
    broken = ' and '.join(name for name in networks if not _is_finite(getattr(state, name)))
    done = checkpoints.steps(self._folder / 'checkpoints')
    kept = f'the last good checkpoint is of step {done[-1]}' if done else 'there is no checkpoint yet'
    return (
      f'workdir={self._folder}: training has diverged: at step {self._step} numbers of {broken} are not '
      f'finite; {kept}; try lower learning rates, with --allow_config_change or in another --workdir'
    )


@contextlib.contextmanager
def opened(folder: Path, plan: Plan, draw: Draw, score: Score | None) -> Iterator[Journal]:
  """Opens a journal, closes it at the end of the block, and then draws the pictures of the whole run."""
  with contextlib.closing(Journal(folder, plan, draw, score)) as journal:
    yield journal
  journal.summarize()


def draw_run(folder: Path, distance: str) -> None:
  """Draws the pictures of the whole run: losses, scores and the GIF of its samples."""
  rows = metrics.read(folder / 'metrics.jsonl')
  with workdir.said_if_not_written(folder / 'losses.png'):
    if any('loss_d' in row for row in rows):
      plots.plot_losses(folder / 'losses.png', rows)
  with workdir.said_if_not_written(folder / 'scores.png'):
    if any(distance in row for row in rows):
      best = min(metrics.comparable(rows, distance), key=lambda row: row[distance])
      plots.plot_scores(folder / 'scores.png', rows, distance, best)
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
def _copy(tree: Any) -> Any:
  """Returns a copy of a tree, on the same devices."""
  return jax.tree.map(jnp.copy, tree)
