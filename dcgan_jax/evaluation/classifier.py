"""A small classifier of a data set's own classes, whose features make sense where Inception's do not.

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
FEATURES = 128
STEPS, EPOCHS = 1500, 50  # whichever ends first
BATCH_SIZE, RATE = 128, 1e-3
HELD_OUT = 10  # every tenth image is held out for the accuracy
_PRECISION = lax.Precision.HIGHEST  # float32 everywhere: a GPU's TF32 and a TPU's bfloat16 change distances
LEAST_ACCURACY = 0.6  # below it features cannot be trusted


class Classifier(nn.Module):
  """Three convolutions and two dense layers; images of 48 pixels or more are halved once more.

  Attributes:
    classes: Number of classes.
    pixels: Pixel format.
  """

  classes: int
  pixels: Pixels = BYTES

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    """Computes features and logits.

    Args:
      images: Images in the pixel format, [B, H, W, C].

    Returns:
      Features, float32 [B, 128], and logits, float32 [B, classes].
    """
    x = normalize(images, self.pixels)
    strides = (2 if x.shape[1] >= 48 else 1, 2, 2)
    for width, stride in zip((32, 64, 128), strides):
      x = nn.relu(nn.Conv(width, (3, 3), (stride, stride), precision=_PRECISION)(x))
    window = (min(2, x.shape[1]), min(2, x.shape[2]))  # Of 4 pixels a side one is left, which stays.
    x = nn.avg_pool(x, window, window)
    features = nn.relu(nn.Dense(FEATURES, precision=_PRECISION)(x.reshape(x.shape[0], -1)))
    return features, nn.Dense(self.classes, precision=_PRECISION)(features)


class Trained(NamedTuple):
  """Variables of a trained classifier, and its accuracy on held-out images, in [0, 1]."""

  variables: Any
  accuracy: float


def train(images: np.ndarray, labels: np.ndarray, classes: int, pixels: Pixels = BYTES) -> Trained:
  """Trains a classifier on one device, with Adam and a learning rate that falls linearly to 0.

  Args:
    images: Images in the pixel format, [N, H, W, C].
    labels: Class of each image, integers [N] in [0, classes).
    classes: Number of classes.
    pixels: Pixel format.
  """
  module = Classifier(classes, pixels)
  held_out = np.arange(len(images)) % HELD_OUT == 0
  learned, tested = np.flatnonzero(~held_out), np.flatnonzero(held_out)
  steps = min(STEPS, max(1, EPOCHS * len(learned) // BATCH_SIZE))
  optimizer = optax.adam(optax.linear_schedule(RATE, 0.0, steps))

  @functools.partial(compiling.jit, donate_argnums=(0, 1))
  def step(variables: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
    def loss(variables: Any) -> Array:
      _, logits = module.apply(variables, images)
      return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state, variables)
    return optax.apply_updates(variables, updates), state

  initialize = compiling.jit(module.init, runs_once=True)
  variables = initialize(jax.random.key(0), images[:1])
  state = optimizer.init(variables)
  random = np.random.default_rng(0)
  for _ in range(steps):
    chosen = random.choice(learned, BATCH_SIZE)
    variables, state = step(variables, state, images[chosen], labels[chosen])

  @compiling.jit
  def predict(variables: Any, images: Array) -> Array:
    logits: Any = module.apply(variables, images)[1]
    return jnp.argmax(logits, 1)

  predicted = np.concatenate(
    [predict(variables, images[tested[i : i + 1000]]) for i in range(0, len(tested), 1000)]
  )
  return Trained(jax.tree.map(np.asarray, variables), float((predicted == labels[tested]).mean()))
