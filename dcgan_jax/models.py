"""The generator and the discriminator of DCGAN (Radford et al. 2015, section 3) as Flax modules.

One module each: every architecture of the presets in `configs/` is a choice of arguments.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from dcgan_jax import conv

Pair = tuple[int, int]


class _ConvLayer(nn.Module):
  """The parameters that the convolutional layers share."""

  features: int
  kernel_size: int
  stride: int
  padding: str
  use_bias: bool
  kernel_init: nn.initializers.Initializer
  dtype: Any
  fast: bool

  def kernel(self, *channels: int) -> Array:
    shape = (self.kernel_size, self.kernel_size, *channels)
    return self.param('kernel', self.kernel_init, shape).astype(self.dtype)

  def add_bias(self, x: Array) -> Array:
    if not self.use_bias:
      return x
    return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)


class Conv(_ConvLayer):
  """`conv.conv2d`: [B, H, W, I] -> [B, H / stride, W / stride, features]."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.kernel(x.shape[-1], self.features)
    return self.add_bias(conv.conv2d(x, kernel, self.stride, self.padding, self.fast))


class ConvTranspose(_ConvLayer):
  """`conv.conv2d_transpose`: [B, H, W, I] -> [B, H * stride, W * stride, features]."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.kernel(self.features, x.shape[-1])
    return self.add_bias(conv.conv2d_transpose(x, kernel, self.stride, self.padding, self.fast))


class ResizeConv(_ConvLayer):
  """Bilinear upsampling by the stride, then a convolution: no checkerboard (seed document 003)."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    batch, height, width, channels = x.shape
    x = jax.image.resize(x, (batch, height * self.stride, width * self.stride, channels), 'bilinear')
    kernel = self.kernel(channels, self.features)
    return self.add_bias(conv.conv2d(x, kernel, 1, self.padding, self.fast))


