"""A plain Flax DCGAN without this project, with `nn.Conv` and `nn.ConvTranspose`.

The updates are those of PyTorch's DCGAN example: D on real images and fakes, then G through the updated D,
each by `jax.value_and_grad` of its loss.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training import train_state
from jax import Array
from ml_collections import ConfigDict


class Generator(nn.Module):
  """The generator, z [B, z_size] -> images [B, H, W, C]."""

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  kernel_size: int
  image_size: tuple[int, int]
  channels: int

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
  """The discriminator, images [B, H, W, C] -> logits [B]."""

  widths: tuple[int, ...]
  strides: tuple[int, ...]
  kernel_size: int
  norm: tuple[bool, ...]

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    x = images
    for features, stride, norm in zip(self.widths, self.strides, self.norm):
      x = nn.Conv(features, (self.kernel_size, self.kernel_size), (stride, stride), use_bias=False)(x)
      x = nn.BatchNorm(not train, momentum=0.9)(x) if norm else x
      x = nn.leaky_relu(x, 0.2)
    return nn.Dense(1, use_bias=False)(x.reshape(len(x), -1))[:, 0]


class TrainState(train_state.TrainState):
  """Flax's train state with batch statistics."""

  batch_stats: Any = None

  def forward(self, params: Any, stats: Any, x: Array) -> tuple[Array, Any]:
    """Runs the network in training mode; returns its output and the new batch statistics."""
    out, new = self.apply_fn({'params': params, 'batch_stats': stats}, x, train=True, mutable=['batch_stats'])
    return out, new['batch_stats']


def create(config: ConfigDict) -> tuple[TrainState, TrainState]:
  """Returns the initial generator and discriminator, with the sizes and optimizers of a config."""
  size = config.data.image_size[0], config.data.image_size[-1]
  g, d, channels = config.generator, config.discriminator, config.data.channels
  networks = (
    (Generator(g.widths, g.strides, g.kernel_size, size, channels), jnp.zeros((1, config.latent.size))),
    (Discriminator(d.widths, d.strides, d.kernel_size, d.norm), jnp.zeros((1, *size, channels))),
  )
  states = []
  for (network, x), adam in zip(networks, (config.generator_optimizer, config.discriminator_optimizer)):
    variables = network.init(jax.random.key(0), x)
    optimizer = optax.adam(adam.learning_rate, adam.b1, adam.b2, adam.epsilon)
    states.append(
      TrainState.create(
        apply_fn=network.apply,
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        tx=optimizer,
      )
    )
  return states[0], states[1]


def train_step(g: TrainState, d: TrainState, z: Array, images: Array) -> tuple[TrainState, TrainState, Array]:
  """Updates D and then G.

  Args:
    g: Generator.
    d: Discriminator.
    z: Latents, float32 [B, z_size].
    images: Images, uint8 [B, H, W, C].

  Returns:
    Both networks, and both losses, float32 [2].
  """
  real = images.astype(jnp.float32) / 127.5 - 1

  def loss_of_d(params: Any) -> tuple[Array, Any]:
    fakes, _ = g.forward(g.params, g.batch_stats, z)
    real_logits, stats = d.forward(params, d.batch_stats, real)
    fake_logits, stats = d.forward(params, stats, fakes)
    return jnp.mean(nn.softplus(-real_logits)) + jnp.mean(nn.softplus(fake_logits)), stats

  (loss_d, stats), grads = jax.value_and_grad(loss_of_d, has_aux=True)(d.params)
  d = d.apply_gradients(grads=grads, batch_stats=stats)

  def loss_of_g(params: Any) -> tuple[Array, Any]:
    fakes, stats = g.forward(params, g.batch_stats, z)
    logits, _ = d.forward(d.params, d.batch_stats, fakes)
    return jnp.mean(nn.softplus(-logits)), stats

  (loss_g, stats), grads = jax.value_and_grad(loss_of_g, has_aux=True)(g.params)
  g = g.apply_gradients(grads=grads, batch_stats=stats)
  return g, d, jnp.stack([loss_d, loss_g])
