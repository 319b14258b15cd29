"""The journal of a run in training: it logs, draws, scores and saves when each is due."""

import contextlib
import datetime
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from dcgan_jax import parallel
from dcgan_jax.journal import checkpoints, collapse, metrics, pictures, plots, workdir
from dcgan_jax.journal.timing import Clock, Tracer
from dcgan_jax.train_state import GanState

Draw = Callable[[GanState], np.ndarray]  # -> a grid of samples, uint8 [H, W, C]


class Score(Protocol):
  """The function from a state to the scores of its generator."""

  @property
  def protocol(self) -> str:
    """How they are taken; only scores of the same protocol can be compared."""

  def __call__(self, state: GanState) -> dict[str, float]:
    """Returns the scores by name."""


@dataclass(frozen=True)
class Plan:
  """What a run does, and when.

  Attributes:
    start: step that it goes on from.
    num_steps: step that it ends with.
    images_per_step: real images that a step learns from.
    log_every: steps between rows of metrics.
    draw_every: steps between pictures, 0 for none.
    score_every: steps between scores, 0 for none.
    save_every: steps between checkpoints.
    keep: how many of the last checkpoints are kept, beside the best.
    tensorboard: whether TensorBoard events are written too.
    profile: whether some steps are traced for a profiler.
    distance: name of the score that tells the best checkpoint, the lower the better.
    probabilities: whether D's outputs in the metrics are probabilities, so that they tell when D has won.
    heeds_collapse: whether the run ends at signs of collapse.
  """

  start: int
  num_steps: int
  images_per_step: int
  log_every: int
  draw_every: int
  score_every: int
  save_every: int
  keep: int
  tensorboard: bool
  profile: bool
  distance: str
  probabilities: bool
  heeds_collapse: bool

  def is_due(self, every: int, step: int) -> bool:
    """Returns whether something that happens every so many steps, and after the last one, is due."""
    return every > 0 and (step % every == 0 or step == self.num_steps)


class Journal:
  """Keeps the record of a run; each process has one, of which that of process 0 writes.

  Attributes:
    clock: tells the speed in the metrics.
    healthy: whether all numbers of the state were finite when they were last looked at.
    collapse: the sign of collapse for which the run is to end, in words; '' for none.
  """

  def __init__(self, folder: Path, plan: Plan, draw: Draw, score: Score | None):
    self.plan, self.clock, self.healthy, self.collapse = plan, Clock(plan.start), True, ''
    self._folder, self._score, self._step = folder, score, plan.start
    self._writer = Writer(folder, plan, draw) if parallel.is_main() else None
    self._saver = checkpoints.Saver(folder / 'checkpoints', plan.keep, self.say)
    scored = checkpoints.best(folder / 'checkpoints', self._protocol)
    self._least = scored[0][1].distance if scored else math.inf  # the best score so far
    self._tracer = Tracer(folder / 'profile', plan.start) if plan.profile and parallel.is_main() else None

  def begin(self, state: GanState) -> None:
    """Draws the first picture of a run that has not begun before."""
    if self._writer and self.plan.start == 0:
      self._writer.picture(0, state)
    self.clock = Clock(self.plan.start)

  def record(self, step: int, state: GanState, values: dict[str, Array]) -> None:
    """Does what is due after a program of steps.

    Args:
      step: the steps done.
      state: that they led to.
      values: the metrics of each step of the program, [steps] each.
    """
    plan, self._step = self.plan, step
    if self._tracer:
      self._tracer.step(step, state)
    if self._writer:
      self._writer.advance(step)
    logs, draws, scores, saves = (
      plan.is_due(every, step)
      for every in (plan.log_every, plan.draw_every, plan.score_every, plan.save_every)
    )
    if logs or scores or saves:
      self.healthy = bool(_is_finite(state))
      if not self.healthy:
        return  # Nothing of it is written.
    if self._writer and logs:
      speed = self.clock.lap(step, plan.images_per_step)
      self._writer.progress(step, values, speed, self._saver.standing())
    if self._writer and draws:
      self._writer.picture(step, state)
    distance = self._score_now(step, state) if scores else None
    better = distance is not None and bool(parallel.agreed(distance < self._least))
    if saves or better:
      self._saver.save(state, None if distance is None else checkpoints.Score(distance, self._protocol))
    if distance is not None:
      self._least = min(self._least, distance)
    if plan.heeds_collapse and (logs or scores):
      sign = collapse.grave(self._writer.signs) if self._writer else ''
      self.collapse = (sign or 'another process has seen it') if parallel.agreed(bool(sign)) else ''

  def _score_now(self, step: int, state: GanState) -> float | None:
    """Scores the generator; returns the distance that tells the best checkpoint."""
    if self._score is None:
      return None
    with self.clock.paused():
      row = self._score(state)
    if self._writer:
      self._writer.scores(step, row | {'protocol': self._protocol})
    return row[self.plan.distance]

  @property
  def _protocol(self) -> str:
    """How the scores are taken."""
    return self._score.protocol if self._score else ''

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    if self._writer:
      self._writer.say(line)

  def finish(self, state: GanState) -> None:
    """Saves the last step, unless it is saved already or not finite, and waits until it is on disk."""
    self._saver.settle()
    if self.healthy and self._saver.saved != self._step:
      self.healthy = bool(_is_finite(state))
      if self.healthy:
        self._saver.save(state)
        self._saver.settle()

  @property
  def unsaved(self) -> str:
    """What kept the last state from disk; '' if nothing did."""
    return self._saver.problem

  def close(self) -> None:
    """Waits until everything is on disk."""
    if self._writer:
      self._writer.close()
    self._saver.close()

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


