"""Plots of a run's losses and scores."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dcgan_jax import files

MOST = 5_000  # points drawn of a curve; a picture is about 900 pixels wide
COLORS = (
  'tab:blue',
  'tab:green',
  'tab:orange',
  'tab:purple',
  'tab:brown',
  'tab:cyan',
  'tab:pink',
  'tab:olive',
)

if TYPE_CHECKING:  # slow to import
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


class Axis(NamedTuple):
  """The vertical axis of a chart.

  Attributes:
    title: Title of the chart.
    scale: 'linear', 'log', 'share' from 0 to 1 or 'count' from 0.
    better: 'lower' or 'higher' for scores, else ''.
    help: What the numbers mean, in a sentence for the report; '' for titles that say it.
  """

  title: str
  scale: str = 'linear'
  better: str = ''
  help: str = ''


Charts = Mapping[Axis, Mapping[str, str]]  # labels of metrics by name, for each chart


def plot_losses(path: Path, rows: list[dict[str, float]]) -> None:
  """Plots both losses, and the output of D for real images and fakes, over the steps of a run.

  Args:
    path: Path of the PNG to write.
    rows: Rows of metrics; those without losses are left out.
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


def plot_scores(
  path: Path, rows: list[dict[str, float]], charts: Charts, distance: str, best: Mapping[str, float]
) -> None:
  """Plots the scores over the steps of a run, with one panel for each chart that has any.

  Args:
    path: Path of the PNG to write.
    rows: Rows of metrics; those without scores are left out.
    charts: Scores of each panel.
    distance: Name of the score that ranks checkpoints; lower is better.
    best: Row of the best checkpoint.
  """
  from matplotlib import ticker
  from matplotlib.figure import Figure

  rows = [row for row in rows if distance in row]
  steps, shown = np.array([row['step'] for row in rows]), _shown(len(rows))
  there = {name for row in rows for name in row}
  drawn = [axis for axis, labels in charts.items() if labels.keys() & there]
  figure = Figure(figsize=(8, max(5.5, 2 * len(drawn))), layout='constrained')
  panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
  colors = itertools.cycle(COLORS)
  for axes, axis in zip(panels, drawn):
    for name, label in charts[axis].items():
      values, color = _finite(rows, name), next(colors)
      # A single curve needs no legend beside the title.
      legend = label if len(charts[axis]) > 1 else None
      axes.plot(steps[shown], values[shown], marker='.', color=color, label=legend)
      if name == distance:
        legend = f'best: {best[name]:.1f} at step {best["step"]}'
        axes.plot(best['step'], best[name], 'o', color='tab:red', fillstyle='none', label=legend)
      if axis.scale == 'log' and (values > 0).any():
        axes.set_yscale('log')
        low, high = axes.get_ylim()
        subs = (1, 2, 5) if high < 1000 * low else (1,)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    if axis.scale == 'share':
      axes.set_ylim(0, 1)
    elif axis.scale == 'count':
      axes.set_ylim(0, max(1, axes.get_ylim()[1]))
      axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_title(axis.title, loc='left', fontsize=10)
    axes.set_ylabel(f'{axis.better} is better')
  figure.axes[-1].set_xlabel('step')
  figure.align_ylabels()
  _finish(figure, path)


def _finite(rows: list[dict[str, float]], key: str) -> np.ndarray:
  """Returns a metric of each row, float [N]; NaN, a gap in the plot, where it is missing or infinite."""
  values = np.array([row.get(key, np.nan) for row in rows], float)
  return np.where(np.isfinite(values), values, np.nan)


def _shown(count: int) -> np.ndarray:
  """Returns the indices of at most `MOST` of `count` points, evenly spread, with the first and the last."""
  return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int))


def _finish(figure: 'Figure', path: Path) -> None:
  """Adds legends above the curves that have labels, and saves the figure."""
  for axes in figure.axes:
    if axes.get_legend_handles_labels()[0]:
      axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
  save_figure(path, figure)


def smooth(values: np.ndarray) -> np.ndarray:
  """Returns the centred running mean over about a thirtieth of the curve, with shorter windows at the ends.

  It leaves out NaN.
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
  """Writes a matplotlib figure as PNG, atomically."""
  with files.whole(path) as part:
    figure.savefig(part, format='png', dpi=110)
