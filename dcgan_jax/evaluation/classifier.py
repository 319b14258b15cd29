"""A small network that learns a data set, whose features make sense where Inception's do not.

It learns the classes of the images or, where there are none, how an image was turned (Gidaris et al. 2018).
A Frechet distance of its features is not an FID, because it depends on the data set and on this network.
Training is deterministic on one kind of machine. Figures are comparable if the weights have the same
fingerprint.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax

from dcgan_jax.core import compiling
from dcgan_jax.core.models import normalize
from dcgan_jax.core.pixels import BYTES, Pixels

VERSION = 2  # of the network and its training; raise it when the features change
ROTATIONS_VERSION = 2  # the same where it learns rotations
ROTATIONS = 4  # ways to turn an image, see `rotated`
FEATURES = 128
STEPS, EPOCHS = 1500, 50  # whichever ends first
ROTATIONS_STEPS = 400  # in place of `STEPS`: below a minute on two cores
BATCH_SIZE, RATE = 128, 1e-3
HELD_OUT = 10  # every tenth image is held out for the accuracy
MOST_WHITENED = 10_000  # images whose features are measured to whiten them
SHRINKAGE = 0.1  # part of the mean variance of features that is added to each before they are whitened
WHITEN = 'whiten'  # name of the layer that whitens
_PRECISION = lax.Precision.HIGHEST  # float32 everywhere: a GPU's TF32 and a TPU's bfloat16 change distances
LEAST_ACCURACY = 0.6  # below it features cannot be trusted


class Classifier(nn.Module):
  """Convolutions and two dense layers.

  Attributes:
    classes: Number of classes.
    pixels: Pixel format.
    stride: Stride of the first convolution; None for 2 where images have 48 pixels or more, and 1 elsewhere.
    widths: Channels of each convolution.
    pooled: Whether features are the last convolution's, averaged over the image and whitened, and not the
      first dense layer's, which tell little but the classes.
  """

  classes: int
  pixels: Pixels = BYTES
  stride: int | None = None
  widths: tuple[int, ...] = (32, 64, 128)
  pooled: bool = False

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    """Computes features and logits.

    Args:
      images: Images in the pixel format, [B, H, W, C].

    Returns:
      Features, float32 [B, 128], or [B, widths[-1]] if they are pooled, and logits, float32 [B, classes].
    """
    x = normalize(images, self.pixels)
    first = self.stride or (2 if x.shape[1] >= 48 else 1)
    for layer, width in enumerate(self.widths):
      stride = 2 if layer else first
      kernel = max(3, stride + 1)
      x = nn.relu(nn.Conv(width, (kernel, kernel), (stride, stride), precision=_PRECISION)(x))
    maps = x
    smallest = 4 if self.pooled else 2  # pixels a side that are pooled; fewer stay
    window = tuple(2 if n >= smallest else 1 for n in x.shape[1:3])
    x = nn.avg_pool(x, window, window)
    features = nn.relu(nn.Dense(FEATURES, precision=_PRECISION)(x.reshape(x.shape[0], -1)))
    logits = nn.Dense(self.classes, precision=_PRECISION)(features)
    if self.pooled:
      # An identity until `train` has measured the features of real images.
      whiten = nn.Dense(self.widths[-1], False, precision=_PRECISION, kernel_init=_identity, name=WHITEN)
      features = whiten(maps.mean((1, 2)))
    return features, logits


def _identity(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Returns an identity matrix, as an initialiser."""
  del key
  return jnp.eye(shape[0], shape[1], dtype=dtype)


def whitening(features: np.ndarray) -> np.ndarray:
  """Returns the matrix that makes features of real images uncorrelated, and of like variance.

  Otherwise the few directions in which real images differ most decide a distance: on emoji the means there
  drifted while VGG-16's distance still fell by a fifth. `SHRINKAGE` keeps the weakest directions, which are
  mostly noise, from counting as much (docs/own_images.md).

  Args:
    features: Features of real images, [N, D].

  Returns:
    A symmetric matrix, float32 [D, D].
  """
  variances, directions = np.linalg.eigh(np.cov(features.astype(np.float64), rowvar=False))
  variances = np.maximum(variances, 0.0)
  scales = 1 / np.sqrt(variances + SHRINKAGE * variances.mean() + 1e-12)
  return ((directions * scales) @ directions.T).astype(np.float32)


