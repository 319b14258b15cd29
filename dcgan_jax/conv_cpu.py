"""The three operators of `conv` in the forms that XLA:CPU runs fastest.

A CPU is bound by multiplications, so these do fewer of them, or at least none with zeros:

phases    A strided transposed convolution as one dense convolution for each pixel position modulo the
          stride.
winograd  F(2x2, 2x2) for kernels of twice the stride, 4 and 2: 9 multiplications instead of 16 (Winograd
          1980; Lavin and Gray 2015). Coefficients are 0 and +-1: the error stays that of float32.
fourier   Stride 1 on small images: the product of discrete Fourier transforms, 7 times fewer multiplications
          for a 5x5 kernel on 7x7 pixels. The transforms are products with small, well-conditioned matrices.
patches   Images of a few channels, strided: the pixels under the kernel side by side, and one matrix product.

Winograd and Fourier are bilinear algorithms, features = A((G kernel) * (B image)) with linear maps A, G and B
along each axis; the other two operators are the same maps transposed.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Operator = Callable[..., Array]  # (geometry, image or features, kernel or features) -> the third
# Linear maps of one axis, over lists of arrays, and grids of arrays (a list for each row).
Map = Callable[[Sequence[Array]], Sequence[Array]]
Grid = Sequence[Sequence[Array]]


def operators(geometry: Any, channels: int) -> dict[str, Operator]:
  """Which of 'conv', 'transpose' and 'kernel_gradient' to do otherwise than plain, and how.

  Args:
    geometry: a `conv.Geometry`.
    channels: of the image.
  """
  if channels < 32:  # too thin for the products of the others; from 5 on, for patches to be small
    return PATCHES if channels <= 4 and min(geometry.strides) > 1 else {}
  if geometry.strides == (1, 1):
    if max(geometry.image_size) > 12:  # a transform's cost grows with the square of its pixels
      return {}
    direct = math.prod((*geometry.feature_size, *geometry.kernel_size))
    return FOURIER if 3 * len(_fourier_matrices(geometry)[1]) < direct else {}
  twice = tuple(2 * s for s in geometry.strides)
  return WINOGRAD if geometry.kernel_size == twice else {'transpose': transpose_by_phases}


def transpose_by_phases(geometry: Any, features: Array, kernel: Array) -> Array:
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

  image = _interleave([[convolve(row, column) for column in columns] for row in rows])
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


def _interleave(grid: Grid) -> Array:
  """A grid of n x m arrays [B, H, W, C] -> [B, n * H, m * W, C], the grid's places varying fastest."""
  image = jnp.stack([jnp.stack(row, 3) for row in grid], 2)
  batch, height, n, width, m, channels = image.shape
  return image.reshape(batch, height * n, width * m, channels)


# Winograd: y0 = d0 w0 + d1 w1 and y1 = d1 w0 + d2 w1 are m0 + m1 and m1 + m2, with the three products
# m = (d0 - d1) w0, d1 (w0 + w1), (d2 - d1) w1. Nested, along rows and columns.


def _spread_image(d: Sequence[Array]) -> Sequence[Array]:
  return d[0] - d[1], d[1], d[2] - d[1]


def _gather_image(m: Sequence[Array]) -> Sequence[Array]:
  return m[0], m[1] - m[0] - m[2], m[2]


def _spread_pair(w: Sequence[Array]) -> Sequence[Array]:
  return w[0], w[0] + w[1], w[1]


def _gather_pair(m: Sequence[Array]) -> Sequence[Array]:
  return m[0] + m[1], m[1] + m[2]


def _along_both(f: Map, grid: Grid) -> Grid:
  columns = [f(column) for column in zip(*grid)]
  return [f(row) for row in zip(*columns)]


