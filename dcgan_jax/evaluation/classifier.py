"""A small network that learns a data set's own classes: features that make sense where Inception's do not.

Its Frechet distance is no FID: it depends on the data set, and on this network. It is deterministic, so that
figures of the same version can be compared.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from dcgan_jax import conv

VERSION = 2  # of the network and its training
FEATURES = 128
STEPS, EPOCHS, BATCH_SIZE, RATE = 1500, 50, 128, 1e-3  # steps of few images are those of 50 epochs
HELD_OUT = 10  # each tenth image is not learned from, and tells the accuracy
LEAST_ACCURACY = 0.6  # below it, the features are not to be trusted


class Classifier(nn.Module):
  """Three convolutions and a dense layer. Larger images are halved once more.

  Attributes:
    classes: how many there are.
  """

  classes: int

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    """Looks at images.

    Args:
      images: uint8 [B, H, W, C].

    Returns:
      Features [B, 128], and logits [B, classes].
    """
    x = images.astype(jnp.float32) / 127.5 - 1.0
    strides = (2 if x.shape[1] >= 48 else 1, 2, 2)
    for width, stride in zip((32, 64, 128), strides):
      x = nn.relu(nn.Conv(width, (3, 3), (stride, stride))(x))
    x = nn.avg_pool(x, (2, 2), (2, 2))
    features = nn.relu(nn.Dense(FEATURES)(x.reshape(x.shape[0], -1)))
    return features, nn.Dense(self.classes)(features)


class Trained(NamedTuple):
  """A classifier's variables and its accuracy on images that it has not learned from, in [0, 1]."""

  variables: Any
  accuracy: float


def train(images: np.ndarray, labels: np.ndarray, classes: int) -> Trained:
  """Learns with Adam, its rate falling to 0, on one device.

  Args:
    images: uint8 [N, H, W, C].
    labels: [N], integers in [0, classes).
    classes: how many there are.
  """
  module = Classifier(classes)
  held_out = np.arange(len(images)) % HELD_OUT == 0
  learned, tested = np.flatnonzero(~held_out), np.flatnonzero(held_out)
  steps = min(STEPS, max(1, EPOCHS * len(learned) // BATCH_SIZE))
  optimizer = optax.adam(optax.linear_schedule(RATE, 0.0, steps))

  @functools.partial(jax.jit, donate_argnums=(0, 1), compiler_options=conv.compiler_options())
  def step(variables: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
    def loss(variables: Any) -> Array:
      _, logits = module.apply(variables, images)
      return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state, variables)
    return optax.apply_updates(variables, updates), state

  variables = jax.jit(module.init)(jax.random.key(0), images[:1])
  state = optimizer.init(variables)
  random = np.random.default_rng(0)
  for _ in range(steps):
    chosen = random.choice(learned, BATCH_SIZE)
    variables, state = step(variables, state, images[chosen], labels[chosen])

  @functools.partial(jax.jit, compiler_options=conv.compiler_options())
  def predict(variables: Any, images: Array) -> Array:
    logits: Any = module.apply(variables, images)[1]
    return jnp.argmax(logits, 1)

  predicted = np.concatenate(
    [predict(variables, images[tested[i : i + 1000]]) for i in range(0, len(tested), 1000)]
  )
  return Trained(jax.tree.map(np.asarray, variables), float((predicted == labels[tested]).mean()))
