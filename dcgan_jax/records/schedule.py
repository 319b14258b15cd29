"""When a run logs, draws, scores and saves."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from dcgan_jax.settings import Settings


class Due(NamedTuple):
  """What is due after a step.

  Attributes:
    log: A row of metrics.
    draw: A grid of samples.
    score: Scores.
    save: A checkpoint.
  """

  log: bool
  draw: bool
  score: bool
  save: bool


@dataclass(frozen=True)
class Schedule:
  """The steps of a run, and the steps between two times that something is due, 0 for never.

  Attributes:
    start: Step that the run resumes from.
    num_steps: Last step.
    log_every: Steps between rows of metrics.
    draw_every: Steps between grids of samples.
    score_every: Steps between scores.
    save_every: Steps between checkpoints.
  """

  start: int
  num_steps: int
  log_every: int
  draw_every: int
  score_every: int
  save_every: int

  def due(self, step: int) -> Due:
    """Returns what is due after a step; after the last one, everything that is ever due."""
    every = (self.log_every, self.draw_every, self.score_every, self.save_every)
    return Due(*(n > 0 and (step % n == 0 or step == self.num_steps) for n in every))

  def steps_until_due(self, step: int) -> int:
    """Returns the number of steps from a step to the next one after which anything is due."""
    return min(self.num_steps - step, *(n - step % n for n in self.intervals))

  @property
  def intervals(self) -> list[int]:
    """The steps between rows, grids, scores and checkpoints, without those that are never due."""
    return [n for n in (self.log_every, self.draw_every, self.score_every, self.save_every) if n]


def of_run(settings: Settings, num_images: int, start: int, num_steps: int | None = None) -> Schedule:
  """Returns the schedule of a run.

  Args:
    settings: The run's settings.
    num_images: Number of images in the data set.
    start: Step that the run resumes from.
    num_steps: Last step; None for that of the settings.
  """
  train = settings.train
  return Schedule(
    start,
    num_steps or train.num_steps or math.ceil(train.num_epochs * num_images / train.images_per_step),
    *(
      section.steps_between(train.images_per_step, num_images)
      for section in (settings.log, settings.sample, settings.eval, settings.checkpoint)
    ),
  )
