"""Scores of generated images: their definitions, and `SCORES`, the table that every other module reads.

A new score is an entry of the table. With it the score is in evaluation.json and metrics.jsonl, in the log of
training, in scores.png, in the report and on the model card.

Definitions are NumPy in float64. Protocols are those of the papers; what these leave open, such as the order
of random subsets, follows torch-fidelity. Importing this module does not import JAX.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dcgan_jax.evaluation.neighbourhoods import Manifold, distances_to_others, manifold, share_of_copies
from dcgan_jax.media.plots import Axis

LEAST_OF_MOMENTS = 2  # images, because one has no covariance
MOST_NEIGHBOURS = 10_000  # images of either kind whose neighbourhoods are taken
SUBSET_SEED = 2020  # the seed of torch-fidelity, so that figures agree to the last digit


class Moments(NamedTuple):
  """Mean [D] and covariance [D, D] of features; the latter divides by N - 1."""

  mean: np.ndarray
  covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
  """Returns the mean and the covariance of features [N, D], where N is `LEAST_OF_MOMENTS` or more."""
  features = np.asarray(features, np.float64)
  return Moments(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Moments, b: Moments) -> float:
  """Computes the squared Frechet distance of two Gaussians (Heusel et al. 2017), FID of Inception's features.

  It is |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)). The trace of the root is the sum of the square roots
  of the eigenvalues of the symmetric matrix A^(1/2) B A^(1/2). This needs no complex root and no epsilon on
  the diagonal, and it is exact for fewer samples than features, where covariances are singular.
  """
  values, vectors = np.linalg.eigh(a.covariance)
  root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
  product = np.linalg.eigvalsh(root @ b.covariance @ root)
  cross = np.sqrt(np.maximum(product, 0.0)).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  return float(np.square(a.mean - b.mean).sum() + traces - 2.0 * cross)


class Estimate(NamedTuple):
  """A mean over subsets or splits, and its spread: a standard error or a standard deviation."""

  value: float
  spread: float


def kernel_distance(
  fake: np.ndarray, real: np.ndarray, subsets: int = 100, subset_size: int = 1000
) -> Estimate:
  """Computes the kernel distance (Binkowski et al. 2018), KID of Inception's features.

  It is the unbiased squared maximum mean discrepancy with the kernel (x y / D + 1)^3, averaged over random
  subsets.

  Args:
    fake: Features [N, D].
    real: Features [M, D].
    subsets: Number of subsets.
    subset_size: Number of images of each kind in a subset, clamped to N and M.

  Returns:
    The mean and its standard error over the subsets.

  Raises:
    ValueError: There are fewer than 2 images of either kind.
  """
  size = min(subset_size, len(fake), len(real))
  if size < 2:
    raise ValueError(f'{len(fake)} and {len(real)} images: a kernel distance takes 2 or more of each')
  fake, real = np.asarray(fake, np.float64), np.asarray(real, np.float64)
  random = np.random.RandomState(SUBSET_SEED)
  values = []
  for _ in range(subsets):
    x = fake[random.choice(len(fake), size, replace=False)]
    y = real[random.choice(len(real), size, replace=False)]
    within = [
      (kernel.sum() - np.trace(kernel)) / (size * (size - 1)) for kernel in map(_kernel, (x, y), (x, y))
    ]
    values.append(sum(within) - 2.0 * _kernel(x, y).mean())
  return Estimate(float(np.mean(values)), float(np.std(values) / np.sqrt(subsets)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the cubic kernel of each pair of rows, [N, M]."""
  return (x @ y.T / x.shape[1] + 1.0) ** 3