def of_rotations(images: np.ndarray, pixels: Pixels = BYTES) -> Classifier:
  """Returns the network that learns the rotations of images, [N, H, W, C].

  The stride of its first convolution grows with the images, so that large ones cost little more.
  """
  stride = max(1, round(min(images.shape[1:3]) / 32))
  return Classifier(ROTATIONS, pixels, stride, (32, 64, 128, 256), pooled=True)


class Trained(NamedTuple):
  """Variables of a trained classifier, and its accuracy on held-out images, in [0, 1]."""

  variables: Any
  accuracy: float


def rotated(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Turns each image in all `ROTATIONS` ways: by quarter turns, or by flips of both axes if it is not square.

  Args:
    images: Images, [N, H, W, C].

  Returns:
    The turned images, [4 N, H, W, C], and how they were turned, integers [4 N] in [0, 4).
  """
  if images.shape[1] == images.shape[2]:
    turned = [np.rot90(images, quarters, (1, 2)) for quarters in range(ROTATIONS)]
  else:
    turned = [images[:, ::down, ::across] for down in (1, -1) for across in (1, -1)]
  return np.concatenate(turned), np.repeat(np.arange(ROTATIONS), len(images))


def train(images: np.ndarray, labels: np.ndarray | None, module: Classifier) -> Trained:
  """Trains a classifier on one device, with Adam and a learning rate that falls linearly to 0.

  Args:
    images: Images in the pixel format of the network, [N, H, W, C].
    labels: Class of each image, integers [N] in [0, classes); None to learn rotations.
    module: The network.
  """
  held_out = np.arange(len(images)) % HELD_OUT == 0
  learned, tested = np.flatnonzero(~held_out), np.flatnonzero(held_out)
  each, most = (BATCH_SIZE, STEPS) if labels is not None else (BATCH_SIZE // ROTATIONS, ROTATIONS_STEPS)
  steps = min(most, max(1, EPOCHS * len(learned) // each))
  optimizer = optax.adam(optax.linear_schedule(RATE, 0.0, steps))

  @functools.partial(compiling.jit, donate_argnums=(0, 1))
  def step(variables: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
    def loss(variables: Any) -> Array:
      _, logits = module.apply(variables, images)
      return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state, variables)
    return optax.apply_updates(variables, updates), state

  def examples(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rotated(images[chosen]) if labels is None else (images[chosen], labels[chosen])

  initialize = compiling.jit(module.init, runs_once=True)
  variables = initialize(jax.random.key(0), images[:1])
  state = optimizer.init(variables)
  random = np.random.default_rng(0)
  for _ in range(steps):
    variables, state = step(variables, state, *examples(random.choice(learned, each)))

  @compiling.jit
  def predict(variables: Any, images: Array) -> Array:
    logits: Any = module.apply(variables, images)[1]
    return jnp.argmax(logits, 1)

  if module.pooled:
    look = compiling.jit(lambda variables, images: module.apply(variables, images)[0])
    every = -(-len(learned) // MOST_WHITENED)  # Spread over all: folders are in the order of their classes.
    measured = images[learned[::every]]
    parts = [np.asarray(look(variables, measured[i : i + 250])) for i in range(0, len(measured), 250)]
    variables['params'][WHITEN]['kernel'] = whitening(np.concatenate(parts))

  right, part = [], 1000 * each // BATCH_SIZE
  for start in range(0, len(tested), part):
    some, wanted = examples(tested[start : start + part])
    right.append(np.asarray(predict(variables, some)) == wanted)
  return Trained(jax.tree.map(np.asarray, variables), float(np.concatenate(right).mean()))
