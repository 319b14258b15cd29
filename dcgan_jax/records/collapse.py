"""Signs of collapse and of memorisation in the metrics of a run, in words, with what has helped in our runs.

GANs of this kind usually collapse sooner or later. Losses do not show it, but scores of samples do. D learns
a small data set by heart, and G what D knows.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.records import metrics
from dcgan_jax.settings import Settings

Row = Mapping[str, Any]
Signs = dict[str, str]  # a sentence for each sign, by a short name

WINDOW = 10  # rows of metrics that a sign is averaged over, because one batch says little
SATURATED = 0.9  # D(x) - D(G(z)) above which D is hardly ever wrong; 0.8 is usual in a good run
PREFERRED = 0.98  # The same under a relativistic loss, see `_of_outputs`; 0.92 is the most of our good runs.
PROBABILITIES = ('non_saturating', 'minimax')  # losses under which D's outputs are probabilities
LEAST = 0.05  # coverage below which nothing has been learned that could collapse
PATIENCE = 5  # scores after which the coverage should be above `LEAST`
FALL = 0.5  # share of the best coverage so far; less than it is a collapse
RISE, FAR = 1.5, 3.0  # multiples of the best distance so far, above which it is reported, and is a collapse
# Share of the pairs of a training and a held-out image in which D prefers the former, above which it knows
# them by heart. It is above that by chance once in a thousand times for the fewest images, 95 and 5 (a
# Mann-Whitney test), and more rarely for others.
BY_HEART = 0.9
USUAL = 2 / 3  # Largest share of new images that are as near as copies, see `neighbourhoods.share_of_copies`.
COPIES = 0.5  # share of samples that are copies, above which it is reported
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
      'classes', and 'distance' or 'far': samples have become worse. 'memorised': D knows the training images
      by heart. 'copied': G makes copies of them.
  """

  def __init__(
    self,
    distance: str | None,
    rows: Iterable[Row] = (),
    settings: Settings | None = None,
  ):
    """Starts with some rows.

    Args:
      distance: Name of the score that ranks checkpoints, the lower the better; None if there are no scores.
        Rows with it may have `coverage` in [0, 1] and, if the data has classes, `missing_classes`. Only rows
        with the `protocol` of the last one are compared.
      rows: The first rows of metrics.
      settings: The run's settings; None if they are unknown, when D's outputs are taken for probabilities.
    """
    self._distance = distance
    self._loss = settings.train.loss if settings else PROBABILITIES[0]
    self._steadier, self._against_memory = _steadier(settings), _against_memory(settings)
    self._outputs: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # steps, and what tells whether D has won
    self._scored: dict[Any, _Scored] = {}  # by protocol
    self._of_scores: Signs = {}
    self._of_memory: Signs = {}
    self.signs: Signs = {}
    for row in rows:
      self.add(row)

  def add(self, row: Row) -> Signs:
    """Adds the next row and returns `signs`."""
    if self._loss in PROBABILITIES and 'd_real' in row and 'd_fake' in row:
      self._outputs.append((row['step'], row['d_real'] - row['d_fake']))
    elif (
      self._loss == 'relativistic' and row.get('loss_d', -1) >= 0
    ):  # Losses of a run before may be negative.
      self._outputs.append((row['step'], row['loss_d']))
    if self._distance is not None and self._distance in row:
      self._compare(row, self._distance)
      self._of_memory = self._memorised(row)
    self.signs = self._of_outputs() | self._of_scores | self._of_memory
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
    if len(self._outputs) < WINDOW:
      return {}
    mean = sum(value for _, value in self._outputs) / WINDOW
    if self._loss == 'relativistic':
      sure = math.exp(-mean)  # The loss is the mean of -log of this probability.
      won, what = sure > PREFERRED, f'it tells a real image from a sample with a probability of {sure:.3f}'
    else:
      won, what = mean > SATURATED, f'D(x) - D(G(z)) is {mean:.3f}'
    if not won:
      return {}
    since = f'on average since step {self._outputs[0][0]}'
    return {'saturated': f'D has won: {what} {since}, and G learns little from it{self._steadier}'}

  def _memorised(self, row: Row) -> Signs:
    """Returns the signs that the training images are learnt by heart."""
    found, preferred, copied = {}, row.get('d_prefers_training', 0), row.get('copied', 0)
    if preferred > BY_HEART:
      found['memorised'] = (
        'D knows the training images by heart: it prefers them to held-out ones in '
        f'{preferred:.0%} of pairs, where 50% is chance{self._against_memory}'
      )
    usual = max(USUAL, row.get('copied_real', 0))
    # Copies of a share c beside others that are as near as new images make usual + c (1 - usual).
    if copied - usual > COPIES * (1 - usual):
      found['copied'] = (
        f'G copies: {copied:.0%} of the samples, and {row.get("copied_real", 0):.0%} of held-out images, are '
        f'nearer to a training image than that is to any other{self._against_memory}'
      )
    return found

  def _worse(self, seen: _Scored, distance: str) -> Signs:
    """Returns the signs that samples have become worse."""
    found, widest, best, last = {}, seen.widest, seen.best, seen.last
    if widest['coverage'] > LEAST and last['coverage'] < FALL * widest['coverage']:
      found['coverage'] = (
        f'mode collapse: coverage has fallen from {widest["coverage"]:.3f} at step {widest["step"]} to '
        f'{last["coverage"]:.3f}; the samples resemble only a small part of the data{self._steadier}'
      )
    if widest['coverage'] <= LEAST and seen.count >= PATIENCE:
      found['coverage'] = (
        f'G does not learn: in {seen.count} scores coverage has not been above {widest["coverage"]:.3f}; its '
        f'samples resemble almost none of the data{self._steadier}'
      )
    missing = last.get('missing_classes', 0)
    if missing > seen.fewest:
      found['classes'] = (
        f'mode collapse: {missing:.0f} classes of the data are missing from the samples, where only '
        f'{seen.fewest:.0f} were missing before{self._steadier}'
      )
    if last[distance] > RISE * best[distance]:
      found['far' if last[distance] > FAR * best[distance] else 'distance'] = (
        f'{metrics.words(distance)} has grown to {last[distance]:.1f} from {best[distance]:.1f} at step '
        f'{best["step"]}, whose checkpoint is kept (--checkpoint=best)'
      )
    return found


