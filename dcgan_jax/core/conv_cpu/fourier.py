"""Convolutions of stride 1 as products of discrete Fourier transforms.

Each complex frequency takes one complex product, computed by three real ones. A, G and B are the matrices of
the inverse transform, the kernel transform and the image transform.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax.core.conv_cpu.geometry import Geometry, Pair


def conv(geometry: Geometry, image: Array, kernel: Array) -> Array:
  """Computes the convolution, [B, H, W, C] -> [B, h, w, O]."""
  a, g, b = _maps(geometry, image.dtype)
  x, w = b @ _pixels_first(image), _kernel_spectrum(g, kernel.swapaxes(2, 3))
  products = jnp.einsum('fbc,foc->fbo', x.reshape(len(b), len(image), -1), w)
  return _pixels_last(a @ products.reshape(len(g), -1), geometry.feature_size, len(image))


def transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  """Computes the convolution's adjoint in its image, [B, h, w, O] -> [B, H, W, C]."""
  a, g, b = _maps(geometry, features.dtype)
  y, w = a.T @ _pixels_first(features), _kernel_spectrum(g, kernel)
  products = jnp.einsum('fbo,fco->fbc', y.reshape(len(g), len(features), -1), w)
  return _pixels_last(b.T @ products.reshape(len(g), -1), geometry.image_size, len(features))


def kernel_gradient(geometry: Geometry, image: Array, features: Array) -> Array:
  """Computes the convolution's adjoint in its kernel, -> [kh, kw, C, O]."""
  a, g, b = _maps(geometry, image.dtype)
  x, y = b @ _pixels_first(image.transpose(3, 1, 2, 0)), a.T @ _pixels_first(features.transpose(3, 1, 2, 0))
  batch = len(image)
  products = jnp.einsum('fcb,fob->fco', x.reshape(len(b), -1, batch), y.reshape(len(g), -1, batch))
  kernel = g.T @ products.reshape(len(g), -1)
  return kernel.reshape(*geometry.kernel_size, image.shape[-1], features.shape[-1])


def _pixels_first(image: Array) -> Array:
  """Reshapes images to one row per pixel: [B, H, W, C] -> [H * W, B * C]."""
  batch, height, width, channels = image.shape
  return image.transpose(1, 2, 0, 3).reshape(height * width, batch * channels)


def _pixels_last(pixels: Array, size: Pair, batch: int) -> Array:
  """Inverts `_pixels_first`: [H * W, B * C] -> [B, H, W, C]."""
  return pixels.reshape(*size, batch, -1).transpose(2, 0, 1, 3)


def _kernel_spectrum(g: Array, kernel: Array) -> Array:
  """Transforms a kernel: [kh, kw, C, O] -> [products, C, O]."""
  return (g @ kernel.reshape(g.shape[1], -1)).reshape(len(g), *kernel.shape[2:])


def _maps(geometry: Geometry, dtype: Any) -> tuple[Array, Array, Array]:
  """Returns A, G and B as JAX arrays of a dtype."""
  a, g, b = (jnp.asarray(m, dtype) for m in _matrices(geometry))
  return a, g, b


def count_products(geometry: Geometry) -> int:
  """Returns the number of real matrix products of a convolution: three per complex frequency."""
  return len(_matrices(geometry)[1])


@functools.cache
def _matrices(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns A, G and B over both axes: the Kronecker products of those over each axis."""
  vertical, horizontal = (
    _axis_matrices(*sizes)
    for sizes in zip(geometry.image_size, geometry.kernel_size, geometry.feature_size, geometry.padding)
  )
  a, g, b = (np.kron(v, h) for v, h in zip(vertical, horizontal))
  return a, g, b


def _axis_matrices(
  size: int, k: int, features: int, padding: Pair
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns A [features, n], G [n, k] and B [n, size] of one axis.

  A circular correlation of period N equals the linear one if only padding wraps around. If p + iq is the
  spectrum of the image and r + is that of the kernel, conjugated, their product has the real part
  r(p + q) - q(r + s) and the imaginary part r(p + q) + p(s - r).
  """
  before = padding[0]
  period = max(before + size, features + k - 1 - before)
  position, tap = np.arange(period), np.arange(k)
  a: list[np.ndarray] = [np.ones(period)]
  g: list[np.ndarray] = [np.ones(k)]
  b: list[np.ndarray] = [np.ones(period) / period]
  for frequency in range(1, (period + 1) // 2):
    angle = 2 * np.pi * frequency / period
    cos, sin = np.cos(angle * position), np.sin(angle * position)
    r, s = np.cos(angle * tap), np.sin(angle * tap)
    a += [cos - sin, -sin, -cos]
    g += [r, s - r, r + s]
    b += [(cos - sin) * 2 / period, cos * 2 / period, -sin * 2 / period]
  if period % 2 == 0:
    sign = (-1.0) ** position
    a, g, b = [*a, sign], [*g, (-1.0) ** tap], [*b, sign / period]
  return np.stack(a, 1)[:features], np.stack(g), np.stack(b)[:, before : before + size]
