"""Networks that look at images, made ready for a source of real ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import cache, data, distributed, programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, inception, scores

KEPT = 10_000  # real images whose features are kept, for distances between single images
BATCH_SIZE = {'classifier': 256, 'inception': 32}  # images a device looks at together


class Extractor(NamedTuple):
  """A network that looks at images.

  Attributes:
    kind: 'classifier' | 'inception'.
    protocol: what a figure must be quoted with.
    look: uint8 [N, H, W, C] -> {'features': [N, D], 'probabilities': [N, K]}, float32.
  """

  kind: str
  protocol: str
  look: Callable[[np.ndarray], dict[str, np.ndarray]]


class Labels(NamedTuple):
  """Of the real images, as `Source.labels` gives them: the class of each, [N] in [0, K), and K names."""

  classes: np.ndarray
  names: tuple[str, ...]

  @property
  def shares(self) -> np.ndarray:
    """Of the classes in the data, [K]."""
    return np.bincount(self.classes, minlength=len(self.names)) / len(self.classes)


def of_classifier(source: data.Source, real: np.ndarray, labels: Labels) -> Extractor:
  """A classifier of these images, trained the first time and kept.

  Args:
    source: of the images.
    real: all of them, uint8 [N, H, W, C].
    labels: theirs.

  Raises:
    InputError: images were left out that have labels, or it has not learned to tell the classes apart.
  """
  if len(labels.classes) != len(real):
    raise InputError('features=classifier: images that cannot be decoded have labels; remove them')
  module = classifier.Classifier(len(labels.names))
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *real.shape[1:]), np.uint8)
  )
  leaves, structure = jax.tree.flatten(shapes)

  def train() -> dict[str, np.ndarray]:
    print(f'training a classifier of {len(labels.names)} classes, once for this data', flush=True)
    trained = classifier.train(real, labels.classes, len(labels.names))
    kept = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(trained.variables))}
    return kept | {'accuracy': np.array(trained.accuracy)}

  kept = distributed.agreed(cache.arrays('classifiers', f'{classifier.VERSION} {_identity(source)}', train))
  accuracy = float(kept['accuracy'])
  if accuracy < classifier.LEAST_ACCURACY:
    raise InputError(
      f'features=classifier: it tells {accuracy:.1%} of the held-out images; below '
      f'{classifier.LEAST_ACCURACY:.0%} its features say nothing'
    )
  variables = jax.tree.unflatten(structure, [kept[str(i)] for i in range(len(leaves))])
  protocol = (
    f'{classifier.FEATURES} features of a classifier of the data, version {classifier.VERSION}, '
    f'{accuracy:.1%} right on held-out images; not comparable to FID'
  )
  return Extractor('classifier', protocol, _looking(module.apply, variables, 'classifier'))


def of_inception(variables: Any, resizer: str) -> Extractor:
  """Inception-v3, for FID.

  Args:
    variables: see `inception.read_weights`.
    resizer: see `inception.prepare`.
  """

  def look(variables: Any, images: Any) -> Any:
    return inception.Inception().apply(variables, inception.prepare(images, resizer))

  protocol = f'Inception-v3 2015-12-05, pool features; images resized by {resizer} bilinear to 299x299'
  return Extractor('inception', protocol, _looking(look, variables, 'inception'))


def _looking(apply: Callable[..., Any], variables: Any, kind: str) -> Callable[..., dict[str, np.ndarray]]:
  def look(variables: Any, images: Any) -> dict[str, Any]:
    features, logits = apply(variables, images)
    return {'features': features, 'probabilities': jax.nn.softmax(logits.astype(jnp.float32))}

  mesh = programs.all_devices()
  mapped = programs.map_rows(look, mesh)
  placed = jax.device_put(variables, programs.replicated(mesh))
  return lambda images: mapped(placed, images, BATCH_SIZE[kind])


def reference(source: data.Source, real: np.ndarray, extractor: Extractor) -> dict[str, np.ndarray]:
  """Of the real images: mean and covariance of all, features of some. Kept for the next time."""

  def make() -> dict[str, np.ndarray]:
    features = extractor.look(real)['features']
    mean, covariance = scores.moments(features)
    return {'mean': mean, 'covariance': covariance, 'features': features[chosen(len(real))]}

  if jax.process_count() > 1:  # which look at them together, whoever of them has kept what
    return make()
  return cache.arrays('statistics', f'{KEPT} {_identity(source)} {extractor.protocol}', make)


def chosen(count: int) -> np.ndarray:
  """The real images whose features are kept."""
  return np.sort(np.random.default_rng(0).permutation(count)[:KEPT])


def _identity(source: data.Source) -> str:
  return f'{cache.VERSION} {source.identity()} {source.fit}'
