"""The generator and the discriminator of DCGAN (Radford et al. 2015, section 3) as Flax modules.

There is one module for each: the architectures of the presets in `configs/` differ in its arguments alone.
"""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from dcgan_jax.core.layers import UPSAMPLE, ClassBatchNorm, Conv, Dense, Dropout
from dcgan_jax.core.pixels import BYTES, Pixels

Pair = tuple[int, int]
# The least epsilon that hides the rounding of the variance E[x^2] - E[x]^2 in float32. Below it batch norm
# takes E[(x - E[x])^2] instead, for which it reads the activations twice.
LEAST_EPSILON_OF_FAST_VARIANCE = 1e-6


class _Network(nn.Module):
  """The arguments that both networks share.

  Attributes:
    widths: channels of each hidden layer, from input to output.
    strides: stride of each convolution, from input to output; the image size is the base size times their
      product.
    norm: for each hidden layer, whether batch norm follows it.
    dense_widths: units of fully connected hidden layers, before the dense layer of G and that of D. They have
      batch norm if the hidden layer beside them has, which is G's first and D's last.
    classes: how many classes there are to be told apart; 0 for none.
    condition: how a network is told the class, see the subclasses.
    kernel_size: pixels, of every convolution.
    padding: 'same' | 'symmetric', see `conv.padding_pairs`.
    use_bias: whether the layers have a bias, also those whose batch norm absorbs it.
    norm_epsilon: added to the variance; PyTorch takes 1e-5, Keras 1e-3, the paper's authors 1e-8. Below 1e-6
      the variance is computed in two passes, because the rounding of one pass can be larger.
    norm_affine: Scale and bias in each batch norm.
    norm_momentum: share of the old running statistics in the new ones; PyTorch takes 0.9 (and calls it 0.1),
      Keras 0.99.
    leak: slope of the leaky ReLU for negative inputs; 0 is the plain ReLU.
    dropout: rate after each hidden layer's activation.
    initializer: 'normal' draws kernels from N(0, 0.02) and batch-norm scales from N(1, 0.02), as the paper's
      authors do; 'glorot' is the default of Keras, Glorot uniform kernels and scales of 1. Biases start at 0.
    fast_conv: False computes and differentiates with plain lax, see `conv`.
    axis_name: mapped axis along which the batch is divided among devices, None on one device.
    sync_norm: True takes batch statistics over the images of all devices, False over each device's own.
    dtype: of the computation; parameters, statistics and outputs are float32, or wider if the dtype is wider.
      The sums of D's logit are of the dtype of the output, so that logits are not rounded to few digits.
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
    """Returns a dense layer, with that many biases if the network has biases."""
    biases = biases if self.use_bias else 0
    return Dense(features, biases, self.kernel_init, self.dtype, output_dtype, name=name)

  @property
  def output_dtype(self) -> Any:
    """Returns the dtype of images and logits: float32, or wider if that of the computation is."""
    return jnp.promote_types(self.dtype, jnp.float32)

  @property
  def kernel_init(self) -> nn.initializers.Initializer:
    """Returns the initializer of all kernels."""
    return nn.initializers.normal(0.02) if self.initializer == 'normal' else nn.initializers.glorot_uniform()

  def conv(self, module: type, features: int, stride: int, name: str) -> nn.Module:
    """Returns a convolutional layer of the given class."""
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

  def batch_norm(self, x: Array, y: Array | None, train: bool, name: str) -> Array:
    """Applies a batch norm, with the batch's statistics in training and the running ones otherwise."""
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
    """Applies the fully connected hidden layers: [B, I] -> [B, units], with the class beside the units."""
    for i, units in enumerate(self.dense_widths, 1):
      x = self.normalized(self.dense(units, units, f'hidden{i}'), train)(x)
      if norm:
        x = self.batch_norm(x, y, train, f'hidden_norm{i}')
      x = self.beside(self.activate(x, train, f'hidden_dropout{i}'), y)
    return x

  def beside(self, x: Array, y: Array | None) -> Array:
    """Puts the class beside x, [B, ..., C] -> [B, ..., C + classes], if `condition` is 'concat'."""
    if y is None or self.condition != 'concat':
      return x
    y = y.reshape(y.shape[0], *(1,) * (x.ndim - 2), -1)
    return jnp.concatenate([x, jnp.broadcast_to(y, (*x.shape[:-1], y.shape[-1]))], -1)

  def normalized(self, layer: nn.Module, train: bool) -> Callable[[Array], Array]:
    """Returns the layer; D may normalise its kernel."""
    del train
    return layer

  def activate(self, x: Array, train: bool, dropout_name: str) -> Array:
    """Applies the ReLU, leaky or plain, and in training dropout."""
    x = nn.leaky_relu(x, self.leak) if self.leak else nn.relu(x)
    if not self.dropout or not train:
      return x
    return Dropout(self.dropout, self.axis_name, name=dropout_name)(x)


