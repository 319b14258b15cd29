"""2-D convolution and transposed convolution with fast derivatives.

A convolution `features = conv(image, kernel)` is bilinear, so three operators are closed under
differentiation of any order: the convolution, its adjoint in the image (the transposed convolution) and its
adjoint in the kernel (the weight gradient). The derivatives of each are the other two. XLA's own gradient of
`lax.conv_transpose` does not have this form and is 10-20 times slower on CPU (jax issues 23783 and 31662);
here every backward pass is an ordinary convolution.

Images and features are NHWC. Kernels are HWIO of the *convolution*: a transposed convolution takes the kernel
of its adjoint, [kh, kw, image channels, feature channels], as in PyTorch, Keras and the authors' code.

`_formulate` chooses the form in which an operator is computed; `jax.lax.platform_dependent` resolves the
platform at lowering. The forms that replace plain lax on a CPU are in `conv_cpu`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from dcgan_jax.core import conv_cpu
from dcgan_jax.core.conv_cpu.geometry import DIMENSIONS, Geometry, Pair


def padding_pairs(padding: str, image_size: Pair, kernel_size: Pair, strides: Pair) -> tuple[Pair, Pair]:
  """Returns the zero padding (before, after) of the image, for height and width.

  Args:
    padding: 'same' (TensorFlow, XLA) splits the zeros evenly, with an odd one after the image; 'symmetric'
      (Theano, PyTorch) puts (k - 1) // 2 before the image, and after it what features of size
      ceil(image / stride) still need; 'valid' has none. 'same' and 'symmetric' agree if k - stride is even.
    image_size: Height and width in pixels.
    kernel_size: Height and width in pixels.
    strides: Vertical and horizontal stride.
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
  """Returns the geometry of a kernel [kh, kw, I, O] on an image of this size."""
  kernel_size, strides = (kernel.shape[0], kernel.shape[1]), (stride, stride)
  return Geometry(image_size, kernel_size, strides, padding_pairs(padding, image_size, kernel_size, strides))


def conv2d(image: Array, kernel: Array, stride: int = 1, padding: str = 'same', fast: bool = True) -> Array:
  """Computes the convolution (cross-correlation, as in every deep-learning library).

  Args:
    image: Images, [B, H, W, I], any float dtype.
    kernel: Kernel, [kh, kw, I, O], same dtype.
    stride: Stride in both directions.
    padding: 'same' | 'symmetric' | 'valid'; see `padding_pairs`.
    fast: Whether to use the fast forms; False for plain `lax.conv_general_dilated`, the reference in tests.

  Returns:
    Features, [B, ceil(H / stride), ceil(W / stride), O]; only the valid part with 'valid'.
  """
  geometry = _geometry((image.shape[1], image.shape[2]), kernel, stride, padding)
  return (_conv if fast else _plain_conv)(geometry, image, kernel)


def conv2d_transpose(
  features: Array, kernel: Array, stride: int = 2, padding: str = 'same', fast: bool = True
) -> Array:
  """Computes the transposed convolution, the adjoint of `conv2d` in its image.

  Args:
    features: Features, [B, H, W, O], any float dtype.
    kernel: Kernel of the adjoint convolution, [kh, kw, I, O], same dtype.
    stride: Upsampling factor in both directions.
    padding: Padding of the adjoint convolution, 'same' | 'symmetric' | 'valid'.
    fast: Whether to use the fast forms; False for plain lax, the reference in tests.

  Returns:
    Images, [B, stride * H, stride * W, I]; with 'valid' all that the kernel reaches,
    [B, stride * (H - 1) + kh, stride * (W - 1) + kw, I].
  """
  height, width = (
    stride * (size - 1) + kernel.shape[i] if padding == 'valid' else stride * size
    for i, size in enumerate(features.shape[1:3])
  )
  geometry = _geometry((height, width), kernel, stride, padding)
  return (_transpose if fast else _plain_transpose)(geometry, features, kernel)


# The three operators. The backward pass of each calls the other two, so higher derivatives (gradient
# penalties) are as fast as the first.


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
  """Computes the adjoint as one convolution of features dilated with zeros."""
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
  """Computes an operator in the fastest form for the platform and the shape.

  On GPU and TPU that is plain lax, which cuDNN and the TPU compiler recognise. The exception are features
  smaller than the kernel on a GPU, such as 4x4 under 5x5: XLA:GPU would dilate the window to 7x7, and an H100
  would take several times as long as for other layers, so these become matrix products.

  On a CPU it depends on the shape; see `conv_cpu.operators`. Milliseconds of the plain / the chosen form, for
  the convolution, its transpose and its kernel gradient, on two Zen 4 cores with jax 0.10:
    batch 64, kernel 4, stride 2, 64 to 128 channels at 32x32: Winograd 22 / 22, 41 / 21, 28 / 24
    batch 64, kernel 4, stride 2, 256 to 512 at 8x8: Winograd 20 / 17, 28 / 15, 22 / 16
    batch 256, kernel 5, stride 1, 128 to 256 at 7x7: Fourier 98 / 36, 111 / 32, 110 / 35
    batch 256, kernel 5, stride 2, 64 to 128 at 14x14: phases, for the transpose alone, 237 / 31
    batch 64, kernel 4, stride 2, 3 to 64 channels at 64x64: patches 5.3 / 3.9, 5.8 / 2.9, 5.9 / 4.9
  In a train step, the convolution and its kernel gradient share Winograd's transform of the image.
  """
  plain = cpu = cuda = partial(PLAIN[operator], geometry)
  if operands[0].dtype != jnp.bfloat16:  # too imprecise for the sums of Winograd's algorithm
    cpu = partial((PLAIN | conv_cpu.operators(geometry, kernel_shape[2]))[operator], geometry)
  small = any(f < k for f, k in zip(geometry.feature_size, geometry.kernel_size))
  if operator != 'conv' and small and min(geometry.strides) > 1:
    cuda = partial(conv_cpu.PATCHES[operator], geometry)
  return lax.platform_dependent(*operands, cpu=cpu, cuda=cuda, default=plain)
