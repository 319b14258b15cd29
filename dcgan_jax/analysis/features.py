"""The paper's test of what D has learned (section 5): its activations as features of a linear classifier."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
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
