"""Strided transposed convolutions by phases: one dense convolution per position modulo the stride."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from dcgan_jax.core.conv_cpu.geometry import DIMENSIONS, Geometry, Pair


def transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  """Computes the convolution's adjoint in its image, [B, h, w, O] -> [B, H, W, C]."""
  (sh, sw), image_size = geometry.strides, geometry.image_size
  rows = [_phase_taps(geometry, 0, phase) for phase in range(sh)]
  columns = [_phase_taps(geometry, 1, phase) for phase in range(sw)]

  def convolve(row: tuple[slice, Pair], column: tuple[slice, Pair]) -> Array:
    taps = jnp.flip(kernel[row[0], column[0]], (0, 1)).swapaxes(2, 3)
    if 0 in taps.shape[:2]:  # A kernel smaller than the stride does not reach every pixel.
      size = [-(-n // s) for n, s in zip(image_size, geometry.strides)]
      return jnp.zeros((features.shape[0], *size, kernel.shape[2]), features.dtype)
    pads = ((0, 0, 0), (*row[1], 0), (*column[1], 0), (0, 0, 0))
    crop = [(min(before, 0), min(after, 0), 0) for before, after, _ in pads]
    kept = lax.pad(features, jnp.zeros((), features.dtype), crop)
    padding = [(max(before, 0), max(after, 0)) for before, after, _ in pads[1:3]]
    return lax.conv_general_dilated(kept, taps, (1, 1), padding, dimension_numbers=DIMENSIONS)

  image = interleave([[convolve(row, column) for column in columns] for row in rows])
  return image[:, : image_size[0], : image_size[1]]


def _phase_taps(geometry: Geometry, axis: int, phase: int) -> tuple[slice, Pair]:
  """Returns the kernel taps that reach pixels s * i + phase, and the padding of the features for them."""
  k, s, (before, _) = geometry.kernel_size[axis], geometry.strides[axis], geometry.padding[axis]
  first = (phase + before) % s  # Pixel s * i + phase meets tap u of feature i + (phase + before - u) / s.
  last_offset = (phase + before - first) // s
  first_offset = last_offset - len(range(first, k, s)) + 1
  count = -(-geometry.image_size[axis] // s)
  return slice(first, k, s), (-first_offset, count + last_offset - geometry.feature_size[axis])


def interleave(grid: Sequence[Sequence[Array]]) -> Array:
  """Interleaves an n x m grid of arrays [B, H, W, C] to [B, n * H, m * W, C].

  Pixel (n * i + p, m * j + q) is pixel (i, j) of the array in row p and column q of the grid.
  """
  image = jnp.stack([jnp.stack(row, 3) for row in grid], 2)
  batch, height, n, width, m, channels = image.shape
  return image.reshape(batch, height * n, width * m, channels)
