"""The generator and the discriminator of DCGAN (Radford et al. 2015, section 3) as Flax modules.

One module each serves all presets in `configs/`, which differ only in its arguments.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from dcgan_jax.core.layers import UPSAMPLE, ClassBatchNorm, Conv, ConvTranspose, Dense, Dropout
from dcgan_jax.core.pixels import BYTES, Pixels

Pair = tuple[int, int]
# The smallest epsilon that hides the rounding of the variance E[x^2] - E[x]^2 in float32. Below it batch norm
# computes E[(x - E[x])^2] instead, which reads the activations twice.
LEAST_EPSILON_OF_FAST_VARIANCE = 1e-6


INITIALIZERS = {
  'normal': nn.initializers.normal(0.02),
  'glorot': nn.initializers.glorot_uniform(),
  'he': nn.initializers.variance_scaling(2.0, 'fan_in', 'normal'),
}


class _Network(nn.Module):
  """Arguments of both networks.

  Attributes:
    widths: Channels of each hidden layer, from input to output.
    strides: Stride of each convolution, from input to output; the image size is the base size times their
      product.
    norm: Whether batch norm follows each hidden layer.
    dense_widths: Units of additional dense layers, before the dense layer of G and that of D; normalised if
      the adjacent hidden layer is, the first of G or the last of D.
    classes: Number of classes to condition on; 0 for none.
    condition: Class conditioning; see the subclasses.
    kernel_size: Kernel size of all convolutions, in pixels.
    padding: 'same' | 'symmetric'; see `conv.padding_pairs`.
    use_bias: Whether layers have a bias, even if batch norm absorbs it.
    norm_epsilon: Epsilon of batch norm: 1e-5 in PyTorch, 1e-3 in Keras, 1e-8 in the authors' code. Below 1e-6
      the variance is computed in two passes, because the rounding error of one pass can be larger.
    norm_affine: Whether batch norms have a scale and a bias.
    norm_momentum: Decay of the running statistics: 0.9 in PyTorch (there called 0.1), 0.99 in Keras.
    leak: Negative slope of the leaky ReLU; 0 for a plain ReLU.
    dropout: Dropout rate after each hidden layer's activation.
    initializer: 'normal' draws kernels from N(0, 0.02) and batch-norm scales from N(1, 0.02), as the authors
      do; 'glorot' has Glorot uniform kernels and scales of 1, as in Keras; 'he' draws kernels from
      N(0, variance 2 / fan-in) with scales of 1 (He et al. 2015), so that narrow layers do not shrink their
      input. Biases start at 0.
    fast_conv: Whether to use the fast derivatives of `conv`; False for plain lax.
    axis_name: Mapped axis that divides the batch among devices; None on one device.
    sync_norm: Whether batch statistics are over all devices or over each device's own images.
    dtype: Dtype of the computation. Parameters, statistics and outputs are float32 or, if it is wider, of
      this dtype. D accumulates its logit in the output dtype, so that logits keep their precision.
  """

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  norm: tuple[bool, ...]
  dense_widths: tuple[int, ...] = ()
  classes: int = 0
  condition: str = ''
  kernel_size: int = 4
  padding: str = 'same'
  use_bias: bool = False
  norm_epsilon: float = 1e-5
  norm_affine: bool = True
  norm_momentum: float = 0.9
  leak: float = 0.2
  dropout: float = 0.0
  initializer: str = 'normal'
  fast_conv: bool = True
  axis_name: str | None = None
  sync_norm: bool = True
  dtype: Any = jnp.float32

  def dense(self, features: int, biases: int, name: str, output_dtype: Any = None) -> Dense:
    """Returns a dense layer, with `biases` biases if the network has biases."""
    biases = biases if self.use_bias else 0
    return Dense(features, biases, self.kernel_init, self.dtype, output_dtype, name=name)

  @property
  def output_dtype(self) -> Any:
    """The dtype of images and logits: float32, or that of the computation if it is wider."""
    return jnp.promote_types(self.dtype, jnp.float32)

  @property
  def kernel_init(self) -> nn.initializers.Initializer:
    """The initializer of all kernels."""
    return INITIALIZERS[self.initializer]

  def conv(self, module: type, features: int, stride: int, name: str) -> nn.Module:
    """Returns a convolutional layer of the given class."""
    init = self.kernel_init
    if issubclass(module, ConvTranspose) and self.initializer == 'he':
      # The kernel is [k, k, out, in], and one in stride * stride of its pixels adds to each output pixel, but
      # the filter adds as many of these where neighbours are alike.
      scale = 2.0 * stride**2 if module is ConvTranspose else 2.0
      init = nn.initializers.variance_scaling(scale, 'fan_in', 'normal', in_axis=-1, out_axis=-2)
    return module(
      features,
      self.kernel_size,
      stride,
      self.padding,
      self.use_bias,
      init,
      self.dtype,
      self.fast_conv,
      name=name,
    )

  def batch_norm(self, x: Array, y: Array | None, train: bool, name: str) -> Array:
    """Applies batch norm, with batch statistics in training and running statistics otherwise."""
    make = partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=self.norm_momentum,
      epsilon=self.norm_epsilon,
      dtype=self.dtype,
      use_fast_variance=self.norm_epsilon >= LEAST_EPSILON_OF_FAST_VARIANCE,
      axis_name=self.axis_name if self.sync_norm else None,
    )
    scale_init = _normal_around_one if self.initializer == 'normal' else nn.initializers.ones
    if y is None or self.condition != 'norm':
      affine = self.norm_affine
      return make(scale_init=scale_init, use_scale=affine, use_bias=affine, name=name)(x)
    return ClassBatchNorm(make(use_scale=False, use_bias=False, parent=None), scale_init, name=name)(x, y)

  def hidden(self, x: Array, y: Array | None, norm: bool, train: bool) -> Array:
    """Applies the additional dense layers: [B, I] -> [B, units], with the class concatenated."""
    for i, units in enumerate(self.dense_widths, 1):
      x = self.normalized(self.dense(units, units, f'hidden{i}'), train)(x)
      if norm:
        x = self.batch_norm(x, y, train, f'hidden_norm{i}')
      x = self.beside(self.activate(x, train, f'hidden_dropout{i}'), y)
    return x

  def beside(self, x: Array, y: Array | None) -> Array:
    """Concatenates the class to x, [B, ..., C] -> [B, ..., C + classes], if `condition` is 'concat'."""
    if y is None or self.condition != 'concat':
      return x
    y = y.reshape(y.shape[0], *(1,) * (x.ndim - 2), -1)
    return jnp.concatenate([x, jnp.broadcast_to(y, (*x.shape[:-1], y.shape[-1]))], -1)

  def normalized(self, layer: nn.Module, train: bool) -> Callable[[Array], Array]:
    """Returns the layer; D overrides this for spectral normalisation."""
    del train
    return layer

  def activate(self, x: Array, train: bool, dropout_name: str) -> Array:
    """Applies the (leaky) ReLU, and dropout in training."""
    x = nn.leaky_relu(x, self.leak) if self.leak else nn.relu(x)
    if not self.dropout or not train:
      return x
    return Dropout(self.dropout, self.axis_name, name=dropout_name)(x)


def _normal_around_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Draws batch-norm scales from N(1, 0.02)."""
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Generator(_Network):
  """The generator: a dense layer to the base size, upsampling convolutions, and tanh.

  The dense layer is the paper's "project and reshape" (figure 1) and equals PyTorch's 4x4 transposed
  convolution of a 1x1 input. It has `widths[0]` output channels, the convolutions have the next widths, and
  the last one has `channels`.

  Attributes:
    image_size: Height and width in pixels, each divisible by the product of the strides.
    channels: Number of image channels.
    dense_norm: 'channel' normalises the dense layer's output and adds its bias per channel, as in PyTorch;
      'unit' does so per unit, before the reshape, as in Keras and the authors' code.
    upsample: 'transposed' convolution | 'filtered', a transposed convolution and the filter of bilinear
      upsampling | 'bilinear' resize and convolution.
    condition: 'concat' concatenates the class to the input of every layer, as the authors do for MNIST;
      'embedding' appends a learned vector of size z_size per class to z; 'norm' has a scale and a bias per
      class in each batch norm (Miyato and Koyama 2018, section 4).
  """

  image_size: Pair = (64, 64)
  channels: int = 3
  dense_norm: str = 'channel'
  upsample: str = 'transposed'
  condition: str = 'concat'

  @property
  def norms(self) -> tuple[tuple[str, str], ...]:
    """Returns each batch norm, in the order of the layers, and the layer whose output it normalises."""
    hidden = [(f'hidden_norm{i}', f'hidden{i}') for i in range(1, 1 + len(self.dense_widths)) if self.norm[0]]
    layers = ['dense', *(f'conv{i}' for i in range(1, len(self.norm)))]
    return (*hidden, *((f'norm{i}', layer) for i, layer in enumerate(layers) if self.norm[i]))

  @nn.compact
  def __call__(self, z: Array, train: bool = False) -> Array:
    """Generates images from latents.

    Args:
      z: Latents, float [B, z_size]; with classes [B, z_size + classes], z followed by a one-hot class. Other
        class weights interpolate between classes.
      train: Whether to normalise by batch statistics and update the running ones (collection 'batch_stats'),
        and to apply dropout (key 'dropout').

    Returns:
      Images, float32 [B, H, W, channels] in [-1, 1].
    """
    height, width = (size // math.prod(self.strides) for size in self.image_size)
    units = height * width * self.widths[0]
    by_channel = self.dense_norm == 'channel'
    x, y = self.told(z.astype(self.dtype))
    x = self.hidden(x, y, self.norm[0], train)
    x = self.dense(units, self.widths[0] if by_channel else units, 'dense')(x)
    if by_channel:
      x = x.reshape(-1, height, width, self.widths[0])
    if self.norm[0]:
      x = self.batch_norm(x, y, train, 'norm0')
    x = x.reshape(-1, height, width, self.widths[0])
    x = self.activate(x, train, 'dropout0')
    features = (*self.widths[1:], self.channels)
    for i, stride in enumerate(self.strides, 1):
      x = self.conv(UPSAMPLE[self.upsample], features[i - 1], stride, f'conv{i}')(self.beside(x, y))
      if i < len(self.strides):
        if self.norm[i]:
          x = self.batch_norm(x, y, train, f'norm{i}')
        x = self.activate(x, train, f'dropout{i}')
    return jnp.tanh(x.astype(self.output_dtype))

  def told(self, z: Array) -> tuple[Array, Array | None]:
    """Returns the input of the first layer, [B, I], and the class of the others, [B, classes] or None."""
    if not self.classes:
      return z, None
    z, y = jnp.split(z, [z.shape[1] - self.classes], 1)
    if self.condition != 'embedding':
      return self.beside(z, y), y
    # Norm 1, as a one-hot vector: a longer embedding drowns z, and each class collapses to one image.
    init = nn.initializers.normal(z.shape[1] ** -0.5)
    embedding = Dense(z.shape[1], 0, init, self.dtype, name='embedding')
    return jnp.concatenate([z, embedding(y)], 1), None


class Discriminator(_Network):
  """The discriminator: strided convolutions, then a dense layer to one logit.

  The dense layer equals PyTorch's valid 4x4 convolution of a 4x4 input.

  Attributes:
    packing: Number of images judged together, stacked along the channels, which exposes a generator with
      little variety (PacGAN, Lin et al. 2018, section 3).
    spectral_norm: Whether each kernel is divided by its largest singular value (Miyato et al. 2018, section
      2.1), estimated by one power iteration per forward pass in training.
    condition: 'projection' adds a linear function of the last features, one per class, to the logit (Miyato
      and Koyama 2018, equation 4); 'concat' concatenates the class to the input of every layer.
  """

  packing: int = 1
  spectral_norm: bool = False
  condition: str = 'projection'

  @property
  def norms(self) -> tuple[tuple[str, str], ...]:
    """Returns each batch norm, in the order of the layers, and the layer whose output it normalises."""
    hidden = [
      (f'hidden_norm{i}', f'hidden{i}') for i in range(1, 1 + len(self.dense_widths)) if self.norm[-1]
    ]
    return (*((f'norm{i}', f'conv{i}') for i, norm in enumerate(self.norm, 1) if norm), *hidden)

  def nearest_image(self, count: int) -> tuple[str, ...]:
    """Returns the names of the first hidden layers, counting from the image, and of their batch norms."""
    convolutions = [f'conv{i}' for i in range(1, 1 + len(self.widths))]
    layers = [*convolutions, *(f'hidden{i}' for i in range(1, 1 + len(self.dense_widths)))][:count]
    return (*layers, *(norm for norm, layer in self.norms if layer in layers))

  @nn.compact
  def __call__(
    self, images: Array, y: Array | None = None, train: bool = False
  ) -> tuple[Array, tuple[Array, ...]]:
    """Judges images.

    Args:
      images: Images, float [B, H, W, C] in [-1, 1].
      y: One-hot class of each image, float [B, classes]; None for no class.
      train: Whether to normalise by batch statistics and update the running ones (collection 'batch_stats'),
        and to apply dropout (key 'dropout').

    Returns:
      Logits, float32 [B / packing], positive for real; and the activations of each convolution,
      [B / packing, h, w, width], which are the features of section 5.1 of the paper.
    """
    x = pack(images, self.packing).astype(self.dtype)
    if self.classes:
      y = jnp.zeros((images.shape[0], self.classes)) if y is None else y
      y = y.reshape(x.shape[0], self.packing * self.classes).astype(self.dtype)
    activations = []
    for i, (features, stride, norm) in enumerate(zip(self.widths, self.strides, self.norm), 1):
      x = self.normalized(self.conv(Conv, features, stride, f'conv{i}'), train)(self.beside(x, y))
      if norm:
        x = self.batch_norm(x, y, train, f'norm{i}')
      x = self.activate(x, train, f'dropout{i}')
      activations.append(x)
    x = self.hidden(self.beside(x.reshape(x.shape[0], -1), y), y, self.norm[-1], train)
    logits = self.normalized(self.dense(1, 1, 'dense', self.output_dtype), train)(x)
    if y is not None and self.condition == 'projection':
      init, dtypes = self.kernel_init, (self.dtype, self.output_dtype)
      of_classes = self.normalized(Dense(y.shape[1], 0, init, *dtypes, name='projection'), train)
      logits += (of_classes(x) * y.astype(self.output_dtype)).sum(1, keepdims=True)
    return logits[:, 0], tuple(activations)

  def normalized(self, layer: nn.Module, train: bool) -> Callable[[Array], Array]:
    """Returns the layer, with a spectrally normalised kernel if the network has them."""
    if not self.spectral_norm:
      return layer
    wrapper = nn.SpectralNorm(layer, name=f'spectral_{layer.name}')
    return partial(wrapper, update_stats=train)


def pack(images: Array, count: int) -> Array:
  """Stacks each `count` images along the channels: [B, H, W, C] -> [B / count, H, W, count * C]."""
  if count == 1:
    return images
  batch, height, width, channels = images.shape
  packs = images.reshape(batch // count, count, height, width, channels)
  return jnp.moveaxis(packs, 1, 3).reshape(batch // count, height, width, count * channels)


def alone(images: Array, discriminator: Discriminator) -> Array:
  """Repeats each image `packing` times, so that the discriminator judges it by itself."""
  return images if discriminator.packing == 1 else jnp.repeat(images, discriminator.packing, 0)


def normalize(images: Array, pixels: Pixels = BYTES) -> Array:
  """Scales images from the stored format to float32 in [-1, 1]."""
  numbers = images.astype(jnp.float32)
  numbers = numbers - pixels.low if pixels.low else numbers
  return numbers / ((pixels.high - pixels.low) / 2) - 1.0


def to_pixels(images: Array, pixels: Pixels = BYTES) -> Array:
  """Converts images from float in [-1, 1] to the stored format; inverts `normalize`."""
  numbers = (images + 1.0) * ((pixels.high - pixels.low) / 2)
  numbers = numbers + pixels.low if pixels.low else numbers
  numbers = jnp.rint(numbers) if pixels.whole else numbers
  made = jnp.clip(numbers, pixels.low, pixels.high).astype(pixels.kept)
  if not pixels.transparent:
    return made
  return jnp.concatenate([jnp.minimum(made[..., :3], made[..., 3:]), made[..., 3:]], -1)
