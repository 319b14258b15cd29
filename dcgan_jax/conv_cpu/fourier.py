"""Convolutions of stride 1 as products of discrete Fourier transforms."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

# Fourier: each frequency is one complex product, made of three real ones.


def conv(geometry: Any, image: Array, kernel: Array) -> Array:
  """The convolution, stride 1."""
  a, g, b = _fourier_maps(geometry, image.dtype)
  x, w = b @ _pixels_first(image), _kernel_spectrum(g, kernel.swapaxes(2, 3))
  products = jnp.einsum('fbc,foc->fbo', x.reshape(len(b), len(image), -1), w)
  return _pixels_last(a @ products.reshape(len(g), -1), geometry.feature_size, len(image))


def transpose(geometry: Any, features: Array, kernel: Array) -> Array:
  """The convolution's adjoint in its image, stride 1."""
  a, g, b = _fourier_maps(geometry, features.dtype)
  y, w = a.T @ _pixels_first(features), _kernel_spectrum(g, kernel)
  products = jnp.einsum('fbo,fco->fbc', y.reshape(len(g), len(features), -1), w)
  return _pixels_last(b.T @ products.reshape(len(g), -1), geometry.image_size, len(features))


def kernel_gradient(geometry: Any, image: Array, features: Array) -> Array:
  """The convolution's adjoint in its kernel, stride 1."""
  a, g, b = _fourier_maps(geometry, image.dtype)
  x, y = b @ _pixels_first(image.transpose(3, 1, 2, 0)), a.T @ _pixels_first(features.transpose(3, 1, 2, 0))
  batch = len(image)
  products = jnp.einsum('fcb,fob->fco', x.reshape(len(b), -1, batch), y.reshape(len(g), -1, batch))
  kernel = g.T @ products.reshape(len(g), -1)
  return kernel.reshape(*geometry.kernel_size, image.shape[-1], features.shape[-1])


def _pixels_first(image: Array) -> Array:
  """[B, H, W, C] -> [H * W, B * C]."""
  batch, height, width, channels = image.shape
  return image.transpose(1, 2, 0, 3).reshape(height * width, batch * channels)


def _pixels_last(pixels: Array, size: tuple[int, int], batch: int) -> Array:
  """[H * W, B * C] -> [B, H, W, C]."""
  return pixels.reshape(*size, batch, -1).transpose(2, 0, 1, 3)


def _kernel_spectrum(g: Array, kernel: Array) -> Array:
  """[kh, kw, C, O] -> [frequencies, C, O]."""
  return (g @ kernel.reshape(g.shape[1], -1)).reshape(len(g), *kernel.shape[2:])


def _fourier_maps(geometry: Any, dtype: Any) -> tuple[Array, Array, Array]:
  a, g, b = (jnp.asarray(m, dtype) for m in _fourier_matrices(geometry))
  return a, g, b


def count_products(geometry: Any) -> int:
  """Returns how many products of real matrices a convolution takes: three for each complex frequency."""
  return len(_fourier_matrices(geometry)[1])


@functools.cache
def _fourier_matrices(geometry: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A, G and B over the pixels of both axes: the products of those over one."""
  vertical, horizontal = (
    _fourier_axis(*sizes)
    for sizes in zip(geometry.image_size, geometry.kernel_size, geometry.feature_size, geometry.padding)
  )
  a, g, b = (np.kron(v, h) for v, h in zip(vertical, horizontal))
  return a, g, b


def _fourier_axis(
  size: int, k: int, features: int, padding: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A [features, n], G [n, k], B [n, size] of one axis.

  A circular correlation of period N is the wanted one as soon as what wraps around is padding. With the
  image's spectrum p + iq and the kernel's, conjugate, r + is, the product's parts are
  r(p + q) - q(r + s) and r(p + q) + p(s - r).
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
