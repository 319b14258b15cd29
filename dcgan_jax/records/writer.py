"""Writes the metrics, scores and pictures of a run beside its training, and says how it goes."""

import datetime
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from dcgan_jax.media import pictures
from dcgan_jax.records import collapse, metrics, workdir
from dcgan_jax.records.plan import Plan
from dcgan_jax.threads import Background

Picture = Callable[[], np.ndarray]  # waits for a grid of samples, uint8 [H, W, C], and returns it
MOST_WAITING = 100  # rows and pictures that wait for the disk before training waits for them


class Writer:
  """Writes what process 0 alone writes. All of it is done in one thread, in order, while training goes on.

  Attributes:
    background: that thread; when what it was given last is done, all before it is on disk.
    signs: of collapse that were there when it was last drained, see `collapse`.
  """

  def __init__(self, place: workdir.Place, plan: Plan):
    folder = place.workdir
    self._folder, self._place, self._plan = folder, place, plan
    self._metrics = metrics.MetricsWriter(folder, plan.start, plan.tensorboard, plan.tracker)
    self.background = Background('writer', MOST_WAITING)
    self.signs: collapse.Signs = {}
    self._watch = collapse.Watch(plan.distance, plan.probabilities, self._metrics.rows)
    self._unwritten: dict[str, str] = {}  # what could not be written the last time, and why
    # shown on a terminal only
    self._bar = tqdm(total=plan.num_steps, initial=plan.start, unit='step', disable=None)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    self._bar.update(step - self._bar.n)

  def progress(
    self,
    step: int,
    last: metrics.Values,
    sums: Sequence[metrics.Values],
    steps: int,
    speed: dict[str, float],
    standing: Callable[[], str],
  ) -> None:
    """Writes a row of metrics and shows it, with how the checkpoints stand.

    Args:
      step: that was taken last.
      last: its metrics.
      sums: of the metrics over the steps of each program since the row before.
      steps: how many these are.
      speed: of them, see `Clock.lap`.
      standing: tells which step is on disk.
    """

    def write() -> None:
      row = metrics.row(last, sums, steps) | speed
      self._write(step, row)
      self._report(step, row, standing())
      self._warn(step)

    self.background.do(write)

  def scores(self, step: int, row: dict[str, Any]) -> None:
    """Writes a row of scores and their protocol, and says what they tell."""

    def write() -> None:
      self._write(step, row)
      names = (self._plan.distance, 'precision', 'recall', 'coverage')
      self._say(f'step {step}  ' + '  '.join(f'{name.replace("_", " ")} {row[name]:.4g}' for name in names))
      self._warn(step)

    self.background.do(write)

  def picture(self, step: int, picture: Picture) -> None:
    """Writes a picture of samples."""

    def write() -> None:
      made = picture()
      path = workdir.sample(self._folder, step)
      self._place.check()
      with workdir.said_if_not_written(path):
        pictures.save_png(path, pictures.zoom(made))
      self._metrics.add_image(step, made)

    self.background.do(write)

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    self.background.do(self._say, line)

  def close(self) -> None:
    """Waits until all is written, and closes the files and the progress bar."""
    self.background.close()
    self._metrics.close()
    for name, reason in self._metrics.problems.items():
      self._say(f'{name} is not complete: {reason}')
    self._bar.close()
    self.background.check()

  def _write(self, step: int, row: dict[str, float]) -> None:
    """Writes a row, and says if the rows of late are not on disk."""
    self._metrics.write(step, row)
    problems = self._metrics.problems
    for name, reason in problems.items():
      if reason != self._unwritten.get(name):
        self._say(f'step {step}: {name} cannot be written: {reason}; it is tried again')
    self._unwritten = problems

  def _warn(self, step: int) -> None:
    """Says which signs of collapse are new."""
    signs = self._watch.add(self._metrics.rows[-1])
    for name in sorted(signs.keys() - self.signs.keys()):
      self._say(f'step {step}: {signs[name]}')
    self.signs = signs

  def _say(self, line: str) -> None:
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
