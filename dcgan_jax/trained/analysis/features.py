"""Activations of D as features of a linear classifier: the test of D in the paper (section 5.1)."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from jax import Array

from dcgan_jax.core.models import Discriminator, alone, normalize
from dcgan_jax.core.pixels import BYTES, Pixels

POOLED = 4  # The paper pools the maps to 4x4 maxima.


def pool(activations: Array, size: int = POOLED) -> Array:
  """Takes the maximum of each map in each window of a grid.

  Window i of `size` along a side of length L reaches from floor(i L / size) to ceil((i + 1) L / size), so
  windows overlap by a pixel where L is not a multiple of `size`. A side shorter than `size` is left alone.

  Args:
    activations: Activations, [B, H, W, C].
    size: Windows along each side.

  Returns:
    [B, min(H, size) * min(W, size) * C], row by row, with the C maps of a window side by side.
  """
  rows, columns = (_windows(length, size) for length in activations.shape[1:3])
  pooled = [activations[:, r, c].max((1, 2)) for r in rows for c in columns]
  return jnp.concatenate(pooled, axis=1)


def _windows(length: int, size: int) -> list[slice]:
  """Returns the windows along a side."""
  size = min(length, size)
  return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]


def to_features(activations: Iterable[Array]) -> Array:
  """Pools the activations of all layers, [B, H, W, C] each, and puts them side by side: [B, D]."""
  return jnp.concatenate([pool(x) for x in activations], axis=1)


def make_features(discriminator: Discriminator, pixels: Pixels = BYTES) -> Callable[[Any, Array], Array]:
  """Makes the function (variables, images [B, H, W, C]) -> features float16 [B, D], to be jitted.

  Args:
    discriminator: The discriminator.
    pixels: Pixel format of the images.
  """
  module = discriminator.clone(dropout=0.0)

  def look(variables: Any, images: Array) -> Array:
    outputs: Any = module.apply(variables, alone(normalize(images, pixels), module))
    return to_features(outputs[1]).astype(jnp.float16)

  return look


def make_pixel_features(pixels: Pixels = BYTES) -> Callable[[Any, Array], Array]:
  """Makes the function that returns images [B, H, W, C] as features, float16 [B, H * W * C] in [-1, 1].

  They are a baseline for the features of D. Like that of `make_features` the function takes variables, which
  it ignores.
  """
  return lambda variables, images: normalize(images, pixels).reshape(len(images), -1).astype(jnp.float16)
