"""Metrics of a run: `metrics.jsonl`, TensorBoard events, plots of losses and scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dcgan_jax import images


def read(path: Path, last_step: int | None = None) -> list[dict[str, float]]:
  """The rows of a metrics file, up to a step; a last line cut short by a crash is left out."""
  rows: list[dict[str, float]] = []
  if not path.exists():
    return rows
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break
    if last_step is not None and row['step'] > last_step:
      break
    rows.append(row)
  return rows


class MetricsWriter:
  """Appends rows to `metrics.jsonl` and TensorBoard events in a folder.

  Args:
    folder: of the run.
    step: that the run continues from; rows after it, of a run that was killed, are dropped.
    tensorboard: whether to write events too.
  """

  def __init__(self, folder: Path, step: int, tensorboard: bool):
    path = folder / 'metrics.jsonl'
    self.rows = read(path, step)  # all rows, those of earlier starts too
    part = path.with_name(path.name + '.part')
    part.write_text(''.join(json.dumps(row) + '\n' for row in self.rows))
    part.replace(path)
    self._file = path.open('a', buffering=1)
    self._events = None
    if tensorboard:
      from tensorboardX import SummaryWriter  # slow to import

      self._events = SummaryWriter(str(folder / 'tensorboard'), purge_step=step + 1)

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes one row."""
    self.rows.append({'step': step, **values})
    self._file.write(json.dumps(self.rows[-1]) + '\n')
    if self._events is not None:
      for name, value in values.items():
        self._events.add_scalar(name, value, step)

  def add_image(self, step: int, image: np.ndarray) -> None:
    """Shows a picture, uint8 [H, W, C], in TensorBoard."""
    if self._events is not None:
      self._events.add_image('samples', image, step, dataformats='HWC')

  def close(self) -> None:
    """Flushes both."""
    self._file.close()
    if self._events is not None:
      self._events.close()


def plot_losses(path: Path, rows: list[dict[str, float]]) -> None:
  """Draws both losses, and D's opinion of real images and fakes, over the steps of a run.

  Args:
    path: of the picture.
    rows: of metrics; those without losses are left out.
  """
  from matplotlib.figure import Figure  # no pyplot: no global state, no display

  rows = [row for row in rows if 'loss_d' in row]
  steps = [row['step'] for row in rows]
  figure = Figure(figsize=(8, 5.5), layout='constrained')
  losses, outputs = figure.subplots(2, 1, sharex=True)
  curves = (
    (losses, 'loss_d', 'discriminator', 'tab:blue'),
    (losses, 'loss_g', 'generator', 'tab:orange'),
    (outputs, 'd_real', 'D(x), real images', 'tab:blue'),
    (outputs, 'd_fake', 'D(G(z)), fakes', 'tab:orange'),
  )
  for axes, key, label, color in curves:
    values = np.array([row[key] for row in rows])
    axes.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
    axes.plot(steps, _smooth(values), color=color, label=label, linewidth=1.5)
  losses.set_ylabel('loss')
  outputs.set_ylabel('output of D')
  outputs.set_xlabel('step')
  _finish(figure, path)


def plot_scores(path: Path, rows: list[dict[str, float]], distance: str) -> None:
  """Draws the scores over the steps of a run.

  Args:
    path: of the picture.
    rows: of metrics; those without scores are left out.
    distance: name of the score that tells the best checkpoint, the lower the better.
  """
  from matplotlib.figure import Figure

  rows = [row for row in rows if distance in row]
  steps = [row['step'] for row in rows]
  best = min(rows, key=lambda row: row[distance])
  figure = Figure(figsize=(8, 5.5), layout='constrained')
  distances, shares = figure.subplots(2, 1, sharex=True)
  name = 'FID' if distance == 'fid' else distance.replace('_', ' ').replace('frechet', 'Fréchet')
  distances.plot(steps, [row[distance] for row in rows], marker='.', color='tab:blue', label=name)
  label = f'best: {best[distance]:.1f} at step {best["step"]}'
  distances.plot(best['step'], best[distance], 'o', color='tab:red', fillstyle='none', label=label)
  distances.set_yscale('log')
  distances.set_ylabel('distance')
  for key, color in (('precision', 'tab:green'), ('recall', 'tab:orange'), ('coverage', 'tab:purple')):
    shares.plot(steps, [row[key] for row in rows], marker='.', color=color, label=key)
  shares.set_ylim(0, 1)
  shares.set_ylabel('share of images')
  shares.set_xlabel('step')
  _finish(figure, path)


def _finish(figure: Any, path: Path) -> None:
  """Legends above the curves; then writes the picture, whole or not at all."""
  for axes in figure.axes:
    axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
  images.save_figure(path, figure)


def _smooth(values: np.ndarray) -> np.ndarray:
  """Centred running mean over about a thirtieth of the curve, its window cut at the ends."""
  half = len(values) // 60
  sums = np.concatenate([[0.0], np.cumsum(values)])
  low = np.maximum(np.arange(len(values)) - half, 0)
  high = np.minimum(np.arange(len(values)) + half + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)
