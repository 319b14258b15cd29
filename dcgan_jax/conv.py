"""2-D convolution and transposed convolution with fast derivatives.

A convolution `features = conv(image, kernel)` is bilinear, so three operators close under
differentiation of any order: the convolution itself, its adjoint in the image (the transposed
convolution) and its adjoint in the kernel (the weight gradient). Each operator's derivatives are the
two others. XLA's own gradient of `lax.conv_transpose` does not have this form and is 10-20 times
slower on CPU (jax issues 23783 and 31662); here every backward pass is an ordinary convolution.

Layouts: images and features NHWC, kernels HWIO of the *convolution*. A transposed convolution takes
the kernel of the convolution that it is the adjoint of, [kh, kw, image channels, feature channels],
as PyTorch, Keras and the paper's authors do.

The formulation of each operator is chosen in `_formulate` alone, for the platform by
`jax.lax.platform_dependent` at lowering; what a CPU gets instead of plain lax is in `conv_cpu.py`.
"""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dcgan_jax import conv_cpu

Pair = tuple[int, int]
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


class Geometry(NamedTuple):
  """What ties an image to its features; static, hashable."""

  image_size: Pair  # height, width in pixels
  kernel_size: Pair
  strides: Pair
  padding: tuple[Pair, Pair]  # zeros (before, after) the image, for height and width

  @property
  def feature_size(self) -> Pair:
    """Height and width of the features."""
    height, width = (
      (size + sum(pad) - k) // s + 1
      for size, k, s, pad in zip(self.image_size, self.kernel_size, self.strides, self.padding)
    )
    return height, width


