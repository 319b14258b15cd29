"""Layers of both networks as Flax modules."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from dcgan_jax.core import conv


def param_dtype(dtype: Any) -> Any:
  """Returns the dtype of parameters: float32, or `dtype` if it is wider; also with x64 enabled."""
  return jnp.promote_types(dtype, jnp.float32)


class ConvLayer(nn.Module):
  """Arguments and parameters of all convolutional layers.

  Attributes:
    features: Number of output channels.
    kernel_size: Height and width of the kernel in pixels.
    stride: Stride in both directions; the factor of upsampling layers.
    padding: 'same' | 'symmetric'; see `conv.padding_pairs`.
    use_bias: Whether a bias is added to each channel.
    kernel_init: Initializer of the kernel; the bias starts at 0.
    dtype: Dtype of the computation.
    fast: Whether to use the fast derivatives of `conv`; False for plain lax.
  """

  features: int
  kernel_size: int
  stride: int
  padding: str
  use_bias: bool
  kernel_init: nn.initializers.Initializer
  dtype: Any
  fast: bool

  def kernel(self, *channels: int) -> Array:
    """Returns the kernel, `[k, k, *channels]` in the dtype of the computation."""
    shape = (self.kernel_size, self.kernel_size, *channels)
    return self.param('kernel', self.kernel_init, shape, param_dtype(self.dtype)).astype(self.dtype)

  def add_bias(self, x: Array) -> Array:
    """Adds the bias, if any, to x [..., features]."""
    if not self.use_bias:
      return x
    bias = self.param('bias', nn.initializers.zeros, (self.features,), param_dtype(self.dtype))
    return x + bias.astype(self.dtype)


class Conv(ConvLayer):
  """Applies `conv.conv2d`: [B, H, W, I] -> [B, H / stride, W / stride, features]."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.kernel(x.shape[-1], self.features)
    return self.add_bias(conv.conv2d(x, kernel, self.stride, self.padding, self.fast))


