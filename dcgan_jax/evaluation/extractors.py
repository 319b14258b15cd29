"""The networks that scores take features from, set up for a source of real images."""

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
from dcgan_jax.devices import placement, programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, inception, learned, scores
from dcgan_jax.runs.experiment import Experiment

KEPT = 10_000  # real images whose features are kept, for distances between single images
BATCH_SIZE = {'classifier': 256, 'inception': 32}  # images that each device works on at a time

Features = dict[str, np.ndarray]  # 'features' [N, D] and 'probabilities' [N, K], float32


class Extractor(NamedTuple):
  """A network that turns images into features and class probabilities.

  Attributes:
    kind: 'classifier' | 'inception'.
    protocol: which network with which weights makes the features, from images resized in which way; a part of
      `scoring.protocol`.
    look: takes images as they are kept, [N, H, W, C], and returns their `Features`.
    description: the same for people.
  """

  kind: str
  protocol: str
  look: Callable[[np.ndarray], Features]
  description: str = ''


@dataclass(frozen=True)
class Chosen:
  """The choice of an extractor.

  Attributes:
    kind: 'classifier', a small network that first learns the data's classes; or 'inception', for FID.
    weights: Inception's file; None takes the one in the cache.
    download: whether the file may be downloaded to the cache.
    resizer: how images are resized for Inception, see `inception.prepare`.
  """

  kind: str
  weights: str | None = None
  download: bool = False
  resizer: str = 'tf1'


# The classes of real images, if they are needed, and the function that makes the extractor from all of them.
Prepared = tuple[Labels | None, Callable[[np.ndarray], Extractor]]


def prepare(chosen: Chosen, experiment: Experiment, folder: Path | None = None) -> Prepared:
  """Checks that an extractor can be had, before any image is decoded.

  Args:
    chosen: which extractor.
    experiment: the one whose data a classifier learns.
    folder: its workdir, which keeps the classifier; None for none.

  Returns:
    The labels of the real images, or None for Inception; and the function that makes the extractor from all
    real images, [N, H, W, C].

  Raises:
    InputError: in one line; the data has no classes, Inception's weights are not there, or the images are not
      for it.
  """
  fit = experiment.fit
  if chosen.kind == 'inception' and fit.channels not in (1, 3):
    raise InputError(
      f'features=inception: takes images of 1 or 3 channels, and data.channels={fit.channels}; take '
      'features=classifier'
    )
  if chosen.kind == 'inception':
    variables = inception.read_weights(find_weights(chosen.weights, chosen.download))
    return None, lambda real: of_inception(variables, chosen.resizer, fit.pixels)
  source = experiment.source
  labels = source.labels()
  return labels, lambda real: of_run(source, real, labels, folder)


def find_weights(weights: str | None, download: bool) -> Path:
  """Returns the path of Inception's file, whose content is checked.

  Args:
    weights: a path; None takes the file in the cache.
    download: whether to download a file that the cache does not have.

  Raises:
    InputError: in one line; there is no such file, or it is not the published one.
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


def of_run(source: data.Source, real: np.ndarray, labels: Labels, folder: Path | None) -> Extractor:
  """Returns the classifier of a run's data, see `of_classifier`; of stacked images, that of each channel."""
  if isinstance(source, Stacked):
    return of_stacked(source, folder)
  return of_classifier(source, real, labels, folder)


def of_classifier(
  source: data.Source, real: np.ndarray, labels: Labels, folder: Path | None = None
) -> Extractor:
  """Returns the classifier that the run keeps or, for a run that keeps none yet, that of these images.

  Args:
    source: of the images.
    real: all of them, as they are kept, [N, H, W, C].
    labels: of all of them.
    folder: the workdir of the run, which then keeps the classifier, see `learned`; None for no run.

  Raises:
    InputError: some labelled images could not be decoded, or the classifier is not accurate enough.
  """
  if len(labels.classes) != len(real):
    raise InputError('features=classifier: images that cannot be decoded have labels; remove them')
  pixels = source.fit.pixels
  found = learned.of_run(_identity(source), real, labels.classes, labels.names, folder, pixels)
  apply = classifier.Classifier(len(labels.names), pixels).apply
  return Extractor(
    'classifier',
    f'features=classifier/{classifier.VERSION} weights={found.fingerprint}',
    _make_look(apply, found.variables, 'classifier'),
    f'{classifier.FEATURES} features of a classifier of the data, {found.accuracy:.1%} right on held-out '
    'images; not comparable to FID',
  )


