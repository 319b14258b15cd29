"""Strided transposed convolutions by phases: a dense convolution for each pixel position modulo the stride."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def transpose(geometry: Any, features: Array, kernel: Array) -> Array:
  """The transposed convolution as one dense convolution for each pixel position modulo the stride."""
  (sh, sw), image_size = geometry.strides, geometry.image_size
  rows = [_phase_taps(geometry, 0, phase) for phase in range(sh)]
  columns = [_phase_taps(geometry, 1, phase) for phase in range(sw)]

  def convolve(row: tuple[slice, tuple[int, int]], column: tuple[slice, tuple[int, int]]) -> Array:
    taps = jnp.flip(kernel[row[0], column[0]], (0, 1)).swapaxes(2, 3)
    if 0 in taps.shape[:2]:  # a kernel smaller than the stride does not reach every pixel
      size = [-(-n // s) for n, s in zip(image_size, geometry.strides)]
      return jnp.zeros((features.shape[0], *size, kernel.shape[2]), features.dtype)
    pads = ((0, 0, 0), (*row[1], 0), (*column[1], 0), (0, 0, 0))
    crop = [(min(before, 0), min(after, 0), 0) for before, after, _ in pads]
    kept = lax.pad(features, jnp.zeros((), features.dtype), crop)
    padding = [(max(before, 0), max(after, 0)) for before, after, _ in pads[1:3]]
    return _convolve(kept, taps, (1, 1), padding)

  image = interleave([[convolve(row, column) for column in columns] for row in rows])
  return image[:, : image_size[0], : image_size[1]]


def _phase_taps(geometry: Any, axis: int, phase: int) -> tuple[slice, tuple[int, int]]:
  """Which taps of the kernel reach the pixels s * i + phase, and the padding of the features for them."""
  k, s, (before, _) = geometry.kernel_size[axis], geometry.strides[axis], geometry.padding[axis]
  first = (phase + before) % s  # pixel s * i + phase meets tap u of feature i + (phase + before - u) / s
  last_offset = (phase + before - first) // s
  first_offset = last_offset - len(range(first, k, s)) + 1
  count = -(-geometry.image_size[axis] // s)
  return slice(first, k, s), (-first_offset, count + last_offset - geometry.feature_size[axis])


def _convolve(image: Array, kernel: Array, strides: tuple[int, int], padding: Any) -> Array:
  dimensions = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(image, kernel, strides, padding, dimension_numbers=dimensions)


def interleave(grid: Sequence[Sequence[Array]]) -> Array:
  """A grid of n x m arrays [B, H, W, C] -> [B, n * H, m * W, C], the grid's places varying fastest."""
  image = jnp.stack([jnp.stack(row, 3) for row in grid], 2)
  batch, height, n, width, m, channels = image.shape
  return image.reshape(batch, height * n, width * m, channels)