class ConvTranspose(ConvLayer):
  """Applies `conv.conv2d_transpose`: [B, H, W, I] -> [B, H * stride, W * stride, features]."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.kernel(self.features, x.shape[-1])
    return self.add_bias(conv.conv2d_transpose(x, kernel, self.stride, self.padding, self.fast))


def bilinear_filter(stride: int) -> np.ndarray:
  """Returns the taps of bilinear upsampling along one axis, float32: [1, 3, 3, 1] / 4 for a stride of 2."""
  taps = np.convolve(np.ones(stride), np.ones(stride))  # a triangle
  if stride % 2 == 0:  # Its centre lies between two pixels.
    taps = np.convolve(taps, [0.5, 0.5])
  return (taps / stride).astype(np.float32)


class FilteredConvTranspose(ConvTranspose):
  """Applies a transposed convolution, then the filter of bilinear upsampling.

  Convolutions commute, so away from the edges this is bilinear upsampling followed by a convolution, at the
  cost of the transposed convolution; StyleGAN2 upsamples so (Karras et al. 2020, arXiv:1912.04958). It equals
  one transposed convolution by the kernel convolved with the filter, to whose size `padding` refers.
  """

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.kernel(self.features, x.shape[-1])
    taps = bilinear_filter(self.stride)
    size = self.kernel_size + len(taps) - 1
    image = (self.stride * x.shape[1], self.stride * x.shape[2])
    pairs = conv.padding_pairs(self.padding, image, (size, size), (self.stride, self.stride))
    x = conv.conv2d_transpose(x, kernel, self.stride, 'valid', self.fast)
    for axis, (before, _) in enumerate(pairs, 1):
      x = _filtered(x, taps, axis, image[axis - 1], before)
    return self.add_bias(x)


def _filtered(x: Array, taps: np.ndarray, axis: int, size: int, before: int) -> Array:
  """Convolves along an axis with a few taps and keeps `size` of the results, the first `before` left out."""
  padding = [(0, 0, 0)] * x.ndim
  padding[axis] = (len(taps) - 1 - before, size + before - x.shape[axis], 0)  # Negative padding crops.
  x = lax.pad(x, jnp.zeros((), x.dtype), padding)
  # Slices, because XLA's convolution of single channels is slow on a CPU.
  return sum(
    (lax.slice_in_dim(x, i, i + size, axis=axis) * tap.astype(x.dtype) for i, tap in enumerate(taps[::-1])),
    start=jnp.zeros((), x.dtype),
  )


class ResizeConv(ConvLayer):
  """Applies bilinear upsampling and a convolution, which avoids checkerboards (Odena et al. 2016).

  It maps [B, H, W, I] to [B, H * stride, W * stride, features].
  """

  @nn.compact
  def __call__(self, x: Array) -> Array:
    batch, height, width, channels = x.shape
    x = jax.image.resize(x, (batch, height * self.stride, width * self.stride, channels), 'bilinear')
    kernel = self.kernel(channels, self.features)
    return self.add_bias(conv.conv2d(x, kernel, 1, self.padding, self.fast))


class Dense(nn.Module):
  """A dense layer, [B, I] -> [B, features], whose bias may be shared by all pixels of an image.

  A transposed convolution of a 1x1 input is such a layer.

  Attributes:
    features: Number of output units.
    biases: Size of the bias, a divisor of `features`; it is tiled over the units, so that one bias per
      channel is the same for every pixel. 0 for no bias.
    kernel_init: Initializer of the kernel; the bias starts at 0.
    dtype: Dtype of the factors of the product.
    output_dtype: Dtype of the sums, the bias and the output; None for `dtype`.
  """

  features: int
  biases: int
  kernel_init: nn.initializers.Initializer
  dtype: Any
  output_dtype: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    output_dtype = self.output_dtype or self.dtype
    shape, dtype = (x.shape[-1], self.features), param_dtype(self.dtype)
    kernel = self.param('kernel', self.kernel_init, shape, dtype).astype(self.dtype)
    x = jnp.matmul(x, kernel, preferred_element_type=output_dtype)
    if not self.biases:
      return x
    bias = self.param('bias', nn.initializers.zeros, (self.biases,), dtype).astype(output_dtype)
    return x + jnp.tile(bias, self.features // self.biases)


class ClassBatchNorm(nn.Module):
  """Batch norm with a scale and a bias per class (de Vries et al. 2017, arXiv:1707.00683).

  Its variables are named like those of batch norm, and its statistics are over all classes.

  Attributes:
    norm: Batch norm without scale and bias.
    scale_init: Initializer of the scales [classes, C]; the biases start at 0.
  """

  norm: nn.BatchNorm
  scale_init: nn.initializers.Initializer

  def setup(self) -> None:
    nn.share_scope(self, self.norm)

  @nn.compact
  def __call__(self, x: Array, y: Array) -> Array:  # [B, ..., C] and class weights [B, classes]
    shape = (y.shape[1], x.shape[-1])
    scales = self.param('scale', self.scale_init, shape, self.norm.param_dtype)
    biases = self.param('bias', nn.initializers.zeros, shape, self.norm.param_dtype)
    pixel = (y.shape[0], *(1,) * (x.ndim - 2), -1)

    def of_class(table: Array) -> Array:
      # A one-hot product selects a row; lower precision would round it.
      return jnp.matmul(y.astype(table.dtype), table, precision='highest').reshape(pixel).astype(x.dtype)

    return self.norm(x) * of_class(scales) + of_class(biases)


UPSAMPLE = {'transposed': ConvTranspose, 'filtered': FilteredConvTranspose, 'bilinear': ResizeConv}


class Dropout(nn.Module):
  """Dropout whose mask is a function of the key and the *global* sample index.

  A sample therefore gets the same mask on one device and on several that divide the batch along `axis_name`.
  Random bits dominate the cost of dropout on a CPU, so each 32-bit word gives two draws of 16 bits, and rates
  are exact to 2**-16.

  Attributes:
    rate: Probability of dropping an activation.
    axis_name: Mapped axis that divides the batch among devices; None on one device.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:  # [B, ...] -> [B, ...]
    key = self.make_rng('dropout')
    index = jnp.arange(x.shape[0])
    if self.axis_name is not None:
      index += x.shape[0] * lax.axis_index(self.axis_name)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    size = math.prod(x.shape[1:])
    words = jax.vmap(lambda k: jax.random.bits(k, (-(-size // 2),), 'uint32'))(keys)
    draws = lax.bitcast_convert_type(words, jnp.uint16).reshape(x.shape[0], -1)[:, :size]
    kept = draws.reshape(x.shape) >= round(self.rate * 2**16)
    return jnp.where(kept, x / (1.0 - self.rate), jnp.zeros((), x.dtype))
