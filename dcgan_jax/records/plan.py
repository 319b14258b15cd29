"""What a run does beside its steps, and when."""

from dataclasses import dataclass


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
    tracker: service that is told of the run, see `tracking`, or 'none'.
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
  tracker: str = 'none'

  def is_due(self, every: int, step: int) -> bool:
    """Returns whether something that happens every so many steps, and after the last one, is due."""
    return every > 0 and (step % every == 0 or step == self.num_steps)

  def steps_until_next(self, step: int) -> int:
    """Returns how many steps there are from a step to the next one after which something is due."""
    return min(self.num_steps - step, *(n - step % n for n in self.intervals))

  @property
  def intervals(self) -> list[int]:
    """Returns the steps between rows, pictures, scores and checkpoints, of those that there are."""
    return [n for n in (self.log_every, self.draw_every, self.score_every, self.save_every) if n]
