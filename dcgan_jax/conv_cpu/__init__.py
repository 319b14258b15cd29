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

import math
from collections.abc import Callable
from typing import Any

from jax import Array

from dcgan_jax.conv_cpu import fourier, patches, phases, winograd

Operator = Callable[..., Array]  # (geometry, image or features, kernel or features) -> the third


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
    return FOURIER if 3 * fourier.count_products(geometry) < direct else {}
  twice = tuple(2 * s for s in geometry.strides)
  return WINOGRAD if geometry.kernel_size == twice else PHASES


PHASES: dict[str, Operator] = {'transpose': phases.transpose}
WINOGRAD: dict[str, Operator] = {
  'conv': winograd.conv,
  'transpose': winograd.transpose,
  'kernel_gradient': winograd.kernel_gradient,
}
FOURIER: dict[str, Operator] = {
  'conv': fourier.conv,
  'transpose': fourier.transpose,
  'kernel_gradient': fourier.kernel_gradient,
}
PATCHES: dict[str, Operator] = {
  'conv': patches.conv,
  'transpose': patches.transpose,
  'kernel_gradient': patches.kernel_gradient,
}
