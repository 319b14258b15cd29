"""Convolutions with kernels of twice the stride by Winograd's algorithm F(2x2, 2x2).

Along one axis, the features y0 = d0 w0 + d1 w1 and y1 = d1 w0 + d2 w1 of pixels d and taps w are m0 + m1 and
m1 + m2, with three products m0 = (d0 - d1) w0, m1 = d1 (w0 + w1) and m2 = (d2 - d1) w1. Along rows and
columns, this gives a tile of 2 x 2 features from 3 x 3 products. A pixel here is a block of the image: all
channels of stride x stride pixels.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

from dcgan_jax.core.conv_cpu.geometry import Geometry, Pair
from dcgan_jax.core.conv_cpu.phases import interleave

Grid = Sequence[Sequence[Array]]  # arrays in rows and columns
Map = Callable[[Sequence[Array]], Sequence[Array]]  # a linear map along one axis


def _spread_image(d: Sequence[Array]) -> Sequence[Array]:
  """Maps three pixels to factors of the three products."""
  return d[0] - d[1], d[1], d[2] - d[1]


def _gather_image(m: Sequence[Array]) -> Sequence[Array]:
  """Applies the transpose of `_spread_image`."""
  return m[0], m[1] - m[0] - m[2], m[2]


def _spread_pair(w: Sequence[Array]) -> Sequence[Array]:
  """Maps two taps or two features to factors of the three products."""
  return w[0], w[0] + w[1], w[1]


def _gather_pair(m: Sequence[Array]) -> Sequence[Array]:
  """Applies the transpose of `_spread_pair`."""
  return m[0] + m[1], m[1] + m[2]


def _along_both(f: Map, grid: Grid) -> Grid:
  """Applies a linear map along the columns and then the rows of a grid."""
  columns = [f(column) for column in zip(*grid)]
  return [f(row) for row in zip(*columns)]


def conv(geometry: Geometry, image: Array, kernel: Array) -> Array:
  """Computes the convolution, [B, H, W, C] -> [B, h, w, O]."""

  def contract(i: int, j: int) -> Array:  # -> [B, T, T, O]
    return functools.reduce(jnp.add, [u_row[i][j] @ k[i][j][p] for p, u_row in enumerate(u)])

  u, k = _transform_image(geometry, image), _transform_kernel(geometry, kernel)
  products = [[contract(i, j) for j in range(3)] for i in range(3)]
  height, width = geometry.feature_size
  return interleave(_along_both(_gather_pair, products))[:, :height, :width]


def transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  """Computes the convolution's adjoint in its image, [B, h, w, O] -> [B, H, W, C]."""
  sh, (height, width) = geometry.strides[0], geometry.image_size
  v, k = _transform_features(geometry, features), _transform_kernel(geometry, kernel)
  rows: list[list[Array]] = [[] for _ in range(2 * sh)]  # rows of the image modulo twice the stride
  for p in range(sh):
    products = [[jnp.einsum('bhwo,co->bhwc', v[i][j], k[i][j][p]) for j in range(3)] for i in range(3)]
    grid = _along_both(_gather_image, products)

    def place(i: int, j: int, grid: Grid = grid) -> Array:
      """Pads to T + 1 tiles: the third row and column of a tile are the first of the next."""
      pads = ((0, 0), (i // 2, 1 - i // 2), (j // 2, 1 - j // 2), (0, 0))
      return jnp.pad(grid[i][j], pads)

    for i in range(2):
      for j in range(2):
        meeting = [place(a, b) for a in range(i, 3, 2) for b in range(j, 3, 2)]
        rows[i * sh + p].append(functools.reduce(jnp.add, meeting))
  image = jnp.stack([jnp.stack(row, 3) for row in rows], 2)  # [B, T + 1, 2 sh, T + 1, 2, sw C]
  image = image.reshape(image.shape[0], image.shape[1] * 2 * sh, -1, kernel.shape[2])
  (top, _), (left, _) = geometry.padding
  return image[:, top : top + height, left : left + width]


def kernel_gradient(geometry: Geometry, image: Array, features: Array) -> Array:
  """Computes the convolution's adjoint in its kernel, -> [kh, kw, C, O]."""
  (sh, sw), channels = geometry.strides, (image.shape[-1], features.shape[-1])

  def correlate(i: int, j: int) -> Array:  # -> [sh, sw C, O]
    columns = v[i][j].reshape(-1, channels[1]).T
    return jnp.stack([(columns @ u_row[i][j].reshape(-1, sw * channels[0])).T for u_row in u])

  u, v = _transform_image(geometry, image), _transform_features(geometry, features)
  grid = [[correlate(i, j) for j in range(3)] for i in range(3)]
  taps = _along_both(_gather_pair, grid)
  kernel = jnp.stack([jnp.stack([t.reshape(sh, sw, *channels) for t in row], 1) for row in taps])
  return kernel.reshape(2 * sh, 2 * sw, *channels)


def _transform_image(geometry: Geometry, image: Array) -> Sequence[Grid]:
  """Returns a 3 x 3 grid of arrays [B, T, T, stride * C] for each row modulo the stride.

  The features are T x T tiles of 2 x 2. Separate rows make each array contiguous in both matrix products that
  use it.
  """
  (sh, sw), tiles = geometry.strides, _tiles(geometry)
  pads = [
    (before, (t + 1) * 2 * s - before - size)
    for size, s, t, (before, _) in zip(geometry.image_size, geometry.strides, tiles, geometry.padding)
  ]
  batch, channels = image.shape[0], image.shape[-1]
  # Negative padding crops what the convolution does not reach.
  x = lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
  x = x.reshape(batch, tiles[0] + 1, 2, sh, tiles[1] + 1, 2, sw * channels)

  def tile(i: int, j: int, p: int) -> Array:
    rows = x[:, i // 2 : i // 2 + tiles[0], i % 2, p]
    return rows[:, :, j // 2 : j // 2 + tiles[1], j % 2]

  return [
    _along_both(_spread_image, [[tile(i, j, p) for j in range(3)] for i in range(3)]) for p in range(sh)
  ]


def _transform_kernel(geometry: Geometry, kernel: Array) -> Grid:
  """Maps a kernel [2 stride, 2 stride, C, O] to a 3 x 3 grid of arrays [stride, stride * C, O]."""
  (sh, sw), (channels, features) = geometry.strides, kernel.shape[2:]
  taps = kernel.reshape(2, sh, 2, sw * channels, features)
  return _along_both(_spread_pair, [[taps[i, :, j] for j in range(2)] for i in range(2)])


def _transform_features(geometry: Geometry, features: Array) -> Grid:
  """Maps features [B, h, w, O] to a 3 x 3 grid of arrays [B, T, T, O]."""
  (height, width), (rows, columns) = geometry.feature_size, _tiles(geometry)
  y = jnp.pad(features, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
  y = y.reshape(y.shape[0], rows, 2, columns, 2, y.shape[-1])
  return _along_both(_spread_pair, [[y[:, :, i, :, j] for j in range(2)] for i in range(2)])


def _tiles(geometry: Geometry) -> Pair:
  """Returns the number of 2 x 2 tiles that cover the features in height and width."""
  height, width = geometry.feature_size
  return -(-height // 2), -(-width // 2)