def padding_pairs(padding: str, image_size: Pair, kernel_size: Pair, strides: Pair) -> tuple[Pair, Pair]:
  """Zeros before and after the image, for height and width.

  'same' (TensorFlow, XLA) splits the padding evenly and puts an odd zero after; 'symmetric' (Theano,
  PyTorch) pads (k - 1) // 2 before and what is still needed after, so that features are
  ceil(image / stride) in both; 'valid' pads nothing. The first two agree when k - stride is even.
  """

  def pair(size: int, k: int, s: int) -> Pair:
    total = max((-(-size // s) - 1) * s + k - size, 0)
    if padding == 'valid':
      return 0, 0
    before = total // 2 if padding == 'same' else min((k - 1) // 2, total)
    return before, total - before

  height, width = (pair(*sizes) for sizes in zip(image_size, kernel_size, strides))
  return height, width


def _geometry(image_size: Pair, kernel: Array, stride: int, padding: str) -> Geometry:
  kernel_size, strides = (kernel.shape[0], kernel.shape[1]), (stride, stride)
  return Geometry(image_size, kernel_size, strides, padding_pairs(padding, image_size, kernel_size, strides))


def conv2d(image: Array, kernel: Array, stride: int = 1, padding: str = 'same', fast: bool = True) -> Array:
  """Convolution (cross-correlation, as in every deep-learning library).

  Args:
    image: [B, H, W, I], any float dtype.
    kernel: [kh, kw, I, O], same dtype.
    stride: in pixels, both directions.
    padding: 'same' | 'symmetric' | 'valid', see `padding_pairs`.
    fast: False takes and differentiates plain `lax.conv_general_dilated`; the reference in tests.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), O], or the valid part of it.
  """
  geometry = _geometry((image.shape[1], image.shape[2]), kernel, stride, padding)
  return (_conv if fast else _plain_conv)(geometry, image, kernel)


def conv2d_transpose(
  features: Array, kernel: Array, stride: int = 2, padding: str = 'same', fast: bool = True
) -> Array:
  """Transposed convolution: the adjoint of `conv2d` in its image.

  Args:
    features: [B, H, W, O], any float dtype.
    kernel: [kh, kw, I, O], same dtype: the kernel of the convolution it is the adjoint of.
    stride: upsampling factor, both directions.
    padding: 'same' | 'symmetric', of that convolution.
    fast: False takes and differentiates plain lax; the reference in tests.

  Returns:
    [B, stride * H, stride * W, I].
  """
  geometry = _geometry((stride * features.shape[1], stride * features.shape[2]), kernel, stride, padding)
  return (_transpose if fast else _plain_transpose)(geometry, features, kernel)


# The three operators. Each backward pass names the other two, which is what makes second and higher
# derivatives (gradient penalties) as fast as the first.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(geometry: Geometry, image: Array, kernel: Array) -> Array:
  return _formulate('conv', geometry, kernel.shape, image, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  return _formulate('transpose', geometry, kernel.shape, features, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(geometry: Geometry, image: Array, features: Array) -> Array:
  shape = (*geometry.kernel_size, image.shape[-1], features.shape[-1])
  return _formulate('kernel_gradient', geometry, shape, image, features)


_conv.defvjp(
  lambda geometry, image, kernel: (_conv(geometry, image, kernel), (image, kernel)),
  lambda geometry, saved, features: (
    _transpose(geometry, features, saved[1]),
    _kernel_gradient(geometry, saved[0], features),
  ),
)
_transpose.defvjp(
  lambda geometry, features, kernel: (_transpose(geometry, features, kernel), (features, kernel)),
  lambda geometry, saved, image: (
    _conv(geometry, image, saved[1]),
    _kernel_gradient(geometry, image, saved[0]),
  ),
)
_kernel_gradient.defvjp(
  lambda geometry, image, features: (_kernel_gradient(geometry, image, features), (image, features)),
  lambda geometry, saved, kernel: (
    _transpose(geometry, saved[1], kernel),
    _conv(geometry, saved[0], kernel),
  ),
)


def _plain_conv(geometry: Geometry, image: Array, kernel: Array) -> Array:
  return lax.conv_general_dilated(
    image, kernel, geometry.strides, geometry.padding, dimension_numbers=DIMENSIONS
  )


def _plain_transpose(geometry: Geometry, features: Array, kernel: Array) -> Array:
  """The adjoint as one convolution over features with zeros put between them."""
  padding = []
  for i in range(2):
    k, (before, _) = geometry.kernel_size[i], geometry.padding[i]
    dilated = (geometry.feature_size[i] - 1) * geometry.strides[i] + 1
    padding.append((k - 1 - before, geometry.image_size[i] + before - dilated))
  return lax.conv_general_dilated(
    features,
    jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
    (1, 1),
    padding,
    lhs_dilation=geometry.strides,
    dimension_numbers=DIMENSIONS,
  )


def _plain_kernel_gradient(geometry: Geometry, image: Array, features: Array) -> Array:
  shape = (*geometry.kernel_size, image.shape[-1], features.shape[-1])
  transpose = jax.linear_transpose(
    partial(_plain_conv, geometry, image), jax.ShapeDtypeStruct(shape, image.dtype)
  )
  return transpose(features)[0]


PLAIN = {'conv': _plain_conv, 'transpose': _plain_transpose, 'kernel_gradient': _plain_kernel_gradient}


def _formulate(operator: str, geometry: Geometry, kernel_shape: tuple[int, ...], *operands: Array) -> Array:
  """An operator in the formulation that is fastest for platform and shape: the choice is made here alone.

  On GPU and TPU that is the plain form, which cuDNN and the TPU compiler recognise. On CPU, in ms, plain /
  chosen, on two Zen 4 cores with jax 0.10, for the convolution, its transpose and its kernel's gradient:
    batch 64, kernel 4, stride 2, 64 to 128 channels at 32x32: Winograd 22 / 22, 41 / 21, 28 / 24
    batch 64, kernel 4, stride 2, 256 to 512 at 8x8: 20 / 17, 28 / 15, 22 / 16
    batch 256, kernel 5, stride 1, 128 to 256 at 7x7: Fourier 98 / 36, 111 / 32, 110 / 35
    batch 256, kernel 5, stride 2, 64 to 128 at 14x14: phases, of the transpose alone, 237 / 31
    batch 64, kernel 4, stride 2, 3 to 64 channels at 64x64: patches 5.3 / 3.9, 5.8 / 2.9, 5.9 / 4.9
  In a step Winograd's image is transformed once for the convolution and for its kernel's gradient.
  """
  plain = partial(PLAIN[operator], geometry)
  if operands[0].dtype == jnp.bfloat16:  # which Winograd's sums would not do good
    return plain(*operands)
  operators = PLAIN | conv_cpu.operators(geometry, kernel_shape[2])
  return lax.platform_dependent(*operands, cpu=partial(operators[operator], geometry), default=plain)


@functools.cache
def compiler_options() -> dict[str, str]:
  """Options for `jax.jit` of anything with convolutions, {} for none; asks the backend what it knows.

  XLA:CPU of jaxlib 0.10 gives convolutions, matrix products and reductions to its YNN library, whose
  convolutions are the slower ones: keep the others.
  """
  options = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE'}
  if jax.default_backend() != 'cpu':
    return {}
  try:
    jax.jit(lambda: jnp.zeros(()), compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:  # another jaxlib, without this option
    return {}
  return options
