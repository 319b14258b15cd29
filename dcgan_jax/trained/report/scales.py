"""Axes: their ranges, the positions of numbers on them, and their ticks."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BOX = 1000  # units of a path along each side of its chart


class Scale(NamedTuple):
  """An axis from one number to another."""

  low: float
  high: float
  log: bool = False

  def at(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns positions of numbers, 0 at the lower end and 1 at the upper, float [N]."""
    x, low, high = (np.asarray(v, float) for v in (values, self.low, self.high))
    if self.log:
      with np.errstate(divide='ignore', invalid='ignore'):
        x, low, high = np.log(x), np.log(low), np.log(high)
    return (x - low) / (high - low)

  def ticks(self, most: int = 5) -> list[float]:
    """Returns at most `most` round numbers on the axis, about evenly spread."""
    return _log_ticks(self, most) if self.log else _even_ticks(self.low, self.high, most)


def fitting(values: Sequence[float] | np.ndarray, log: bool = False) -> Scale:
  """Returns an axis for all of these numbers, with round numbers at its ends.

  Args:
    values: Finite numbers.
    log: Whether it is logarithmic; with a number of 0 or less it is linear all the same.
  """
  low, high = (float(f(values)) for f in (np.min, np.max)) if len(values) else (0.0, 1.0)
  if log and low > 0:
    return Scale(low / 1.15, high * 1.15, log=True)
  if low == high:
    low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
  step = _step(low, high, 5)
  return Scale(math.floor(low / step) * step, math.ceil(high / step) * step)


def path(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
  """Returns an SVG path in a box of `BOX` units, with gaps where a number is not finite.

  Args:
    x: Positions from 0 at the left to 1 at the right, [N].
    y: Positions from 0 at the bottom to 1 at the top, [N].
  """
  commands, pen = [], 'M'
  for a, b in zip(np.asarray(x, float), np.asarray(y, float)):
    if not (math.isfinite(a) and math.isfinite(b)):
      pen = 'M'
      continue
    # Large numbers would only make the page larger.
    commands.append(f'{pen}{a * BOX:.0f},{min(max(1 - b, -1), 2) * BOX:.0f}')
    pen = 'L'
  return ''.join(commands)


def number(value: float) -> str:
  """Returns a number with four significant digits and commas between thousands."""
  if not math.isfinite(value):
    return 'none'
  rounded = float(f'{value:.4g}') if abs(value) < 10_000 else round(value)
  if rounded and (abs(rounded) < 1e-4 or abs(rounded) >= 1e12):
    return f'{rounded:.3g}'
  return f'{rounded:,.0f}' if rounded == round(rounded) else f'{rounded:,.6f}'.rstrip('0')


def with_deviation(mean: float, deviation: float) -> str:
  """Returns a mean with its standard deviation, both to the second digit of the latter: '31.2 ± 4.1'.

  Args:
    mean: Any number.
    deviation: 0 or more; NaN if there is none, and the mean stands alone.
  """
  if not math.isfinite(deviation):
    return number(mean)
  decimals = max(0, 1 - math.floor(math.log10(deviation))) if deviation else 7
  if decimals > 6 or max(abs(mean), deviation) >= 1e12:
    return f'{number(mean)} ± {number(deviation)}'
  return f'{mean:,.{decimals}f} ± {deviation:,.{decimals}f}'


def _step(low: float, high: float, most: int) -> float:
  """Returns the smallest round step with at most `most` steps in the interval."""
  rough = (high - low) / most
  power = 10.0 ** math.floor(math.log10(rough))
  return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _even_ticks(low: float, high: float, most: int) -> list[float]:
  """Returns the multiples of a round step between two numbers."""
  step = _step(low, high, most)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def _log_ticks(scale: Scale, most: int) -> list[float]:
  """Returns powers of ten, with numbers between them while there is room; round numbers on a short axis."""
  powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
  found: list[float] = []
  for factors in ((1,), (1, 3), (1, 2, 5)):
    candidates = [factor * 10.0**power for power, factor in itertools.product(powers, factors)]
    inside = [x for x in candidates if scale.low <= x <= scale.high]
    if len(inside) <= most:
      found = inside
  if len(found) > 1:
    return found
  if len(powers) > most:
    return [
      10.0**power
      for power in powers[:: math.ceil(len(powers) / most)]
      if scale.low <= 10.0**power <= scale.high
    ]
  return [x for x in _even_ticks(scale.low, scale.high, most) if x > 0]
