"""Plots of a run's losses and scores, and how any matplotlib figure is saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcgan_jax import files

MOST = 5_000  # points that are drawn of a curve; a picture is about 900 pixels wide

if TYPE_CHECKING:  # slow to import
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def plot_losses(path: Path, rows: list[dict[str, float]]) -> None:
  """Plots both losses, and the output of D for real images and fakes, over the steps of a run.

  Args:
    path: of the picture, a PNG.
    rows: of metrics; those without losses are left out.
  """
  from matplotlib.figure import Figure  # unlike pyplot, without global state and display

  rows = [row for row in rows if 'loss_d' in row]
  steps, shown = np.array([row['step'] for row in rows]), _shown(len(rows))
  figure = Figure(figsize=(8, 5.5), layout='constrained')
  losses, outputs = figure.subplots(2, 1, sharex=True)
  curves = (
    (losses, 'loss_d', 'discriminator', 'tab:blue'),
    (losses, 'loss_g', 'generator', 'tab:orange'),
    (outputs, 'd_real', 'D(x), real images', 'tab:blue'),
    (outputs, 'd_fake', 'D(G(z)), fakes', 'tab:orange'),
  )
  for axes, key, label, color in curves:
    values = _finite(rows, key)
    axes.plot(steps[shown], values[shown], color=color, alpha=0.3, linewidth=0.8)
    axes.plot(steps[shown], smooth(values)[shown], color=color, label=label, linewidth=1.5)
  losses.set_ylabel('loss')
  outputs.set_ylabel('output of D')
  outputs.set_xlabel('step')
  _finish(figure, path)


def plot_scores(path: Path, rows: list[dict[str, float]], distance: str, best: Mapping[str, float]) -> None:
  """Plots the scores over the steps of a run.

  Args:
    path: of the picture, a PNG.
    rows: of metrics; those without scores are left out.
    distance: name of the score that tells the best checkpoint; lower is better.
    best: the row of that checkpoint.
  """
  from matplotlib.figure import Figure

  rows = [row for row in rows if distance in row]
  steps, shown = np.array([row['step'] for row in rows]), _shown(len(rows))
  figure = Figure(figsize=(8, 5.5), layout='constrained')
  distances, shares = figure.subplots(2, 1, sharex=True)
  name = 'FID' if distance == 'fid' else distance.replace('_', ' ').replace('frechet', 'Fréchet')
  values = _finite(rows, distance)
  distances.plot(steps[shown], values[shown], marker='.', color='tab:blue', label=name)
  label = f'best: {best[distance]:.1f} at step {best["step"]}'
  distances.plot(best['step'], best[distance], 'o', color='tab:red', fillstyle='none', label=label)
  if (values > 0).any():
    distances.set_yscale('log')
  distances.set_ylabel('distance')
  for key, color in (('precision', 'tab:green'), ('recall', 'tab:orange'), ('coverage', 'tab:purple')):
    shares.plot(steps[shown], _finite(rows, key)[shown], marker='.', color=color, label=key)
  shares.set_ylim(0, 1)
  shares.set_ylabel('share of images')
  shares.set_xlabel('step')
  _finish(figure, path)


def _finite(rows: list[dict[str, float]], key: str) -> np.ndarray:
  """Returns a metric of each row, float [N]; where it is missing or infinite it is NaN, a gap in a plot."""
  values = np.array([row.get(key, np.nan) for row in rows], float)
  return np.where(np.isfinite(values), values, np.nan)


def _shown(count: int) -> np.ndarray:
  """Returns the numbers of the points that are drawn of so many, evenly spread, the last among them."""
  return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int))


def _finish(figure: 'Figure', path: Path) -> None:
  """Adds legends above the curves and saves the figure."""
  for axes in figure.axes:
    axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
  save_figure(path, figure)


def smooth(values: np.ndarray) -> np.ndarray:
  """Returns the centred running mean over about a thirtieth of the curve; at the ends its window is cut.

  Where numbers of a window are NaN it is the mean of the others.
  """
  half = len(values) // 60
  there = ~np.isnan(values)
  sums, counts = (np.concatenate([[0], np.cumsum(x)]) for x in (np.where(there, values, 0.0), there))
  low = np.maximum(np.arange(len(values)) - half, 0)
  high = np.minimum(np.arange(len(values)) + half + 1, len(values))
  count = counts[high] - counts[low]
  return np.divide(sums[high] - sums[low], count, out=np.full(len(values), np.nan), where=count > 0)


def show(axes: 'Axes', picture: np.ndarray, title: str) -> None:
  """Shows a picture, uint8 [H, W, 1 or 3], in a part of a figure, under a title and without axes."""
  axes.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap='gray', vmin=0, vmax=255)
  axes.set_title(title, fontsize=10)
  axes.axis('off')


def save_figure(path: Path, figure: 'Figure') -> None:
  """Writes a matplotlib figure as PNG. The file is whole or not there, even if the process is killed."""
  with files.whole(path) as part:
    figure.savefig(part, format='png', dpi=110)