def of_stacked(source: Stacked, folder: Path | None = None) -> Extractor:
  """Returns the classifier of the gray images at work on each channel of stacked ones.

  Features are those of the three channels side by side, and the probability of a class, which is a triple, is
  the product of those of its members.

  Raises:
    InputError: see `of_classifier`.
  """
  gray = of_classifier(source.gray, source.images, source.gray.labels(), folder)

  def look(images: np.ndarray) -> Features:
    found = [gray.look(images[..., i : i + 1]) for i in range(3)]
    a, b, c = (one['probabilities'] for one in found)
    probabilities = np.einsum('na,nb,nc->nabc', a, b, c).reshape(len(images), -1)
    return {'features': np.concatenate([one['features'] for one in found], 1), 'probabilities': probabilities}

  protocol = gray.protocol.replace('features=', 'features=channels:')
  return gray._replace(protocol=protocol, look=look, description=f'for each channel {gray.description}')


def of_inception(variables: Any, resizer: str, pixels: Pixels = BYTES) -> Extractor:
  """Returns Inception-v3, whose features FID is made of.

  Args:
    variables: of the network, see `inception.read_weights`.
    resizer: 'tf1' | 'pytorch', see `inception.prepare`.
    pixels: what the numbers of the images are; they are scaled to those of ordinary pictures.
  """

  def apply(variables: Any, images: Any) -> Any:
    if pixels != BYTES:
      images = (normalize(images, pixels) + 1.0) * 127.5
    return inception.Inception().apply(variables, inception.prepare(images, resizer))

  return Extractor(
    'inception',
    f'features=inception weights={inception.SHA256[:8]} resizer={resizer}',
    _make_look(apply, variables, 'inception'),
    f'Inception-v3 2015-12-05, pool features; images resized by {resizer} bilinear to 299x299',
  )


def _make_look(apply: Callable[..., Any], variables: Any, kind: str) -> Callable[[np.ndarray], Features]:
  """Makes the `look` of an extractor, at work on all devices.

  Args:
    apply: takes variables and images, and returns features [B, D] and logits [B, K].
    variables: of the network.
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
  """Returns what scores need of the real images; in a run of one process it is kept in the cache.

  Args:
    source: of the images.
    real: all of them, [N, H, W, C].
    extractor: of their features.

  Returns:
    'mean' [D] and 'covariance' [D, D] of the features of all images; 'features' [M, D] of those that
    `kept_images` selects.
  """

  def make() -> dict[str, np.ndarray]:
    features = extractor.look(real)['features']
    mean, covariance = scores.moments(features)
    return {'mean': mean, 'covariance': covariance, 'features': features[kept_images(len(real))]}

  if jax.process_count() > 1:
    # All processes must look together, and the caches of some may have what those of others lack.
    return make()
  return cache.arrays('statistics', f'{KEPT} {_identity(source)} {extractor.protocol}', make, _has_moments)


def class_moments(
  source: data.Source, real: np.ndarray, extractor: Extractor, labels: Labels
) -> dict[str, np.ndarray]:
  """Returns 'mean' [K, D] and 'covariance' [K, D, D] of the features of each class of real images.

  Those of a class of too few images are NaN. It takes the same arguments as `reference`, and the classes of
  the images.
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
  """Returns whether arrays have the mean and the covariance of features, [..., D] and [..., D, D]."""
  mean, covariance = kept.get('mean'), kept.get('covariance')
  if mean is None or covariance is None or not mean.ndim:
    return False
  return covariance.shape == (*mean.shape, mean.shape[-1])


def kept_images(count: int) -> np.ndarray:
  """Returns which of `count` real images have their features kept: ascending indices, at most `KEPT`."""
  return np.sort(np.random.default_rng(0).permutation(count)[:KEPT])


def _identity(source: data.Source) -> str:
  """Returns a text that tells the images of a source from all others."""
  return f'{cache.VERSION} {source.identity()} {source.fit}'
