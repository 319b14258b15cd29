"""Networks whose features are compared, and the statistics of those of real images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import data, files
from dcgan_jax.core.models import normalize
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.data.sources import Stacked
from dcgan_jax.devices import placement, processes, programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, inception, learned, scores
from dcgan_jax.evaluation.scores import MOST_NEIGHBOURS
from dcgan_jax.runs.experiment import Experiment

HARDLY = 1.4  # times the accuracy by chance, below which rotations are hardly told apart
BATCH_SIZE = {'classifier': 256, 'inception': 32}  # images on each device at a time

Features = dict[str, np.ndarray]  # 'features' [N, D] and 'probabilities' [N, K], float32


class Extractor(NamedTuple):
  """A network that turns images into features and class probabilities.

  Attributes:
    kind: 'classifier' | 'inception'.
    protocol: Network, weights and resizer, as a part of `scoring.Comparison.protocol`.
    look: Function from images in the pixel format of the run, [N, H, W, C], to their `Features`.
    description: Network, weights and resizer in words.
    of_rotations: Whether it has learned rotations, so that its classes are not those of the data.
  """

  kind: str
  protocol: str
  look: Callable[[np.ndarray], Features]
  description: str = ''
  of_rotations: bool = False


@dataclass(frozen=True)
class Chosen:
  """The choice of an extractor.

  Attributes:
    kind: 'classifier', a small network that first learns the classes of the data or, without classes,
      rotations; or 'inception', for FID.
    weights: Path of Inception's file; None for the one in the cache.
    download: Whether the file may be downloaded to the cache.
    resizer: Resizer of images for Inception, see `inception.preprocess`.
  """

  kind: str
  weights: str | None = None
  download: bool = False
  resizer: str = 'tf1'


# The classes of the real images, None without any, and a function from these images to the extractor.
Prepared = tuple[Labels | None, Callable[[np.ndarray], Extractor]]


def prepare(chosen: Chosen, experiment: Experiment, folder: Path | None = None) -> Prepared:
  """Checks that an extractor is available, before any image is decoded.

  Args:
    chosen: The choice.
    experiment: Run whose data a classifier learns.
    folder: Workdir, which keeps the classifier; None for none.

  Returns:
    The labels of the real images, None for Inception and where there are none; and the function that makes
    the extractor from all real images, [N, H, W, C].

  Raises:
    InputError: Inception's weights are missing, or the images do not fit it; or the data does not have the
      classes of a conditional run.
  """
  fit = experiment.fit
  if chosen.kind == 'inception' and fit.channels not in (1, 3):
    raise InputError(
      f'features=inception: takes images of 1 or 3 channels, and data.channels={fit.channels}; take '
      'features=classifier'
    )
  if chosen.kind == 'inception':
    variables = inception.read_weights(find_weights(chosen.weights, chosen.download))
    return None, lambda real: inception_extractor(variables, chosen.resizer, fit.pixels)
  source, labels = experiment.source, experiment.labels
  if labels is not None:
    return labels, lambda real: learned_extractor(source, real, labels, folder)
  labels = _labels_if_any(source)
  return labels, lambda real: classes_or_rotations(source, real, labels, folder)


def _labels_if_any(source: data.Source) -> Labels | None:
  """Returns the labels of images of two or more classes; None if there are none, or only of some images."""
  try:
    labels = source.labels()
  except InputError:
    return None
  return labels if len(labels.names) > 1 else None


def classes_or_rotations(
  source: data.Source, real: np.ndarray, labels: Labels | None, folder: Path | None
) -> Extractor:
  """Returns the `learned_extractor`; that of rotations if there are no classes, or none that can be learned.

  A run that has been scored by rotations still is.
  """
  if labels is not None and not learned.keeps_rotations(folder):
    try:
      return learned_extractor(source, real, labels, folder)
    except InputError as error:
      reason = str(error).partition(': ')[2].rpartition('; ')[0]
      print(f'scores are by rotations and not by a classifier: {reason}', flush=True)
  return rotations_extractor(source, real, folder)


def find_weights(weights: str | None, download: bool) -> Path:
  """Returns the path of Inception's file, after checking its content.

  Args:
    weights: Path of the file; None for the one in the cache.
    download: Whether to download a file that is missing from the cache.

  Raises:
    InputError: There is no such file, or it is not the published one.
  """
  path = files.named('weights', weights) if weights else cache.folder() / 'weights' / inception.WEIGHTS
  if not path.exists() and download and not weights:
    inception.download(path)
  elif not path.exists() and not weights:
    raise InputError(
      f'features=inception: no weights in {path}; --mode=evaluate gets them by --download, or give the path '
      f'of {inception.URL}'
    )
  inception.check_published(path)
  return path


def learned_extractor(
  source: data.Source, real: np.ndarray, labels: Labels, folder: Path | None
) -> Extractor:
  """Returns `stacked_extractor` for stacked images, `classifier_extractor` for others."""
  if isinstance(source, Stacked):
    return stacked_extractor(source, folder)
  return classifier_extractor(source, real, labels, folder)


def classifier_extractor(
  source: data.Source, real: np.ndarray, labels: Labels, folder: Path | None = None
) -> Extractor:
  """Returns the classifier kept by a run, else one of its data, which the run then keeps, see `learned`.

  Args:
    source: Source of the real images.
    real: All of them, [N, H, W, C] in the pixel format of the run.
    labels: Their classes.
    folder: Workdir of the run; None for no run.

  Raises:
    InputError: Some labelled images could not be decoded, or the classifier is not accurate enough.
  """
  if len(labels.classes) != len(real):
    raise InputError('features=classifier: images that cannot be decoded have labels; remove them')
  pixels = source.fit.pixels
  found = learned.classifier_for_run(_identity(source), real, labels, folder, pixels)
  apply = classifier.Classifier(len(labels.names), pixels).apply
  return Extractor(
    'classifier',
    f'features=classifier/{classifier.VERSION} weights={found.fingerprint}',
    _make_look(apply, found.variables, 'classifier'),
    f'{classifier.FEATURES} features of a classifier of the data, {found.accuracy:.1%} right on held-out '
    'images; not comparable to FID',
  )


def rotations_extractor(source: data.Source, real: np.ndarray, folder: Path | None = None) -> Extractor:
  """Returns the network of rotations kept by a run, else one of its data, which the run then keeps.

  The arguments are those of `classifier_extractor`.
  """
  pixels = source.fit.pixels
  found = learned.classifier_for_run(_identity(source), real, None, folder, pixels)
  chance = 1 / classifier.ROTATIONS
  if found.accuracy < HARDLY * chance and processes.is_main():
    print(
      f'rotations of these images are told apart in {found.accuracy:.0%} of held-out cases, {chance:.0%} by '
      'chance: scores say little about them; those of --features=inception may say more',
      flush=True,
    )
  return Extractor(
    'classifier',
    f'features=rotations/{classifier.ROTATIONS_VERSION} weights={found.fingerprint}',
    _make_look(classifier.of_rotations(real, pixels).apply, found.variables, 'classifier'),
    'the last convolution, whitened, of a network that tells how images of the data are rotated, '
    f'{found.accuracy:.1%} right on held-out images; not comparable to FID',
    of_rotations=True,
  )


def stacked_extractor(source: Stacked, folder: Path | None = None) -> Extractor:
  """Returns the classifier of the gray images, applied to each channel of stacked ones.

  The features of the three channels are concatenated. The probability of a class, which is a triple, is the
  product of those of its members.

  Raises:
    InputError: See `classifier_extractor`.
  """
  gray = classifier_extractor(source.gray, source.images, source.gray.labels(), folder)

  def look(images: np.ndarray) -> Features:
    found = [gray.look(images[..., i : i + 1]) for i in range(3)]
    a, b, c = (one['probabilities'] for one in found)
    probabilities = np.einsum('na,nb,nc->nabc', a, b, c).reshape(len(images), -1)
    return {'features': np.concatenate([one['features'] for one in found], 1), 'probabilities': probabilities}

  protocol = gray.protocol.replace('features=', 'features=channels:')
  return gray._replace(protocol=protocol, look=look, description=f'for each channel {gray.description}')


def inception_extractor(variables: Any, resizer: str, pixels: Pixels = BYTES) -> Extractor:
  """Returns Inception-v3, the network of FID.

  Args:
    variables: Variables of the network, see `inception.read_weights`.
    resizer: 'tf1' | 'pytorch', see `inception.preprocess`.
    pixels: Pixel format; images are scaled to 0..255 from any.
  """

  def apply(variables: Any, images: Any) -> Any:
    if pixels != BYTES:
      images = (normalize(images, pixels) + 1.0) * 127.5
    return inception.Inception().apply(variables, inception.preprocess(images, resizer))

  return Extractor(
    'inception',
    f'features=inception weights={inception.SHA256[:8]} resizer={resizer}',
    _make_look(apply, variables, 'inception'),
    f'Inception-v3 2015-12-05, pool features; images resized by {resizer} bilinear to 299x299',
  )


def _make_look(apply: Callable[..., Any], variables: Any, kind: str) -> Callable[[np.ndarray], Features]:
  """Makes the `look` of an extractor, which uses all devices.

  Args:
    apply: Function from variables and images to features [B, D] and logits [B, K].
    variables: Variables of the network.
    kind: 'classifier' | 'inception'.
  """

  def look(variables: Any, images: Any) -> dict[str, Any]:
    features, logits = apply(variables, images)
    return {'features': features, 'probabilities': jax.nn.softmax(logits.astype(jnp.float32))}

  mesh = placement.mesh()
  mapped = programs.map_rows(look, mesh)
  placed = jax.device_put(variables, placement.replicated(mesh))
  return lambda images: mapped(placed, images, BATCH_SIZE[kind])


def reference(source: data.Source, real: np.ndarray, extractor: Extractor) -> dict[str, np.ndarray]:
  """Returns statistics of the features of real images; with one process they are kept in the cache.

  Args:
    source: Source of the real images.
    real: All of them, [N, H, W, C].
    extractor: Extractor of the features.

  Returns:
    'mean' [D] and 'covariance' [D, D] of the features of all images; 'features' [M, D] of those that
    `kept_images` selects.
  """

  def make() -> dict[str, np.ndarray]:
    features = extractor.look(real)['features']
    mean, covariance = scores.moments(features)
    return {'mean': mean, 'covariance': covariance, 'features': features[kept_images(len(real))]}

  if jax.process_count() > 1:
    # All processes must look together, and they may have different caches.
    return make()
  return cache.arrays(
    'statistics', f'{MOST_NEIGHBOURS} {_identity(source)} {extractor.protocol}', make, _has_moments
  )


def class_moments(
  source: data.Source, real: np.ndarray, extractor: Extractor, labels: Labels
) -> dict[str, np.ndarray]:
  """Returns 'mean' [K, D] and 'covariance' [K, D, D] of the features of each class of real images.

  They are NaN for a class with too few images. The arguments are those of `reference` and the classes of the
  images.
  """

  def make() -> dict[str, np.ndarray]:
    features = extractor.look(real)['features']
    shape = (len(labels.names), features.shape[1])
    mean, covariance = np.full(shape, np.nan), np.full((*shape, shape[1]), np.nan)
    for number in np.flatnonzero(labels.counts >= scores.LEAST_OF_MOMENTS):
      mean[number], covariance[number] = scores.moments(features[labels.classes == number])
    return {'mean': mean, 'covariance': covariance}

  if jax.process_count() > 1:
    return make()
  return cache.arrays('statistics', f'classes {_identity(source)} {extractor.protocol}', make, _has_moments)


def _has_moments(kept: dict[str, np.ndarray]) -> bool:
  """Returns whether arrays have a mean and a covariance of features, [..., D] and [..., D, D]."""
  mean, covariance = kept.get('mean'), kept.get('covariance')
  if mean is None or covariance is None or not mean.ndim:
    return False
  return covariance.shape == (*mean.shape, mean.shape[-1])


def kept_images(count: int) -> np.ndarray:
  """Returns the indices of real images whose features are kept: ascending, at most `MOST_NEIGHBOURS`."""
  return np.sort(np.random.default_rng(0).permutation(count)[:MOST_NEIGHBOURS])


def _identity(source: data.Source) -> str:
  """Returns a key of the images of a source in the cache."""
  return f'{cache.VERSION} {source.identity()} {source.fit}'
