"""The three operators of `conv` in the forms that XLA:CPU runs fastest.

On a CPU the time goes into multiplications, so these forms do fewer of them, or at least none with zeros:

phases    A strided transposed convolution becomes one dense convolution for each pixel position modulo
          the stride.
winograd  Kernels of twice the stride go through F(2x2, 2x2): 9 multiplications instead of 16 (Winograd 1980;
          Lavin and Gray 2015). Its coefficients are 0 and +-1, so the error stays that of float32.
fourier   Convolutions of stride 1 on small images become products of discrete Fourier transforms: 7 times
          fewer multiplications for a 5x5 kernel on 7x7 pixels. The transforms themselves are products with
          small, well-conditioned matrices.
patches   Strided convolutions of images with few channels put the pixels under the kernel side by side and
          take one matrix product.
canonical   All others: the gradient of the kernel in the layout that XLA:CPU is fast for.

Winograd's and Fourier's are bilinear algorithms, features = A((G kernel) * (B image)) with linear maps A, G
and B along each axis; the other two operators are the same maps transposed. Images are [B, H, W, C], features
[B, h, w, O] and kernels [kh, kw, C, O], as in `conv`.
"""

import math
from collections.abc import Callable

from jax import Array

from dcgan_jax.core.conv_cpu import canonical, fourier, patches, phases, winograd
from dcgan_jax.core.conv_cpu.geometry import Geometry

Operator = Callable[..., Array]  # (geometry, image or features, kernel or features) -> the third


def operators(geometry: Geometry, channels: int) -> dict[str, Operator]:
  """Returns those of 'conv', 'transpose' and 'kernel_gradient' that should not be computed by plain lax.

  Args:
    geometry: the sizes of image, kernel and features.
    channels: of the image.
  """
  if channels < 32:
    # The products of the other forms would be too thin, and patches of five channels or more are too large.
    return PATCHES if channels <= 4 and min(geometry.strides) > 1 else CANONICAL
  if geometry.strides == (1, 1):
    if max(geometry.image_size) > 12:  # The cost of a transform grows with the square of its pixels.
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
