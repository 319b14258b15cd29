"""Signs that a GAN has stopped learning, found in the metrics of its run and put in plain words.

GANs of this kind usually collapse sooner or later. Losses do not tell it, but scores of samples do.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir

Row = Mapping[str, Any]
Signs = dict[str, str]  # a sentence for each sign that was found, by a short name

WINDOW = 10  # rows of losses that a sign is averaged over, because one batch says little
SATURATED = 0.9  # D(x) - D(G(z)) above which D is hardly ever wrong; 0.8 is usual in a good run
LEAST = 0.05  # coverage below which there is nothing yet that could collapse
PATIENCE = 5  # scores after which the coverage should be above `LEAST`
FALL = 0.5  # share of the best coverage so far; less than it is a collapse
RISE, FAR = 1.5, 3.0  # multiples of the best distance so far: more is reported, and is a collapse
GRAVE = ('saturated', 'coverage', 'far')  # signs for which a run stops or goes back, if it is told to
MOST_ROLLBACKS = 3


@dataclass
class _Scored:
  """What there is to compare a score with, by one protocol: rows with a distance and the coverage."""

  widest: Row
  best: Row
  last: Row
  fewest: float = math.inf  # missing classes
  count: int = 0


class Watch:
  """Looks out for signs in the rows of a run, in the order of their steps.

  Attributes:
    signs: those that are there after the last row. 'saturated' tells that D has won, so that G can no longer
      learn from it; 'coverage', 'classes', and 'distance' or 'far', that samples have become worse than they
      were.
  """

  def __init__(self, distance: str | None, probabilities: bool, rows: Iterable[Row] = ()):
    """Looks at the first rows.

    Args:
      distance: name of the distance that tells the best checkpoint, lower is better; None if there are no
        scores. Rows with it may have `coverage` in [0, 1] and, where the data has classes, `missing_classes`;
        only those by the last one's `protocol` are compared.
      probabilities: whether `d_real` and `d_fake`, the mean outputs of D, are such.
      rows: of metrics.
    """
    self._distance, self._probabilities = distance, probabilities
    self._gaps: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # steps, and D(x) - D(G(z))
    self._scored: dict[Any, _Scored] = {}  # by protocol
    self._of_scores: Signs = {}
    self.signs: Signs = {}
    for row in rows:
      self.add(row)

  def add(self, row: Row) -> Signs:
    """Looks at the next row; returns `signs`."""
    if self._probabilities and 'd_real' in row and 'd_fake' in row:
      self._gaps.append((row['step'], row['d_real'] - row['d_fake']))
    if self._distance is not None and self._distance in row:
      self._compare(row, self._distance)
    self.signs = self._of_outputs() | self._of_scores
    return self.signs

  def _compare(self, row: Row, distance: str) -> None:
    """Compares a row with those before it."""
    if 'coverage' not in row:
      return
    seen = self._scored.setdefault(row.get('protocol'), _Scored(row, row, row))
    seen.last = row
    seen.widest = max(seen.widest, row, key=lambda it: it['coverage'])
    seen.best = min(seen.best, row, key=lambda it: it[distance])
    seen.fewest = min(seen.fewest, row.get('missing_classes', 0))
    seen.count += 1
    self._of_scores = self._worse(seen, distance)

  def _of_outputs(self) -> Signs:
    """Returns the sign that D has won, or none."""
    gap = sum(gap for _, gap in self._gaps) / WINDOW
    if len(self._gaps) < WINDOW or not gap > SATURATED:
      return {}
    return {
      'saturated': f'D has won: D(x) - D(G(z)) is {gap:.3f} on average since step {self._gaps[0][0]}, and G '
      'learns little from it; try a lower discriminator_optimizer.learning_rate, train.real_label=0.9 or '
      'discriminator.dropout=0.3'
    }

  @staticmethod
  def _worse(seen: _Scored, distance: str) -> Signs:
    """Returns the signs that samples have become worse."""
    found, widest, best, last = {}, seen.widest, seen.best, seen.last
    if widest['coverage'] > LEAST and last['coverage'] < FALL * widest['coverage']:
      found['coverage'] = (
        f'mode collapse: coverage has fallen from {widest["coverage"]:.3f} at step {widest["step"]} to '
        f'{last["coverage"]:.3f}; G makes images like a small part of the data only'
      )
    if widest['coverage'] <= LEAST and seen.count >= PATIENCE:
      found['coverage'] = (
        f'G does not learn: in {seen.count} scores coverage has not been above {widest["coverage"]:.3f}; its '
        'images are like next to none of the data'
      )
    missing = last.get('missing_classes', 0)
    if missing > seen.fewest:
      found['classes'] = f'mode collapse: G has stopped making {missing:.0f} of the classes of the data'
    if last[distance] > RISE * best[distance]:
      found['far' if last[distance] > FAR * best[distance] else 'distance'] = (
        f'{distance.replace("_", " ")} has grown to {last[distance]:.1f} from {best[distance]:.1f} at step '
        f'{best["step"]}, whose checkpoint is kept (--checkpoint=best)'
      )
    return found


def grave(signs: Signs) -> str:
  """Returns the sentence of a sign for which a run would stop or go back; '' if there is none."""
  return next((signs[name] for name in GRAVE if name in signs), '')


def rollbacks(folder: Path) -> list[int]:
  """Returns the steps from which a run has gone back to its best checkpoint, in their order.

  Raises:
    InputError: the file that keeps them is broken.
  """
  path = folder / 'rollbacks.json'
  if not path.exists():
    return []
  try:
    steps = files.read_json(path)['from_steps']
  except (KeyError, TypeError):
    steps = None
  if not isinstance(steps, list) or not all(type(step) is int and 0 <= step < 2**31 for step in steps):
    raise InputError(f'{path}: has no list "from_steps" of steps; remove it')
  return steps


def note_rollback(folder: Path, step: int) -> None:
  """Keeps in the workdir that a run has gone back from a step."""
  workdir.write_json(folder / 'rollbacks.json', {'from_steps': [*rollbacks(folder), step]})
