"""Signs that a GAN has stopped learning, found in the metrics of its run and put in plain words.

GANs of this kind usually collapse sooner or later. Losses do not tell it, but scores of samples do.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.journal import metrics, workdir

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


def of_outputs(rows: Sequence[Row]) -> Signs:
  """Finds out whether D has won, so that G can no longer learn from it.

  Args:
    rows: of metrics, in the order of their steps; some have `d_real` and `d_fake`, the mean outputs of D as
      probabilities.

  Returns:
    The sign 'saturated', or none.
  """
  # There may be many more rows of scores.
  latest = (row for row in reversed(rows) if {'d_real', 'd_fake'} <= row.keys())
  outputs = list(itertools.islice(latest, WINDOW))[
    ::-1
  ]  # Rows of scores may be many more than those of losses.
  if len(outputs) < WINDOW:
    return {}
  gap = float(np.mean([row['d_real'] - row['d_fake'] for row in outputs]))
  if gap <= SATURATED:
    return {}
  return {
    'saturated': f'D has won: D(x) - D(G(z)) is {gap:.3f} on average since step {outputs[0]["step"]}, and G '
    'learns little from it; try a lower discriminator_optimizer.learning_rate, train.real_label=0.9 or '
    'discriminator.dropout=0.3'
  }


def of_scores(rows: Sequence[Row], distance: str) -> Signs:
  """Finds out whether samples have become worse than they were.

  Args:
    rows: of metrics, in the order of their steps; some have scores: `coverage` in [0, 1], a distance and,
      where the data has classes, `missing_classes`; only those by the last one's `protocol` are compared.
    distance: name of the distance that tells the best checkpoint; lower is better.

  Returns:
    Those of the signs 'coverage', 'classes', and 'distance' or 'far', that are there.
  """
  scored = [row for row in metrics.comparable(rows, distance) if 'coverage' in row]
  if not scored:
    return {}
  found, last = {}, scored[-1]
  widest = max(scored, key=lambda row: row['coverage'])
  if widest['coverage'] > LEAST and last['coverage'] < FALL * widest['coverage']:
    found['coverage'] = (
      f'mode collapse: coverage has fallen from {widest["coverage"]:.3f} at step {widest["step"]} to '
      f'{last["coverage"]:.3f}; G makes images like a small part of the data only'
    )
  if widest['coverage'] <= LEAST and len(scored) >= PATIENCE:
    found['coverage'] = (
      f'G does not learn: in {len(scored)} scores coverage has not been above {widest["coverage"]:.3f}; its '
      'images are like next to none of the data'
    )
  missing = last.get('missing_classes', 0)
  if missing > min(row.get('missing_classes', 0) for row in scored):
    found['classes'] = f'mode collapse: G has stopped making {missing:.0f} of the classes of the data'
  best = min(scored, key=lambda row: row[distance])
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
