"""The paper's test of what D has learned (section 5): its activations as features of a linear classifier."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax.models import Discriminator

POOLED = 4  # the paper's grid of maxima, 4x4


def pool(activations: Array, size: int = POOLED) -> Array:
  """The maxima of each map in a grid of windows.

  Window i of `size` along a side of length L reaches from floor(i L / size) to ceil((i + 1) L / size): those
  that do not divide evenly overlap by a pixel. A side shorter than `size` is left as it is.

  Args:
    activations: [B, H, W, C].
    size: windows along each side.

  Returns:
    [B, min(H, size) * min(W, size) * C], row by row, the C maps of a window side by side.
  """
  rows, columns = (_windows(length, size) for length in activations.shape[1:3])
  pooled = [activations[:, r, c].max((1, 2)) for r in rows for c in columns]
  return jnp.concatenate(pooled, axis=1)


def _windows(length: int, size: int) -> list[slice]:
  size = min(length, size)
  return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]


def to_features(activations: Iterable[Array]) -> Array:
  """All layers' activations, [B, H, W, C] each, pooled and side by side: [B, D], the last layer last."""
  return jnp.concatenate([pool(x) for x in activations], axis=1)


def normalize(images: Array, dtype: Any = jnp.float32) -> Array:
  """uint8 [B, H, W, C] -> [-1, 1], as in training."""
  return images.astype(dtype) / 127.5 - 1.0


def estimate_statistics(
  discriminator: Discriminator, variables: Any, batches: Iterable[np.ndarray]
) -> dict[str, Any]:
  """Batch-norm statistics of D over given images, as the paper has them "re-estimated over the train set".

  D sees the images in train mode, each batch normalised by itself, without dropout. A layer's mean is that of
  the batches' means, weighted by their images; its variance is the mean of their variances plus the
  variance of their means. So the first normalised layer's statistics are those of all images, exactly; those
  of a deeper one are of inputs that were normalised batch by batch, as they were when D learned.

  Args:
    discriminator: any; one without batch norm comes back as it is.
    variables: its parameters and statistics.
    batches: uint8 [B, H, W, C] each, best all of one size, for which the program is compiled.

  Returns:
    The variables with these statistics.
  """
  if not variables.get('batch_stats'):
    return variables
  module = discriminator.clone(norm_momentum=0.0, dropout=0.0)  # a momentum of 0 leaves the batch's own

  @jax.jit
  def of_batch(variables: Any, images: Array) -> Any:
    _, updated = module.apply(variables, normalize(images), train=True, mutable=['batch_stats'])
    return updated['batch_stats']

  found = [(len(images), jax.device_get(of_batch(variables, images))) for images in batches]
  weights = np.array([count for count, _ in found], np.float64) / sum(count for count, _ in found)
  stats = jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float64), *[s for _, s in found])
  averaged = {name: _combine(layer['mean'], layer['var'], weights) for name, layer in stats.items()}
  return {**variables, 'batch_stats': averaged}


def _combine(means: np.ndarray, variances: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
  """Mean and variance of all batches' values, from those of each, [batches, C]."""
  mean = weights @ means
  variance = weights @ (variances + np.square(means - mean))
  return {'mean': mean.astype(np.float32), 'var': variance.astype(np.float32)}


def make_features(discriminator: Discriminator) -> Callable[[Any, Array], Array]:
  """(variables, uint8 images [B, H, W, C]) -> features float16 [B, D], to be jitted."""
  module = discriminator.clone(dropout=0.0)

  def look(variables: Any, images: Array) -> Array:
    outputs: Any = module.apply(variables, normalize(images))
    return to_features(outputs[1]).astype(jnp.float16)

  return look


def to_pixels(variables: Any, images: Array) -> Array:
  """The same for the images themselves, in [-1, 1]: what D's features are compared with."""
  return normalize(images).reshape(len(images), -1).astype(jnp.float16)