def _steadier(settings: Settings | None) -> str:
  """Returns the advice to train with what has not collapsed in our ablation (docs/measurements/ablation.md).

  It is '' for a run that does so already.
  """
  if settings is None:
    return '; what helped in our runs is the recipe of configs/modern.py, in a new run'
  train, changes = settings.train, {}
  if not (train.loss == 'relativistic' and train.r1 and train.r2):
    no_norm = f"'{(False,) * len(settings.discriminator.norm)}'"
    changes = {'train.loss': 'relativistic', 'train.r1': 1, 'train.r2': 1, 'discriminator.norm': no_norm}
    for network in ('generator', 'discriminator'):
      changes |= {f'{network}_optimizer.b1': 0, f'{network}_optimizer.b2': 0.99}
  if settings.generator.upsample == 'transposed':
    changes['generator.upsample'] = 'filtered'
  if not changes:
    return ''
  flags = ' '.join(f'--config.{key}={value}' for key, value in changes.items())
  return f'; what helped in our runs, in a new --workdir: {flags}'


def _against_memory(settings: Settings | None) -> str:
  """Returns the advice for images that are learnt by heart, without what the run does already."""
  flags = ['--checkpoint=best (of an earlier step)', 'more images']
  if settings is None or not settings.data.flip:
    flags.append('--config.data.flip=True (unless left and right differ)')
  if settings is None or 'translation' not in settings.train.augment:
    flags.append('--config.train.augment=translation (unless the ground is plain)')
  if settings is not None:
    narrow = tuple(max(1, width // 2) for width in settings.discriminator.widths)
    flags.append(f"--config.discriminator.widths='{narrow}' (a narrower D)")
  return f'; try {", ".join(flags)}'


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
