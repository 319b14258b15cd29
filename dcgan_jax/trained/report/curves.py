"""Curves of a run's metrics, smoothed and thinned to what a screen can show."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dcgan_jax.media import plots

MOST = 300  # points of a curve; about the width of a chart in pixels
LEAST = 1e-60  # smaller values are shown as 0
Item = TypeVar('Item')


class Curve(NamedTuple):
  """Numbers over the steps of a run: steps int [N] and values float [N], all finite."""

  steps: np.ndarray
  values: np.ndarray


def find(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
  """Returns a metric over the steps; where rows have its mean since the row before, that.

  Args:
    rows: Rows of metrics; those without the metric, or where it is not finite, are left out.
    name: Name of the metric.
  """
  mean = f'{name}_mean'
  found = [(row['step'], row.get(mean, row[name])) for row in rows if name in row]
  steps, values = np.array([step for step, _ in found], int), np.array([value for _, value in found], float)
  kept = np.isfinite(values)
  values[np.abs(values) < LEAST] = 0  # An axis of such numbers would have no ticks.
  return Curve(steps[kept], values[kept])


def smooth(curve: Curve) -> Curve:
  """Returns the running mean, as in losses.png."""
  return Curve(curve.steps, plots.smooth(curve.values)) if len(curve.steps) else curve


def across(found: Sequence[Curve]) -> tuple[Curve, Curve]:
  """Returns the mean of curves and their standard deviation, at the steps that all of them have.

  Args:
    found: One curve or more; of one alone the deviation is 0.
  """
  unique = [np.unique(curve.steps, return_index=True) for curve in found]
  steps = functools.reduce(np.intersect1d, (own for own, _ in unique))
  values = np.stack([c.values[first[np.isin(own, steps)]] for c, (own, first) in zip(found, unique)])
  mean, deviation = mean_and_deviation(values)
  deviation = np.zeros_like(mean) if len(found) == 1 else deviation
  kept = np.isfinite(mean) & np.isfinite(deviation)
  return Curve(steps[kept], mean[kept]), Curve(steps[kept], deviation[kept])


def mean_and_deviation(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean of values [N, ...] over the first axis, and their standard deviation with N - 1.

  The deviation of a single value is NaN.
  """
  with np.errstate(over='ignore', invalid='ignore'):
    mean = values.mean(0)
    return mean, values.std(0, ddof=1) if len(values) > 1 else np.full_like(mean, np.nan)


def thin(curve: Curve, most: int = MOST) -> Curve:
  """Returns a curve with fewer points, which keeps the lowest and the highest point of each part.

  Args:
    curve: The curve.
    most: Maximum number of points, 4 or more.
  """
  count = len(curve.steps)
  if count <= most:
    return curve
  parts = np.array_split(np.arange(1, count - 1), (most - 2) // 2)  # The ends are kept as they are.
  ends = ((part[curve.values[part].argmin()], part[curve.values[part].argmax()]) for part in parts)
  kept = np.unique([0, count - 1, *(i for pair in ends for i in pair)])
  return Curve(curve.steps[kept], curve.values[kept])


def evenly(items: Sequence[Item], most: int) -> list[Item]:
  """Returns at most `most` items, evenly spread, with the first and the last."""
  return (
    [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))] if items else []
  )
