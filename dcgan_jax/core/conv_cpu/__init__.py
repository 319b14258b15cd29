"""The three operators of `conv` in the forms that XLA:CPU runs fastest.

Multiplications dominate on a CPU, so these forms need fewer of them, or at least none with zeros:

- phases: one dense convolution per pixel position modulo the stride, for strided transposed convolutions.
- winograd: F(2x2, 2x2) for kernels of twice the stride: 9 multiplications instead of 16 (Winograd 1980; Lavin
  and Gray 2015). Its coefficients are 0 and +-1, so the error stays that of float32.
- fourier: products of discrete Fourier transforms for stride 1 on small images: 7 times fewer multiplications
  for a 5x5 kernel on 7x7 pixels. The transforms are products with small, well-conditioned matrices.
- patches: one matrix product over patches (im2col), for strided convolutions of images with few channels.
- canonical: the kernel gradient in the layout that XLA:CPU has a fast routine for; for all others.

Winograd's and Fourier's are bilinear algorithms, `features = A((G kernel) * (B image))` with linear maps A, G
and B along each axis; the other two operators are the transposed maps. Images are [B, H, W, C], features
[B, h, w, O] and kernels [kh, kw, C, O], as in `conv`.
"""

import math
from collections.abc import Callable

from jax import Array

from dcgan_jax.core.conv_cpu import canonical, fourier, patches, phases, winograd
from dcgan_jax.core.conv_cpu.geometry import Geometry

Operator = Callable[..., Array]  # (geometry, image or features, kernel or features) -> the third


def operators(geometry: Geometry, channels: int) -> dict[str, Operator]:
  """Returns the operators, of 'conv', 'transpose' and 'kernel_gradient', that should replace plain lax.

  Args:
    geometry: Sizes of image, kernel and features.
    channels: Number of image channels.
  """
  if channels < 32:
    # Matrices of the other forms would be too narrow, and patches of five or more channels too large.
    strided = PATCHES if channels <= 4 else PHASES
    return strided if min(geometry.strides) > 1 else CANONICAL
  if geometry.strides == (1, 1):
    if max(geometry.image_size) > 12:  # The cost of a transform is quadratic in its pixels.
      return CANONICAL
    direct = math.prod((*geometry.feature_size, *geometry.kernel_size))
    return FOURIER if 3 * fourier.count_products(geometry) < direct else CANONICAL
  twice = tuple(2 * s for s in geometry.strides)
  return WINOGRAD if geometry.kernel_size == twice else PHASES


CANONICAL: dict[str, Operator] = {'kernel_gradient': canonical.kernel_gradient}
PHASES: dict[str, Operator] = CANONICAL | {'transpose': phases.transpose}
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