def winograd_conv(geometry: Any, image: Array, kernel: Array) -> Array:
  """The convolution; kernel = 2 strides."""

  def contract(i: int, j: int) -> Array:  # -> [B, T, T, O]
    return functools.reduce(jnp.add, [u_row[i][j] @ k[i][j][p] for p, u_row in enumerate(u)])

  u, k = _winograd_image(geometry, image), _winograd_kernel(geometry, kernel)
  products = [[contract(i, j) for j in range(3)] for i in range(3)]
  height, width = geometry.feature_size
  return _interleave(_along_both(_gather_pair, products))[:, :height, :width]


def winograd_transpose(geometry: Any, features: Array, kernel: Array) -> Array:
  """The convolution's adjoint in its image; kernel = 2 strides."""
  sh, (height, width) = geometry.strides[0], geometry.image_size
  v, k = _winograd_features(geometry, features), _winograd_kernel(geometry, kernel)
  rows: list[list[Array]] = [[] for _ in range(2 * sh)]  # of the image, modulo 2 strides
  for p in range(sh):
    products = [[jnp.einsum('bhwo,co->bhwc', v[i][j], k[i][j][p]) for j in range(3)] for i in range(3)]
    grid = _along_both(_gather_image, products)

    def place(i: int, j: int, grid: Grid = grid) -> Array:
      """The third row and column of a tile are the first ones of the next."""
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


def winograd_kernel_gradient(geometry: Any, image: Array, features: Array) -> Array:
  """The convolution's adjoint in its kernel; kernel = 2 strides."""
  (sh, sw), channels = geometry.strides, (image.shape[-1], features.shape[-1])

  def correlate(i: int, j: int) -> Array:  # -> [sh, sw C, O]
    columns = v[i][j].reshape(-1, channels[1]).T
    return jnp.stack([(columns @ u_row[i][j].reshape(-1, sw * channels[0])).T for u_row in u])

  u, v = _winograd_image(geometry, image), _winograd_features(geometry, features)
  grid = [[correlate(i, j) for j in range(3)] for i in range(3)]
  taps = _along_both(_gather_pair, grid)
  kernel = jnp.stack([jnp.stack([t.reshape(sh, sw, *channels) for t in row], 1) for row in taps])
  return kernel.reshape(2 * sh, 2 * sw, *channels)