class Writer:
  """Writes the metrics, scores and pictures of a run, and says how it goes; for process 0 alone.

  Attributes:
    signs: of collapse that are there now, see `collapse`.
  """

  def __init__(self, folder: Path, plan: Plan, draw: Draw):
    self._folder, self._plan, self._draw = folder, plan, draw
    self._metrics = metrics.MetricsWriter(folder, plan.start, plan.tensorboard)
    self.signs: collapse.Signs = {}
    self._of_scores = collapse.of_scores(self._metrics.rows, plan.distance)
    self._unwritten = ''  # what could not be written the last time, and why
    # shown on a terminal only
    self._bar = tqdm(total=plan.num_steps, initial=plan.start, unit='step', disable=None)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    self._bar.update(step - self._bar.n)

  def progress(self, step: int, values: dict[str, Array], speed: dict[str, float], standing: str) -> None:
    """Writes a row of metrics, those of the last step, and shows it, with how the checkpoints stand."""
    row = {name: float(value[-1]) for name, value in jax.device_get(values).items()} | speed
    self._write(step, row)
    self._report(step, row, standing)
    self._warn(step)

  def scores(self, step: int, row: dict[str, Any]) -> None:
    """Writes a row of scores and their protocol, and says what they tell."""
    self._write(step, row)
    names = (self._plan.distance, 'precision', 'recall', 'coverage')
    self.say(f'step {step}  ' + '  '.join(f'{name.replace("_", " ")} {row[name]:.4g}' for name in names))
    self._warn(step)

  def picture(self, step: int, state: GanState) -> None:
    """Draws samples, if the run has pictures."""
    if not self._plan.draw_every:
      return
    made = self._draw(state)
    with workdir.said_if_not_written(workdir.sample(self._folder, step)):
      pictures.save_png(workdir.sample(self._folder, step), pictures.zoom(made))
    self._metrics.add_image(step, made)

  def close(self) -> None:
    """Closes the files and the progress bar."""
    self._metrics.close()
    self._bar.close()

  def _write(self, step: int, row: dict[str, float]) -> None:
    """Writes a row, and says if the rows of late are not on disk."""
    self._metrics.write(step, row)
    if self._metrics.problem and not self._unwritten:
      self.say(f'step {step}: metrics.jsonl cannot be written: {self._metrics.problem}; it is tried again')
    self._unwritten = self._metrics.problem

  def _warn(self, step: int) -> None:
    """Says which signs of collapse are new."""
    rows = self._metrics.rows
    if rows and self._plan.distance in rows[-1]:  # Only a new score changes what scores tell.
      self._of_scores = collapse.of_scores(rows, self._plan.distance)
    signs = self._of_scores | (collapse.of_outputs(rows) if self._plan.probabilities else {})
    for name in sorted(signs.keys() - self.signs.keys()):
      self.say(f'step {step}: {signs[name]}')
    self.signs = signs

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    self._bar.write(line)
    sys.stdout.flush()

  def _report(self, step: int, row: dict[str, float], standing: str) -> None:
    """Shows losses and speed: on a terminal in the progress bar, elsewhere as a line."""
    told = f'loss_d {row["loss_d"]:.3f}  loss_g {row["loss_g"]:.3f}'
    speed = f'{row["images_per_second"]:.0f} images/s'
    if not self._bar.disable:
      self._bar.set_postfix_str(f'{told}  {speed}  {standing}', refresh=False)
      return
    plan = self._plan
    seconds = round((plan.num_steps - step) * plan.images_per_step / row['images_per_second'])
    left = datetime.timedelta(seconds=seconds)
    print(f'step {step}/{plan.num_steps}  {told}  {speed}  {left} left  {standing}', flush=True)


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
      plots.plot_scores(folder / 'scores.png', rows, distance)
  with workdir.said_if_not_written(folder / 'samples.gif'):
    frames = workdir.samples(folder)
    if frames:
      pictures.save_gif(folder / 'samples.gif', frames)


@jax.jit
def _is_finite(tree: Any) -> Array:
  """Returns whether every number in the tree is finite."""
  numbers = (x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating))
  return jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()
