"""Plots of a run's losses and scores, and how any matplotlib figure is saved."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcgan_jax import files
from dcgan_jax.journal import metrics

if TYPE_CHECKING:  # slow to import
  from matplotlib.figure import Figure


def plot_losses(path: Path, rows: list[dict[str, float]]) -> None:
  """Plots both losses, and the output of D for real images and fakes, over the steps of a run.

  Args:
    path: of the picture, a PNG.
    rows: of metrics; those without losses are left out.
  """
  from matplotlib.figure import Figure  # unlike pyplot, without global state and display

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
    values = np.array([row.get(key, np.nan) for row in rows])
    axes.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
    axes.plot(steps, smooth(values), color=color, label=label, linewidth=1.5)
  losses.set_ylabel('loss')
  outputs.set_ylabel('output of D')
  outputs.set_xlabel('step')
  _finish(figure, path)


def plot_scores(path: Path, rows: list[dict[str, float]], distance: str) -> None:
  """Plots the scores over the steps of a run.

  Args:
    path: of the picture, a PNG.
    rows: of metrics; those without scores are left out.
    distance: name of the score that tells the best checkpoint; lower is better. The best is that of the rows
      with the protocol of the last one.
  """
  from matplotlib.figure import Figure

  rows = [row for row in rows if distance in row]
  steps = [row['step'] for row in rows]
  best = min(metrics.comparable(rows, distance), key=lambda row: row[distance])
  figure = Figure(figsize=(8, 5.5), layout='constrained')
  distances, shares = figure.subplots(2, 1, sharex=True)
  name = 'FID' if distance == 'fid' else distance.replace('_', ' ').replace('frechet', 'Fréchet')
  distances.plot(steps, [row[distance] for row in rows], marker='.', color='tab:blue', label=name)
  label = f'best: {best[distance]:.1f} at step {best["step"]}'
  distances.plot(best['step'], best[distance], 'o', color='tab:red', fillstyle='none', label=label)
  distances.set_yscale('log')
  distances.set_ylabel('distance')
  for key, color in (('precision', 'tab:green'), ('recall', 'tab:orange'), ('coverage', 'tab:purple')):
    shares.plot(steps, [row.get(key, np.nan) for row in rows], marker='.', color=color, label=key)
  shares.set_ylim(0, 1)
  shares.set_ylabel('share of images')
  shares.set_xlabel('step')
  _finish(figure, path)


def _finish(figure: 'Figure', path: Path) -> None:
  """Adds legends above the curves and saves the figure."""
  for axes in figure.axes:
    axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
  save_figure(path, figure)


def smooth(values: np.ndarray) -> np.ndarray:
  """Returns the centred running mean over about a thirtieth of the curve; at the ends its window is cut."""
  half = len(values) // 60
  sums = np.concatenate([[0.0], np.cumsum(values)])
  low = np.maximum(np.arange(len(values)) - half, 0)
  high = np.minimum(np.arange(len(values)) + half + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def save_figure(path: Path, figure: 'Figure') -> None:
  """Writes a matplotlib figure as PNG. The file is whole or not there, even if the process is killed."""
  with files.whole(path) as part:
    figure.savefig(part, format='png', dpi=110)
