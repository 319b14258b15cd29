"""Signs of collapse in the metrics of a run, in words.

GANs of this kind usually collapse sooner or later. Losses do not show it, but scores of samples do.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.settings import Settings

Row = Mapping[str, Any]
Signs = dict[str, str]  # a sentence for each sign, by a short name

WINDOW = 10  # rows of metrics that a sign is averaged over, because one batch says little
SATURATED = 0.9  # D(x) - D(G(z)) above which D is hardly ever wrong; 0.8 is usual in a good run
LEAST = 0.05  # coverage below which nothing has been learned that could collapse
PATIENCE = 5  # scores after which the coverage should be above `LEAST`
FALL = 0.5  # share of the best coverage so far; less than it is a collapse
RISE, FAR = 1.5, 3.0  # multiples of the best distance so far, above which it is reported, and is a collapse
GRAVE = ('saturated', 'coverage', 'far')  # signs for which `train.on_collapse=stop` stops a run


@dataclass
class _Scored:
  """The rows that a score is compared with, all of one protocol."""

  widest: Row
  best: Row
  last: Row
  fewest: float = math.inf  # missing classes
  count: int = 0


class Watch:
  """Finds signs of collapse in the rows of a run, in the order of their steps.

  Attributes:
    signs: Signs after the last row. 'saturated': D has won, and G can no longer learn from it. 'coverage',
      'classes', and 'distance' or 'far': samples have become worse.
  """

  def __init__(self, distance: str | None, probabilities: bool, rows: Iterable[Row] = ()):
    """Starts with some rows.

    Args:
      distance: Name of the score that ranks checkpoints, the lower the better; None if there are no scores.
        Rows with it may have `coverage` in [0, 1] and, if the data has classes, `missing_classes`. Only rows
        with the `protocol` of the last one are compared.
      probabilities: Whether `d_real` and `d_fake`, the mean outputs of D, are probabilities.
      rows: The first rows of metrics.
    """
    self._distance, self._probabilities = distance, probabilities
    self._gaps: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # steps, and D(x) - D(G(z))
    self._scored: dict[Any, _Scored] = {}  # by protocol
    self._of_scores: Signs = {}
    self.signs: Signs = {}
    for row in rows:
      self.add(row)

  def add(self, row: Row) -> Signs:
    """Adds the next row and returns `signs`."""
    if self._probabilities and 'd_real' in row and 'd_fake' in row:
      self._gaps.append((row['step'], row['d_real'] - row['d_fake']))
    if self._distance is not None and self._distance in row:
      self._compare(row, self._distance)
    self.signs = self._of_outputs() | self._of_scores
    return self.signs

  def _compare(self, row: Row, distance: str) -> None:
    """Compares a row's scores with earlier ones."""
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
    """Returns the sign that D has won, if it has."""
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
        f'{last["coverage"]:.3f}; the samples resemble only a small part of the data'
      )
    if widest['coverage'] <= LEAST and seen.count >= PATIENCE:
      found['coverage'] = (
        f'G does not learn: in {seen.count} scores coverage has not been above {widest["coverage"]:.3f}; its '
        'samples resemble almost none of the data'
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
  """Returns the sentence of a sign for which a run may stop; '' if there is none."""
  return next((signs[name] for name in GRAVE if name in signs), '')


def check_rates(folder: Path, settings: Settings) -> None:
  """Refuses a run whose learning rates were halved by the retired `train.on_collapse=rollback`.

  Raises:
    InputError: The rates were halved, and the message says how to continue; or rollbacks.json is broken.
  """
  path = folder / 'rollbacks.json'
  if not path.exists():
    return
  content = files.read_json(path)
  steps = content.get('from_steps') if isinstance(content, dict) else None
  if not isinstance(steps, list):
    raise InputError(f'{path}: has no list of steps named "from_steps"; remove the file')
  if steps:
    rates = ' '.join(
      f'--config.{name}.learning_rate={getattr(settings, name).learning_rate / 2 ** len(steps):g}'
      for name in ('generator_optimizer', 'discriminator_optimizer')
    )
    raise InputError(
      f'{path}: train.on_collapse=rollback, which is retired, has halved both learning rates of this run '
      f"{len(steps)} times; to continue with those, remove the file and give the run's --config, {rates} and "
      '--allow_config_change'
    )