def _normal_around_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Draws batch-norm scales from N(1, 0.02)."""
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Generator(_Network):
  """The generator: a dense layer to the base size, then upsampling convolutions, and tanh at the end.

  The dense layer is the paper's "project and reshape" (figure 1) and equals PyTorch's 4x4 transposed
  convolution of a 1x1 input. It makes `widths[0]` channels, each convolution makes the next width, and the
  last one makes `channels`. In addition to the arguments of both networks there are:

  Attributes:
    image_size: height and width in pixels, each divisible by the product of the strides.
    channels: of the image.
    dense_norm: 'channel' normalises the dense layer's output, and adds its bias, per channel, as PyTorch
      does; 'unit' does so per unit, before the reshape, as Keras and the paper's authors do.
    upsample: 'transposed' convolution | 'bilinear' resize and convolution.
    condition: 'concat' puts the class beside the input of every layer, as the paper's authors do for MNIST;
      'embedding' puts a learned vector for each class beside z, of as many numbers; 'norm' gives each batch
      norm a scale and a bias for each class (Miyato and Koyama 2018, section 4).
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
    """Makes images from latents.

    Args:
      z: latents, float [B, z_size]; with classes [B, z_size + classes], where the class as a one-hot vector
        follows z. Any weights of the classes do, so that one can go from class to class.
      train: whether to normalise by the batch's statistics and update the running ones (collection
        'batch_stats'), and to apply dropout with the key 'dropout'.

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
    """Returns the input of the first layer, [B, I], and the class for the other layers, [B, classes]."""
    if not self.classes:
      return z, None
    z, y = jnp.split(z, [z.shape[1] - self.classes], 1)
    if self.condition != 'embedding':
      return self.beside(z, y), y
    # As long as a one-hot vector: a longer one drowns z, and each class collapses to one image.
    init = nn.initializers.normal(z.shape[1] ** -0.5)
    embedding = Dense(z.shape[1], 0, init, self.dtype, name='embedding')
    return jnp.concatenate([z, embedding(y)], 1), None


class Discriminator(_Network):
  """The discriminator: strided convolutions, then a dense layer to one number, the logit.

  The dense layer equals PyTorch's valid 4x4 convolution of a 4x4 input.

  Attributes:
    packing: images that are judged together, side by side in the channels (PacGAN, Lin et al. 2018, section
      3): a generator that makes few different images is then easily found out.
    spectral_norm: whether each layer's kernel is divided by its largest singular value (Miyato et al. 2018,
      section 2.1), of which a step of power iteration is taken in each pass in training.
    condition: 'projection' adds to the logit a linear function of the last features, one for each class
      (Miyato and Koyama 2018, equation 4); 'concat' puts the class beside the input of every layer.
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

  @nn.compact
  def __call__(
    self, images: Array, y: Array | None = None, train: bool = False
  ) -> tuple[Array, tuple[Array, ...]]:
    """Judges images.

    Args:
      images: float [B, H, W, C] in [-1, 1].
      y: the class of each image as a one-hot vector, float [B, classes]; None tells no class.
      train: whether to normalise by the batch's statistics and update the running ones (collection
        'batch_stats'), and to apply dropout with the key 'dropout'.

    Returns:
      Logits, float32 [B / packing], positive for real; and the activations of each hidden layer,
      [B / packing, h, w, width], which serve as features in section 5.1 of the paper.
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
    """Returns the layer, with spectral normalisation of its kernel if the network has it."""
    if not self.spectral_norm:
      return layer
    wrapper = nn.SpectralNorm(layer, name=f'spectral_{layer.name}')
    return partial(wrapper, update_stats=train)


def pack(images: Array, count: int) -> Array:
  """Puts each `count` images side by side in the channels: [B, H, W, C] -> [B / count, H, W, count * C]."""
  if count == 1:
    return images
  batch, height, width, channels = images.shape
  packs = images.reshape(batch // count, count, height, width, channels)
  return jnp.moveaxis(packs, 1, 3).reshape(batch // count, height, width, count * channels)


def alone(images: Array, discriminator: Discriminator) -> Array:
  """Repeats each image as often as the discriminator packs images, so that it judges each by itself."""
  return images if discriminator.packing == 1 else jnp.repeat(images, discriminator.packing, 0)


def normalize(images: Array, pixels: Pixels = BYTES) -> Array:
  """Scales images, as they are kept, to the range of the networks, float32 in [-1, 1]."""
  numbers = images.astype(jnp.float32)
  numbers = numbers - pixels.low if pixels.low else numbers
  return numbers / ((pixels.high - pixels.low) / 2) - 1.0


def to_pixels(images: Array, pixels: Pixels = BYTES) -> Array:
  """Makes images, as they are kept, of a network's, float in [-1, 1]; this inverts `normalize`."""
  numbers = (images + 1.0) * ((pixels.high - pixels.low) / 2)
  numbers = numbers + pixels.low if pixels.low else numbers
  numbers = jnp.rint(numbers) if pixels.whole else numbers
  made = jnp.clip(numbers, pixels.low, pixels.high).astype(pixels.kept)
  if not pixels.transparent:
    return made
  return jnp.concatenate([jnp.minimum(made[..., :3], made[..., 3:]), made[..., 3:]], -1)


def initializer_options() -> dict[str, str | int]:
  """Returns the options for `jax.jit` of what draws the first parameters, and so runs once.

  On a CPU, LLVM takes seconds to optimize the random numbers of large kernels. Its lower level takes
  about half of that time, and the numbers are the same bits. A level in XLA_FLAGS is left alone.
  """
  if jax.default_backend() != 'cpu' or 'xla_backend_optimization_level' in os.environ.get('XLA_FLAGS', ''):
    return {}
  return {'xla_backend_optimization_level': 1}
