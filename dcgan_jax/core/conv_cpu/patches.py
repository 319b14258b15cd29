"""Strided convolutions of images with few channels as one matrix product over patches (im2col).

In blocks of stride x stride pixels, a kernel covers r = ceil(k / stride) blocks along each axis.
"""

import functools

import jax.numpy as jnp
from jax import Array, lax

from dcgan_jax.core.conv_cpu.geometry import Geometry, Pair


def conv(geometry: Geometry, image: Array, kernel: Array) -> Array:
  """Computes the convolution, [B, H, W, C] -> [B, h, w, O]."""
  return _patches(geometry, image) @ _patch_kernel(geometry, kernel)


def transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  """Computes the convolution's adjoint in its image, the sum of overlapping patches."""
  (sh, sw), (rows, columns), (height, width) = geometry.strides, _blocks(geometry), geometry.feature_size
  patches = features @ _patch_kernel(geometry, kernel).T
  patches = patches.reshape(*features.shape[:3], rows, sh, columns, sw * kernel.shape[2])

  def place(i: int, p: int, j: int) -> Array:
    pads = ((0, 0), (i, rows - 1 - i), (j, columns - 1 - j), (0, 0))
    return jnp.pad(patches[:, :, :, i, p, j], pads)

  blocks = [
    functools.reduce(jnp.add, [place(i, p, j) for i in range(rows) for j in range(columns)])
    for p in range(sh)
  ]
  image = jnp.stack(blocks, 2)  # [B, h + r - 1, sh, w + r - 1, sw C]
  image = image.reshape(len(features), (height + rows - 1) * sh, (width + columns - 1) * sw, -1)
  crop = [
    (-before, before + size - covered)
    for size, covered, (before, _) in zip(geometry.image_size, image.shape[1:], geometry.padding)
  ]
  return lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (*crop[0], 0), (*crop[1], 0), (0, 0, 0)))


def kernel_gradient(geometry: Geometry, image: Array, features: Array) -> Array:
  """Computes the convolution's adjoint in its kernel, -> [kh, kw, C, O]."""
  patches, (kh, kw) = _patches(geometry, image), geometry.kernel_size
  kernel = patches.reshape(-1, patches.shape[-1]).T @ features.reshape(-1, features.shape[-1])
  sizes = (r * s for r, s in zip(_blocks(geometry), geometry.strides))
  return kernel.reshape(*sizes, image.shape[-1], features.shape[-1])[:kh, :kw]


def _blocks(geometry: Geometry) -> Pair:
  """Returns the number of blocks that a kernel covers in height and width."""
  (kh, kw), (sh, sw) = geometry.kernel_size, geometry.strides
  return -(-kh // sh), -(-kw // sw)


def _patches(geometry: Geometry, image: Array) -> Array:
  """Returns the patch of each feature: [B, H, W, C] -> [B, h, w, r stride r stride C]."""
  (sh, sw), (rows, columns), (height, width) = geometry.strides, _blocks(geometry), geometry.feature_size
  sizes = (height + rows - 1) * sh, (width + columns - 1) * sw
  pads = [
    (before, covered - before - size)
    for size, covered, (before, _) in zip(geometry.image_size, sizes, geometry.padding)
  ]
  x = lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
  x = x.reshape(len(image), height + rows - 1, sh, width + columns - 1, sw * image.shape[-1])
  parts = [
    x[:, i : i + height, p, j : j + width] for i in range(rows) for p in range(sh) for j in range(columns)
  ]
  return jnp.concatenate(parts, -1)


def _patch_kernel(geometry: Geometry, kernel: Array) -> Array:
  """Pads the kernel to whole blocks, as a matrix: [kh, kw, C, O] -> [r stride r stride C, O]."""
  extra = [(0, r * s - k) for r, s, k in zip(_blocks(geometry), geometry.strides, geometry.kernel_size)]
  return jnp.pad(kernel, (*extra, (0, 0), (0, 0))).reshape(-1, kernel.shape[3])
