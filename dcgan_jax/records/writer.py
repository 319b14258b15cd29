"""Writes the rows and grids of a run beside its training, and prints its progress."""

import datetime
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from dcgan_jax.media import pictures
from dcgan_jax.media.plots import Charts
from dcgan_jax.records import collapse, metrics, workdir
from dcgan_jax.records.schedule import Schedule
from dcgan_jax.settings import Settings
from dcgan_jax.threads import Background

PendingGrid = Callable[[], np.ndarray]  # blocks until a grid of samples is drawn, uint8 [H, W, C]
MOST_WAITING = 100  # rows and grids that wait for the disk before training waits for them


class Writer:
  """Writes what process 0 alone writes, in one thread and in order, while training goes on.

  Attributes:
    background: The thread; when its last task is done, everything is on disk.
    signs: Signs of collapse after the last row, see `collapse`; up to date once the thread is drained.
  """

  def __init__(
    self, place: workdir.Place, settings: Settings, schedule: Schedule, distance: str, charts: Charts
  ):
    """Opens the files, and drops rows and pictures after the first step.

    Args:
      place: The workdir.
      settings: The run's settings.
      schedule: The steps of the run.
      distance: Name of the score that ranks checkpoints.
      charts: Charts of the scores, which the log shows.
    """
    self._folder, self._place = place.workdir, place
    self._shown = [name for names in charts.values() for name in names]
    self._num_steps, self._images_per_step = schedule.num_steps, settings.train.images_per_step
    for path in workdir.samples_after(self._folder, schedule.start):  # maybe of settings that were replaced
      with workdir.said_if_not_written(path):
        path.unlink(missing_ok=True)
    log = settings.log
    self._metrics = metrics.MetricsWriter(self._folder, schedule.start, log.tensorboard, log.tracker)
    self.background = Background('writer', MOST_WAITING)
    self.signs: collapse.Signs = {}
    self._watch = collapse.Watch(distance, self._metrics.rows, settings)
    self._unwritten: dict[str, str] = {}  # files that could not be written the last time, and why
    # shown on a terminal only
    self._bar = tqdm(total=schedule.num_steps, initial=schedule.start, unit='step', disable=None)

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
    """Writes a row of metrics and shows it, with the state of the checkpoints.

    Args:
      step: The last step.
      last: Its metrics.
      sums: Sums of the metrics over the steps of each round since the row before.
      steps: Number of steps since the row before.
      speed: Their speed, see `Clock.lap`.
      standing: Returns the state of the checkpoints, in words.
    """

    def write() -> None:
      row = metrics.row(last, sums, steps) | speed
      self._write(step, row)
      self._report(step, row, standing())
      self._warn(step)

    self.background.do(write)

  def scores(self, step: int, row: dict[str, Any]) -> None:
    """Writes a row of scores and their protocol, and prints those that have a chart."""

    def write() -> None:
      self._write(step, row)
      shown = [f'{metrics.words(name)} {row[name]:.4g}' for name in self._shown if name in row]
      self._say(f'step {step}  ' + '  '.join(shown))
      self._warn(step)

    self.background.do(write)

  def grid(self, step: int, grid: PendingGrid) -> None:
    """Writes a grid of samples."""

    def write() -> None:
      made = grid()
      path = workdir.sample(self._folder, step)
      self._place.check()
      with workdir.said_if_not_written(path):
        path.parent.mkdir(exist_ok=True)  # Its parent is the workdir, which may have been removed.
        pictures.save_png(path, pictures.zoom(made))
      self._metrics.add_image(step, made)

    self.background.do(write)

  def say(self, line: str) -> None:
    """Prints a line above the progress bar, if there is one."""
    self.background.do(self._say, line)

  def close(self) -> None:
    """Waits until everything is written, and closes the files and the progress bar."""
    self.background.close()
    self._metrics.close()
    for name, reason in self._metrics.problems.items():
      self._say(f'{name} is not complete: {reason}')
    self._bar.close()
    self.background.check()

  def _write(self, step: int, row: dict[str, float]) -> None:
    """Writes a row, and says if the last rows are not on disk."""
    self._metrics.write(step, row)
    problems = self._metrics.problems
    for name, reason in problems.items():
      if reason != self._unwritten.get(name):
        self._say(f'step {step}: {name} cannot be written: {reason}; will try again')
    self._unwritten = problems

  def _warn(self, step: int) -> None:
    """Prints new signs of collapse."""
    signs = self._watch.add(self._metrics.rows[-1])
    for name in sorted(signs.keys() - self.signs.keys()):
      self._say(f'step {step}: {signs[name]}')
    self.signs = signs

  def _say(self, line: str) -> None:
    self._bar.write(line)
    sys.stdout.flush()

  def _report(self, step: int, row: dict[str, float], standing: str) -> None:
    """Shows losses and speed: in the progress bar on a terminal, elsewhere as a line."""
    losses = f'loss_d {row["loss_d"]:.3f}  loss_g {row["loss_g"]:.3f}'
    speed = f'{row["images_per_second"]:.0f} images/s'
    if not self._bar.disable:
      self._bar.set_postfix_str(f'{losses}  {speed}  {standing}', refresh=False)
      return
    seconds = round((self._num_steps - step) * self._images_per_step / row['images_per_second'])
    left = datetime.timedelta(seconds=seconds)
    print(f'step {step}/{self._num_steps}  {losses}  {speed}  {left} left  {standing}', flush=True)