def _winograd_image(geometry: Any, image: Array) -> Sequence[Grid]:
  """[B, H, W, C] -> for each row modulo the stride 3 x 3 arrays [B, T, T, stride * C].

  There are T x T tiles of 2 x 2 features. Rows are apart so that both products find them contiguous.
  """
  (sh, sw), tiles = geometry.strides, _tiles(geometry)
  pads = [
    (before, (t + 1) * 2 * s - before - size)
    for size, s, t, (before, _) in zip(geometry.image_size, geometry.strides, tiles, geometry.padding)
  ]
  batch, channels = image.shape[0], image.shape[-1]
  # a crop where the convolution does not reach the end of the image
  x = lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
  x = x.reshape(batch, tiles[0] + 1, 2, sh, tiles[1] + 1, 2, sw * channels)

  def tile(i: int, j: int, p: int) -> Array:
    rows = x[:, i // 2 : i // 2 + tiles[0], i % 2, p]
    return rows[:, :, j // 2 : j // 2 + tiles[1], j % 2]

  return [
    _along_both(_spread_image, [[tile(i, j, p) for j in range(3)] for i in range(3)]) for p in range(sh)
  ]


def _winograd_kernel(geometry: Any, kernel: Array) -> Grid:
  """[2 s, 2 s, C, O] -> 3 x 3 arrays [s, s * C, O]."""
  (sh, sw), (channels, features) = geometry.strides, kernel.shape[2:]
  taps = kernel.reshape(2, sh, 2, sw * channels, features)
  return _along_both(_spread_pair, [[taps[i, :, j] for j in range(2)] for i in range(2)])


def _winograd_features(geometry: Any, features: Array) -> Grid:
  """[B, h, w, O] -> 3 x 3 arrays [B, T, T, O]."""
  (height, width), (rows, columns) = geometry.feature_size, _tiles(geometry)
  y = jnp.pad(features, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
  y = y.reshape(y.shape[0], rows, 2, columns, 2, y.shape[-1])
  return _along_both(_spread_pair, [[y[:, :, i, :, j] for j in range(2)] for i in range(2)])


def _tiles(geometry: Any) -> tuple[int, int]:
  height, width = geometry.feature_size
  return -(-height // 2), -(-width // 2)


# Fourier: each frequency is one complex product, made of three real ones.


def fourier_conv(geometry: Any, image: Array, kernel: Array) -> Array:
  """The convolution, stride 1."""
  a, g, b = _fourier_maps(geometry, image.dtype)
  x, w = b @ _pixels_first(image), _kernel_spectrum(g, kernel.swapaxes(2, 3))
  products = jnp.einsum('fbc,foc->fbo', x.reshape(len(b), len(image), -1), w)
  return _pixels_last(a @ products.reshape(len(g), -1), geometry.feature_size, len(image))


def fourier_transpose(geometry: Any, features: Array, kernel: Array) -> Array:
  """The convolution's adjoint in its image, stride 1."""
  a, g, b = _fourier_maps(geometry, features.dtype)
  y, w = a.T @ _pixels_first(features), _kernel_spectrum(g, kernel)
  products = jnp.einsum('fbo,fco->fbc', y.reshape(len(g), len(features), -1), w)
  return _pixels_last(b.T @ products.reshape(len(g), -1), geometry.image_size, len(features))


def fourier_kernel_gradient(geometry: Any, image: Array, features: Array) -> Array:
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


# Patches: with pixels in blocks of the stride, a kernel covers r = ceil(k / stride) blocks along each axis.


def patches_conv(geometry: Any, image: Array, kernel: Array) -> Array:
  """The convolution, strided."""
  return _patches(geometry, image) @ _patch_kernel(geometry, kernel)


def patches_transpose(geometry: Any, features: Array, kernel: Array) -> Array:
  """The convolution's adjoint in its image, strided: the patches, added where they overlap."""
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


def patches_kernel_gradient(geometry: Any, image: Array, features: Array) -> Array:
  """The convolution's adjoint in its kernel, strided."""
  patches, (kh, kw) = _patches(geometry, image), geometry.kernel_size
  kernel = patches.reshape(-1, patches.shape[-1]).T @ features.reshape(-1, features.shape[-1])
  sizes = (r * s for r, s in zip(_blocks(geometry), geometry.strides))
  return kernel.reshape(*sizes, image.shape[-1], features.shape[-1])[:kh, :kw]


def _blocks(geometry: Any) -> tuple[int, int]:
  (kh, kw), (sh, sw) = geometry.kernel_size, geometry.strides
  return -(-kh // sh), -(-kw // sw)


def _patches(geometry: Any, image: Array) -> Array:
  """[B, H, W, C] -> [B, h, w, r stride r stride C]."""
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


def _patch_kernel(geometry: Any, kernel: Array) -> Array:
  """[kh, kw, C, O] -> [r stride r stride C, O], with zeros where blocks reach beyond the kernel."""
  extra = [(0, r * s - k) for r, s, k in zip(_blocks(geometry), geometry.strides, geometry.kernel_size)]
  return jnp.pad(kernel, (*extra, (0, 0), (0, 0))).reshape(-1, kernel.shape[3])


WINOGRAD: dict[str, Operator] = {
  'conv': winograd_conv,
  'transpose': winograd_transpose,
  'kernel_gradient': winograd_kernel_gradient,
}
FOURIER: dict[str, Operator] = {
  'conv': fourier_conv,
  'transpose': fourier_transpose,
  'kernel_gradient': fourier_kernel_gradient,
}
PATCHES: dict[str, Operator] = {
  'conv': patches_conv,
  'transpose': patches_transpose,
  'kernel_gradient': patches_kernel_gradient,
}
