"""What is trained, and the state of training: one pytree of arrays, no functions."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import Array

from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.pixels import BYTES, Pixels

PyTree = Any
# What is folded into the key of the seed for training. Latent i of a seed has i folded in, and their numbers
# end far below; 2**32 - 1 is that of their classes, see `latents.Latents.sample`.
TRAINING = 2**32 - 2


@dataclass(frozen=True)
class Gan:
  """The parts that are trained: both networks, the optimizer of each, and what G takes and makes.

  These are the latents, and the numbers of the images.
  """

  generator: Generator
  discriminator: Discriminator
  generator_optimizer: optax.GradientTransformation
  discriminator_optimizer: optax.GradientTransformation
  latents: Latents
  pixels: Pixels = BYTES

  def along(self, axis_name: str | None) -> 'Gan':
    """Returns these networks for a batch that is divided among devices along a mapped axis."""
    return dataclasses.replace(
      self,
      generator=self.generator.clone(axis_name=axis_name),
      discriminator=self.discriminator.clone(axis_name=axis_name),
    )


@struct.dataclass
class NetState:
  """One network: its parameters, its batch-norm statistics and its optimizer's state."""

  params: PyTree
  batch_stats: PyTree  # {} for a network without batch norm
  opt_state: PyTree

  @property
  def variables(self) -> dict[str, PyTree]:
    """What `module.apply` takes."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


@struct.dataclass
class GanState:
  """Everything that a run needs to go on as if it had never stopped."""

  step: Array  # int32 [], steps done
  generator: NetState
  discriminator: NetState
  ema: PyTree  # moving average of the generator's variables, or None
  key: Array  # uint32 [2], data of a constant random key; each step folds its number into it

  @property
  def sampling_variables(self) -> dict[str, PyTree]:
    """The generator's variables to make samples with: their moving average where there is one."""
    return self.generator.variables if self.ema is None else self.ema


def make_optimizer(
  learning_rate: float,
  b1: float = 0.5,
  b2: float = 0.999,
  epsilon: float = 1e-8,
  l2: float = 0.0,
  decay_after: int = 0,
  decay_steps: int = 0,
) -> optax.GradientTransformation:
  """Returns Adam, as the paper uses it (section 4).

  Args:
    learning_rate: step size.
    b1: decay of the gradient's average; the paper lowers it to 0.5.
    b2: decay of the squared gradient's average.
    epsilon: added to the root of that: 1e-8 PyTorch, 1e-7 Keras.
    l2: times the parameters is added to the gradients before Adam sees them, as the authors' code does.
    decay_after: train steps with the constant rate, before the decay.
    decay_steps: train steps over which it then falls linearly to 0; 0 keeps it constant.

  Returns:
    The optimizer. With a decay, `update` takes the train step as the keyword `step`; without it, it counts
    its own updates, which are as many only if each step has one.
  """
  adam = optax.adam(learning_rate, b1, b2, epsilon)
  if decay_steps:
    schedule = optax.linear_schedule(learning_rate, 0.0, decay_steps, decay_after)
    adam = optax.chain(optax.scale_by_adam(b1, b2, epsilon), _scale_by_train_step(schedule))
  return optax.chain(optax.add_decayed_weights(l2), adam) if l2 else adam


def _scale_by_train_step(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Returns optax's scaling by a learning rate, whose count is set to the train step if that is told."""
  by_count = optax.scale_by_learning_rate(schedule)

  def update(
    updates: PyTree, state: Any, params: PyTree = None, *, step: Array | None = None, **_: Any
  ) -> tuple[PyTree, Any]:
    state = state if step is None else state._replace(count=step)
    return by_count.update(updates, state, params)

  return optax.GradientTransformationExtraArgs(by_count.init, update)


def create(gan: Gan, seed: int, ema: bool = False) -> GanState:
  """Returns the state before the first step, a function of the seed. Call it under `jax.jit`.

  Args:
    gan: the networks, their optimizers and the size of z.
    seed: of the initial parameters and of everything random in training.
    ema: whether to keep a moving average of the generator.
  """
  key = jax.random.fold_in(jax.random.key(seed), TRAINING)
  generator_key, discriminator_key, training_key = jax.random.split(key, 3)
  images = jnp.zeros((gan.discriminator.packing, *gan.generator.image_size, gan.generator.channels))
  z = jnp.zeros((1, gan.latents.width))
  generator = _create_network(gan.generator, gan.generator_optimizer, generator_key, z)
  return GanState(
    step=jnp.zeros((), jnp.int32),
    generator=generator,
    discriminator=_create_network(gan.discriminator, gan.discriminator_optimizer, discriminator_key, images),
    # This is a copy because the train step donates the state, in which two leaves must not share a buffer.
    ema=jax.tree.map(jnp.copy, generator.variables) if ema else None,
    key=jax.random.key_data(training_key),
  )


def _create_network(
  module: nn.Module, optimizer: optax.GradientTransformation, key: Array, x: Array
) -> NetState:
  variables = module.init(key, x)
  params = variables['params']
  return NetState(params, variables.get('batch_stats', {}), optimizer.init(params))


def moving_average(ema: PyTree, variables: PyTree, age: Array, decay: float) -> PyTree:
  """Returns the exponential moving average of G's variables after a step.

  Args:
    ema: the average before it.
    variables: Variables of G after the step.
    age: steps that `ema` is of, int32 [].
    decay: Share of the old average in the new one, at most.
  """
  # A younger average forgets faster, or its first thousands of pictures would be those of the untrained G.
  age = age.astype(jnp.float32)
  share = jnp.minimum(decay, (1.0 + age) / (10.0 + age))
  return jax.tree.map(lambda old, new: share * old + (1.0 - share) * new, ema, variables)
