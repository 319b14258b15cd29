"""The networks as one would write them with Flax's own layers, `nn.Conv` and `nn.ConvTranspose`."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class Generator(nn.Module):
  """z [B, z_size] -> images [B, H, W, C]."""

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  kernel_size: int
  image_size: tuple[int, int]
  channels: int
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: Array, train: bool = False) -> Array:
    height, width = (size // math.prod(self.strides) for size in self.image_size)
    x = nn.Dense(height * width * self.widths[0], use_bias=False)(z)
    x = x.reshape(-1, height, width, self.widths[0])
    x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
    kernel = (self.kernel_size, self.kernel_size)
    for features, stride in zip(self.widths[1:], self.strides):
      x = nn.ConvTranspose(features, kernel, (stride, stride), use_bias=False)(x)
      x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
    stride = self.strides[-1]
    return jnp.tanh(nn.ConvTranspose(self.channels, kernel, (stride, stride), use_bias=False)(x))


class Discriminator(nn.Module):
  """Images [B, H, W, C] -> (logits [B], ())."""

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  kernel_size: int
  norm: tuple[bool, ...]
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> tuple[Array, tuple]:
    x = images
    for features, stride, norm in zip(self.widths, self.strides, self.norm):
      x = nn.Conv(features, (self.kernel_size, self.kernel_size), (stride, stride), use_bias=False)(x)
      x = nn.BatchNorm(not train, momentum=0.9)(x) if norm else x
      x = nn.leaky_relu(x, 0.2)
    return nn.Dense(1, use_bias=False)(x.reshape(len(x), -1))[:, 0], ()
