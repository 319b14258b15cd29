"""Penalties on the discriminator, which are added to its loss, and the table that configs choose from.

A gradient penalty is on the gradient of each logit with respect to the input of D: an image or, with packing,
a pack of images. With batch norm in D, a logit would depend on the other inputs. The gradient of such a
penalty is a second derivative of the network, which `conv` computes by convolutions again.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any
Memory = dict[str, PyTree]  # of each penalty that has one, by its name


class Judged(NamedTuple):
  """Images and D's forward pass on them.

  Attributes:
    images: Input of D, float32 [B, H, W, C].
    logits: Output of D, [B / packing]: one logit for every `packing` consecutive images.
    stats: New batch-norm statistics of D.
    squared_slopes: Squared norm of the gradient of each logit with respect to its images, from the same
      forward pass, float32 [B / packing]; NaN where no penalty declares that it takes this.
  """

  images: Array
  logits: Array
  stats: PyTree
  squared_slopes: Array


class Evidence(NamedTuple):
  """Input of a penalty.

  Attributes:
    real: D's forward pass on real images.
    fake: D's forward pass on fakes.
    judge: Function from images to D's forward pass on them, in which slopes are taken; D has the statistics
      and dropout of its pass on fakes.
    keys: A random key for each input of D, [B / packing].
  """

  real: Judged
  fake: Judged
  judge: Callable[[Array], Judged]
  keys: Array


class Penalty(NamedTuple):
  """A penalty of the table.

  Attributes:
    value: Function (evidence, memory) -> (penalty without its weight, new memory).
    slopes: Fields of the evidence whose slopes it takes: 'real', 'fake'.
    memory: Initial memory, a tree of numbers that become float32 arrays in D's state; () for none. On several
      devices, the new memory is the mean of those of all devices, so a value that must not depend on their
      number is computed from the memory that `value` gets. It is renewed for each part of a batch
      (`train.accumulate`).
  """

  value: Callable[[Evidence, PyTree], tuple[Array, PyTree]]
  slopes: tuple[str, ...] = ()
  memory: PyTree = ()


def r1(evidence: Evidence, memory: PyTree) -> tuple[Array, PyTree]:
  """Computes half the mean squared gradient norm on real images (Mescheder et al. 2018, equation 9)."""
  return zero_centred(evidence.real.squared_slopes), memory


def r2(evidence: Evidence, memory: PyTree) -> tuple[Array, PyTree]:
  """Computes half the mean squared gradient norm on fakes (Mescheder et al. 2018, equation 10).

  R3GAN takes both R1 and R2 in every step (Huang et al. 2024, section 3.1).
  """
  return zero_centred(evidence.fake.squared_slopes), memory


def gradient_penalty(evidence: Evidence, memory: PyTree) -> tuple[Array, PyTree]:
  """Computes WGAN-GP's penalty between real images and fakes (Gulrajani et al. 2017, equation 3)."""
  images = between(evidence.real.images, evidence.fake.images, evidence.keys)
  return one_centred(evidence.judge(images).squared_slopes), memory


# By the keys of `train` that hold their weights.
PENALTIES = {
  'r1': Penalty(r1, slopes=('real',)),
  'r2': Penalty(r2, slopes=('fake',)),
  'gradient_penalty': Penalty(gradient_penalty),
}


def takes_slopes(names: Iterable[str], of: str) -> bool:
  """Returns whether one of these penalties takes the slopes of a field of the evidence."""
  return any(of in PENALTIES[name].slopes for name in names)


def judged(critic: Callable[[Array], tuple[Array, PyTree]], images: Array, slopes: bool) -> Judged:
  """Runs D on images.

  Args:
    critic: Function from images to D's logits and new batch-norm statistics.
    images: float32 [B, H, W, C].
    slopes: Whether a penalty takes the slopes.
  """
  if not slopes:
    return Judged(images, *critic(images), jnp.float32(jnp.nan))
  logits, pull_back, stats = jax.vjp(critic, images, has_aux=True)
  (gradient,) = pull_back(jnp.ones_like(logits))
  of_images = jnp.square(gradient.astype(jnp.float32)).sum((1, 2, 3))
  return Judged(images, logits, stats, of_images.reshape(len(logits), -1).sum(1))


def initial_memory(names: Iterable[str]) -> Memory:
  """Returns the memory of these penalties before the first step; {} if none has one."""
  memories = {name: PENALTIES[name].memory for name in names}
  return {name: jax.tree.map(jnp.float32, memory) for name, memory in memories.items() if memory}


def total(weights: Mapping[str, float], evidence: Evidence, memory: Memory) -> tuple[Array, Memory]:
  """Returns the weighted sum of penalties, and their new memory.

  Args:
    weights: Weight of each penalty, by its name.
    evidence: What the penalties are computed from.
    memory: Memory of those that have one, by the same names.
  """
  weighted, kept = [], {}
  for name, weight in weights.items():
    value, new = PENALTIES[name].value(evidence, memory.get(name, ()))
    weighted.append(weight * value)
    if name in memory:
      kept[name] = new
  return functools.reduce(jnp.add, weighted), kept


def zero_centred(squared_norms: Array) -> Array:
  """Returns half the mean of squared gradient norms."""
  return 0.5 * squared_norms.mean()


def one_centred(squared_norms: Array) -> Array:
  """Returns the mean squared distance of gradient norms from 1."""
  norms = jnp.sqrt(squared_norms + 1e-12)  # The root has no derivative at 0.
  return jnp.square(norms - 1.0).mean()


def between(real: Array, fake: Array, keys: Array) -> Array:
  """Draws a point, uniformly, on the line between each real input of D and a fake one.

  Args:
    real: Real images, float [B, H, W, C].
    fake: Fakes, float [B, H, W, C].
    keys: A random key for each input, [B / packing].
  """
  shares = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys)
  shares = jnp.repeat(shares, len(real) // len(keys))[:, None, None, None]
  return shares * real + (1.0 - shares) * fake