class Dense(nn.Module):
  """[B, I] -> [B, features], with a bias for each of the last `biases` features, repeated; 0 for none.

  A transposed convolution of a 1x1 input is a dense layer whose bias is shared by all pixels.
  """

  features: int
  biases: int
  kernel_init: nn.initializers.Initializer
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param('kernel', self.kernel_init, (x.shape[-1], self.features)).astype(self.dtype)
    x = x @ kernel
    if not self.biases:
      return x
    bias = self.param('bias', nn.initializers.zeros, (self.biases,)).astype(self.dtype)
    return x + jnp.tile(bias, self.features // self.biases)


UPSAMPLE = {'transposed': ConvTranspose, 'bilinear': ResizeConv}


class Dropout(nn.Module):
  """Dropout whose mask is a function of the key and the *global* sample index.

  On several devices, each with its part of the batch along `axis_name`, every sample meets the mask
  that it would have met on one device. Rates are exact to 2**-16: two 16-bit draws come from each
  32-bit random word, since on CPU the random bits are what dropout costs.
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


class _Network(nn.Module):
  """The arguments that both networks share.

  Attributes:
    widths: channels of each hidden layer, input to output.
    strides: of each convolution, input to output; image size = base size * their product.
    kernel_size: of every convolution.
    padding: 'same' | 'symmetric', see `conv.padding_pairs`.
    use_bias: whether layers without batch norm to absorb it, and those with it, have a bias.
    norm: for each hidden layer, whether batch norm follows it.
    norm_epsilon: added to the variance: 1e-5 PyTorch, 1e-3 Keras, 1e-8 the paper's authors.
    norm_momentum: of the running statistics' average: 0.9 PyTorch (its 0.1), 0.99 Keras.
    leak: slope of the leaky ReLU for negative inputs; 0 is the plain ReLU.
    dropout: rate after each hidden layer's activation.
    initializer: 'normal' draws kernels from N(0, 0.02) and batch-norm scales from N(1, 0.02), as the paper's
      authors; 'glorot' is the Keras default, Glorot uniform and scale 1. Biases start at 0.
    fast_conv: False computes and differentiates with plain lax, see `conv`.
    axis_name: mapped axis along which the batch is divided among devices, None on one device.
    sync_norm: batch statistics are those of all devices' images; False takes each device's own.
    dtype: of the computation; parameters, statistics and outputs are float32, or wider if it is.
  """

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  norm: tuple[bool, ...]
  kernel_size: int = 4
  padding: str = 'same'
  use_bias: bool = False
  norm_epsilon: float = 1e-5
  norm_momentum: float = 0.9
  leak: float = 0.2
  dropout: float = 0.0
  initializer: str = 'normal'
  fast_conv: bool = True
  axis_name: str | None = None
  sync_norm: bool = True
  dtype: Any = jnp.float32

  def dense(self, features: int, biases: int, name: str) -> Dense:
    return Dense(features, biases if self.use_bias else 0, self.kernel_init, self.dtype, name=name)

  @property
  def kernel_init(self) -> nn.initializers.Initializer:
    return nn.initializers.normal(0.02) if self.initializer == 'normal' else nn.initializers.glorot_uniform()

  def conv(self, module: type, features: int, stride: int, name: str) -> nn.Module:
    return module(
      features,
      self.kernel_size,
      stride,
      self.padding,
      self.use_bias,
      self.kernel_init,
      self.dtype,
      self.fast_conv,
      name=name,
    )

  def batch_norm(self, train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=self.norm_momentum,
      epsilon=self.norm_epsilon,
      dtype=self.dtype,
      scale_init=_normal_around_one if self.initializer == 'normal' else nn.initializers.ones,
      axis_name=self.axis_name if self.sync_norm else None,
      name=name,
    )

  def activate(self, x: Array, train: bool, dropout_name: str) -> Array:
    x = nn.leaky_relu(x, self.leak) if self.leak else nn.relu(x)
    if not self.dropout or not train:
      return x
    return Dropout(self.dropout, self.axis_name, name=dropout_name)(x)


def _normal_around_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Generator(_Network):
  """z -> image. A dense layer to the base size, then upsampling convolutions, tanh at the end.

  The dense layer is the paper's "project and reshape"; it equals PyTorch's 4x4 transposed convolution
  of a 1x1 input. `widths[0]` are its channels, each convolution makes the next width, the last one
  `channels`. Beside `_Network`:

  Attributes:
    image_size: height and width in pixels, each divisible by the product of the strides.
    channels: of the image.
    dense_norm: 'channel' normalises the dense layer's output, and adds its bias, per channel, as PyTorch
      does; 'unit' per unit (before the reshape), as Keras and the paper's authors do.
    upsample: 'transposed' convolution | 'bilinear' resize and convolution.
  """

  image_size: Pair = (64, 64)
  channels: int = 3
  dense_norm: str = 'channel'
  upsample: str = 'transposed'

  @nn.compact
  def __call__(self, z: Array, train: bool = False) -> Array:
    """Makes images.

    Args:
      z: latents [B, z_size].
      train: normalise by the batch's statistics and update the running ones (collection
        'batch_stats') instead of using those.

    Returns:
      Images [B, H, W, channels], float32 in [-1, 1].
    """
    height, width = (size // math.prod(self.strides) for size in self.image_size)
    units = height * width * self.widths[0]
    by_channel = self.dense_norm == 'channel'
    x = self.dense(units, self.widths[0] if by_channel else units, 'dense')(z.astype(self.dtype))
    if by_channel:
      x = x.reshape(-1, height, width, self.widths[0])
    if self.norm[0]:
      x = self.batch_norm(train, 'norm0')(x)
    x = x.reshape(-1, height, width, self.widths[0])
    x = self.activate(x, train, 'dropout0')
    features = (*self.widths[1:], self.channels)
    for i, stride in enumerate(self.strides, 1):
      x = self.conv(UPSAMPLE[self.upsample], features[i - 1], stride, f'conv{i}')(x)
      if i < len(self.strides):
        if self.norm[i]:
          x = self.batch_norm(train, f'norm{i}')(x)
        x = self.activate(x, train, f'dropout{i}')
    return jnp.tanh(x.astype(jnp.promote_types(self.dtype, jnp.float32)))


class Discriminator(_Network):
  """image -> logit. Strided convolutions, then a dense layer to one number.

  The dense layer equals PyTorch's valid 4x4 convolution of a 4x4 input.
  """

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple[Array, ...]]:
    """Judges images.

    Args:
      images: [B, H, W, C], float in [-1, 1].
      train: normalise by the batch's statistics and update the running ones (collection
        'batch_stats'), and drop out, with the 'dropout' key.

    Returns:
      Logits [B], float32, positive for real; and each hidden layer's activations, for whoever wants
      them as features (the paper's section 5.1).
    """
    x = images.astype(self.dtype)
    activations = []
    for i, (features, stride, norm) in enumerate(zip(self.widths, self.strides, self.norm), 1):
      x = self.conv(Conv, features, stride, f'conv{i}')(x)
      if norm:
        x = self.batch_norm(train, f'norm{i}')(x)
      x = self.activate(x, train, f'dropout{i}')
      activations.append(x)
    logits = self.dense(1, 1, 'dense')(x.reshape(x.shape[0], -1))
    return logits[:, 0].astype(jnp.promote_types(self.dtype, jnp.float32)), tuple(activations)


def normalize(pixels: Array) -> Array:
  """Scales pixels, uint8 in 0..255, to the networks' range: float32 in [-1, 1]."""
  return pixels.astype(jnp.float32) / 127.5 - 1.0


def to_pixels(images: Array) -> Array:
  """Rounds images, float in [-1, 1], to pixels, uint8 in 0..255: the inverse of `normalize`."""
  return jnp.clip(jnp.rint((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