def inception_score(probabilities: np.ndarray, splits: int = 10) -> Estimate:
  """Computes exp of the mean divergence of p(class | image) from p(class) (Salimans et al. 2016).

  Args:
    probabilities: Class probabilities [N, K]; each row sums to 1.
    splits: Number of parts of the shuffled images; each part is scored by itself.

  Returns:
    The mean and the standard deviation over the splits.

  Raises:
    ValueError: There are fewer images than splits.
  """
  count = len(probabilities)
  if count < splits:
    raise ValueError(f'{count} images: an Inception score over {splits} splits takes {splits} or more')
  p = np.asarray(probabilities, np.float64)[np.random.RandomState(SUBSET_SEED).permutation(count)]
  parts = (p[i * count // splits : (i + 1) * count // splits] for i in range(splits))
  values = [np.exp(_divergence(part, part.mean(0)).mean()) for part in parts]
  return Estimate(float(np.mean(values)), float(np.std(values)))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """Returns the Kullback-Leibler divergence along the last axis, in nats; 0 log 0 is 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(-1)


class Coverage(NamedTuple):
  """How generated images are spread over the classes of the data.

  Attributes:
    histogram: Share of generated images in each class, [K].
    missing: Classes with less than a tenth of their share of the data.
    divergence: KL(generated || data) in nats; infinite if images are in a class without data.
  """

  histogram: np.ndarray
  missing: list[int]
  divergence: float


def class_coverage(predicted: np.ndarray, shares: np.ndarray) -> Coverage:
  """Compares the classes of generated images with those of the data.

  Args:
    predicted: Class of each generated image, integers [N] in [0, K).
    shares: Share of each class in the data, [K]; they sum to 1.
  """
  histogram = np.bincount(predicted, minlength=len(shares)) / len(predicted)
  missing = np.flatnonzero(histogram < 0.1 * shares)
  return Coverage(histogram, [int(i) for i in missing], float(_divergence(histogram, np.asarray(shares))))


class Modes(NamedTuple):
  """Classes that images reach, as benchmarks of mode collapse count them.

  Attributes:
    modes: Number of classes with at least one image.
    kl_to_uniform: KL(classes of the images || uniform) in nats (Lin et al. 2018, section 4.1).
  """

  modes: int
  kl_to_uniform: float


def modes(probabilities: np.ndarray) -> Modes:
  """Counts the classes of images with these class probabilities, [N, K]."""
  count = probabilities.shape[1]
  histogram = np.bincount(probabilities.argmax(1), minlength=count) / len(probabilities)
  return Modes(int((histogram > 0).sum()), float(_divergence(histogram, np.full(count, 1 / count))))


class Judged(NamedTuple):
  """Logits of D for images that it is trained on, float32 [N], and for held-out ones, float32 [M]."""

  training: np.ndarray
  held_out: np.ndarray

  @property
  def preferred(self) -> float:
    """Share of the pairs of one of each in which D prefers the training image: the AUC of LOGAN's attack.

    It does not depend on the scale of logits, and so not on the loss. As long as D has not learned which
    images it has seen, it is 1/2 on average, since held-out images are like the others; where D knows its
    images by heart, it is 1 (Hayes et al. 2019).
    """
    above, below = (sign * (self.training[:, None] - self.held_out) > 0 for sign in (1, -1))
    return float(0.5 + 0.5 * (above.mean() - below.mean()))


@dataclass(frozen=True)
class Divided:
  """Features of the images that a run is trained on, and of those that are held out.

  Attributes:
    training: Features of at most `MOST_NEIGHBOURS` images, float32 [T, D].
    held_out: Features of all that are held out, float32 [H, D].
  """

  training: np.ndarray
  held_out: np.ndarray

  def copies(self, features: np.ndarray) -> float:
    """Returns the share of images with these features that are as near to training images as copies are."""
    return share_of_copies(features, self.training, self._distances, _on_device())

  @functools.cached_property
  def copies_held_out(self) -> float:
    """The same share of the held-out images, which are no copies."""
    return self.copies(self.held_out)

  @functools.cached_property
  def _distances(self) -> np.ndarray:
    return distances_to_others(self.training, _on_device())


def _on_device() -> bool:
  """Returns whether distances are computed by JAX.

  An accelerator would wait seconds for its host. Where there is none, float64 costs little more.
  """
  import jax

  return jax.default_backend() != 'cpu'


@dataclass(frozen=True)
class Real:
  """The real images, as scores see them.

  Attributes:
    moments: Moments of the features of all of them.
    features: Features of those whose neighbourhoods are taken, float32 [M, D].
    load: Loads all of them, [L, H, W, C] in the pixel format of the run.
    shares: Share of each class, [K]; None where the extractor does not predict classes of the data.
    stacked: Whether classes are triples, too many to list.
    divided: Features of training and held-out images; None if none are held out.
  """

  moments: Moments
  features: np.ndarray
  load: Callable[[], np.ndarray]
  shares: np.ndarray | None
  stacked: bool
  divided: Divided | None = None

  @functools.cached_property
  def pixels(self) -> np.ndarray:
    """All real images, [L, H, W, C]; loaded when a score first asks for them."""
    return self.load()


@dataclass(frozen=True)
class Seen:
  """Generated and real images, as scores see them. What scores share is computed once.

  Attributes:
    kind: Kind of the extractor, 'classifier' | 'inception'.
    pixels: Generated images, [N, H, W, C] in the pixel format of the run.
    features: Features of the generated images, float32 [N, D].
    probabilities: Class probabilities of the generated images, float32 [N, K].
    real: The real images.
    asked: Classes that G was asked for, integers [N]; None if it was asked for none.
    judged: D's logits of training and held-out images; None if none are held out, or outside training.
  """

  kind: str
  pixels: np.ndarray
  features: np.ndarray
  probabilities: np.ndarray
  real: Real
  asked: np.ndarray | None = None
  judged: Judged | None = None

  @functools.cached_property
  def moments(self) -> Moments:
    """Moments of the features of the generated images."""
    return moments(self.features)

  @functools.cached_property
  def neighbourhoods(self) -> Manifold:
    """Precision, recall, density and coverage."""
    return manifold(self.features[:MOST_NEIGHBOURS], self.real.features, on_device=_on_device())

  @functools.cached_property
  def kernel_distance(self) -> Estimate:
    """Kernel distance of the features."""
    return kernel_distance(self.features, self.real.features)

  @functools.cached_property
  def inception_score(self) -> Estimate:
    """Inception score of the class probabilities."""
    return inception_score(self.probabilities)

  @functools.cached_property
  def predicted(self) -> np.ndarray:
    """Most probable class of each generated image, integers [N]."""
    return self.probabilities.argmax(1)

  @functools.cached_property
  def classes(self) -> Coverage | None:
    """Spread over the classes of the data; None if these are not known, or too many to list."""
    if self.real.shares is None or self.real.stacked:
      return None
    return class_coverage(self.predicted, self.real.shares)

  @functools.cached_property
  def modes(self) -> Modes | None:
    """Classes reached; None if they are not counted."""
    return modes(self.probabilities) if self.real.stacked else None


@dataclass(frozen=True)
class Score:
  """An entry of the table.

  Attributes:
    name: Key in metrics.jsonl and evaluation.json.
    label: Name in charts and on pages.
    value: Function from what was seen to the score; None where the score does not apply.
    axis: Axis of its chart, which scores may share. A score with None is in files, but neither in charts, at
      the head of a report nor in the log of training.
    kind: Kind of extractor that it takes; '' for any.
    section: Section of evaluation.json with its details, which takes its place there; '' for none.
  """

  name: str
  label: str
  value: Callable[[Seen], float | None]
  axis: Axis | None = None
  kind: str = ''
  section: str = ''


def _frechet_distance(seen: Seen) -> float:
  return frechet_distance(seen.moments, seen.real.moments)


def _agreement(seen: Seen) -> float | None:
  """Returns the share of images whose predicted class is the one that G was asked for."""
  return None if seen.asked is None else float((seen.predicted == seen.asked).mean())


def _copied(seen: Seen) -> float | None:
  divided = seen.real.divided
  return None if divided is None else divided.copies(seen.features[:MOST_NEIGHBOURS])


_COPIES = Axis(
  'Nearer to a training image than that is to any other',
  'share',
  'lower',
  'A generator that copies its training images has 1. Held-out real images are no copies and show what is '
  'usual.',
)
_PREFERRED = Axis(
  'Pairs in which D prefers a training image to a held-out one',
  'share',
  'lower',
  '0.5 if D cannot tell which images it was trained on, 1 if it knows them by heart.',
)
_SHARES = Axis('Precision, recall and coverage', 'share', 'higher')

SCORES = (
  Score(
    'classifier_frechet_distance',
    'Fréchet distance',
    _frechet_distance,
    Axis('Fréchet distance', 'log', 'lower'),
    kind='classifier',
  ),
  Score('fid', 'FID', _frechet_distance, Axis('FID', 'log', 'lower'), kind='inception'),
  Score('kid', 'KID', lambda seen: seen.kernel_distance.value, kind='inception'),
  Score('kid_error', 'KID error', lambda seen: seen.kernel_distance.spread, kind='inception'),
  Score('inception_score', 'Inception score', lambda seen: seen.inception_score.value, kind='inception'),
  Score(
    'inception_score_deviation',
    'Inception score deviation',
    lambda seen: seen.inception_score.spread,
    kind='inception',
  ),
  Score('precision', 'precision', lambda seen: seen.neighbourhoods.precision, _SHARES),
  Score('recall', 'recall', lambda seen: seen.neighbourhoods.recall, _SHARES),
  Score('density', 'density', lambda seen: seen.neighbourhoods.density),
  Score('coverage', 'coverage', lambda seen: seen.neighbourhoods.coverage, _SHARES),
  Score(
    'agreement',
    'agreement',
    _agreement,
    Axis('Images of the class asked for', 'share', 'higher'),
    kind='classifier',
    section='asked',
  ),
  Score(
    'missing_classes',
    'missing classes',
    lambda seen: seen.classes and len(seen.classes.missing),
    Axis('Missing classes', 'count', 'lower'),
    section='classes',
  ),
  Score(
    'modes', 'modes', lambda seen: seen.modes and seen.modes.modes, Axis('Modes found', 'count', 'higher')
  ),
  Score('kl_to_uniform', 'KL to uniform', lambda seen: seen.modes and seen.modes.kl_to_uniform),
  Score('copied', 'copied samples', _copied, _COPIES),
  Score(
    'copied_real',
    'copied held-out images',
    lambda seen: seen.real.divided.copies_held_out if seen.real.divided else None,
    _COPIES,
  ),
  Score(
    'd_training', 'logit of training images', lambda seen: seen.judged and float(seen.judged.training.mean())
  ),
  Score(
    'd_held_out', 'logit of held-out images', lambda seen: seen.judged and float(seen.judged.held_out.mean())
  ),
  Score(
    'd_prefers_training',
    'training images preferred by D',
    lambda seen: seen.judged and seen.judged.preferred,
    _PREFERRED,
  ),
)

# The score that ranks checkpoints, lower is better, by kind of extractor.
DISTANCE = {'classifier': 'classifier_frechet_distance', 'inception': 'fid'}


def take(seen: Seen) -> dict[str, float]:
  """Returns the scores that apply, by name, in the order of the table."""
  values = {score.name: score.value(seen) for score in SCORES if score.kind in ('', seen.kind)}
  return {name: value for name, value in values.items() if value is not None}


def charts() -> dict[Axis, dict[str, str]]:
  """Returns the charts of scores: for each axis the labels of its scores, by name."""
  found: dict[Axis, dict[str, str]] = {}
  for score in SCORES:
    if score.axis:
      found.setdefault(score.axis, {})[score.name] = score.label
  return found


def label(name: str) -> str:
  """Returns the label of a score; of one that is not in this version of the table, its name in words."""
  known = {score.name: score.label for score in SCORES}
  return known.get(name, name.replace('_', ' '))
