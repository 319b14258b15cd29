"""Penalties on the gradient of the discriminator in its images, which keep it smooth where it judges.

A penalty is of each input of D by itself, which is an image or, with packing, a pack of images: with batch
norm in D a logit would depend on the other inputs. Its own gradient is a second derivative of the network,
which `conv` computes by convolutions again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Critic = Callable[[Array], tuple[Array, Any]]  # images [B, H, W, C] -> logits and anything else


def judge(critic: Critic, images: Array, penalized: bool = True) -> tuple[Array, Any, Array]:
  """Runs the critic, and computes the gradient of its logits from the same forward pass.

  Args:
    critic: the discriminator; its logits are [B / packing], one for each `packing` images after one another.
    images: float [B, H, W, C].
    penalized: whether the gradient is wanted.

  Returns:
    The logits; what else the critic returns; and the squared norm of each logit's gradient in its images,
    float32 [B / packing], or zero if it is not wanted.
  """
  if not penalized:
    return *critic(images), jnp.zeros(())
  logits, pull_back, other = jax.vjp(critic, images, has_aux=True)
  (gradient,) = pull_back(jnp.ones_like(logits))
  of_images = jnp.square(gradient.astype(jnp.float32)).sum((1, 2, 3))
  return logits, other, of_images.reshape(len(logits), -1).sum(1)


def zero_centred(squared_norms: Array) -> Array:
  """Returns half the mean squared gradient norm: R1 on real images, R2 on fakes.

  Mescheder et al. 2018 (equations 9 and 10) multiply it by gamma. R3GAN takes both, in every step (Huang et
  al. 2024, section 3.1).
  """
  return 0.5 * squared_norms.mean()


def one_centred(squared_norms: Array) -> Array:
  """Returns WGAN-GP's gradient penalty without its factor lambda (Gulrajani et al. 2017, equation 3)."""
  norms = jnp.sqrt(squared_norms + 1e-12)  # The root has no derivative at 0.
  return jnp.square(norms - 1.0).mean()


def between(real: Array, fake: Array, keys: Array) -> Array:
  """Draws a point on the line between each real input of D and a fake one, uniformly.

  Args:
    real: float [B, H, W, C].
    fake: likewise.
    keys: a random key for each input, [B / packing].
  """
  shares = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys)
  shares = jnp.repeat(shares, len(real) // len(keys))[:, None, None, None]
  return shares * real + (1.0 - shares) * fake
