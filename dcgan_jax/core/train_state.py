"""The networks with their optimizers, and the state of training: one pytree of arrays, without functions."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import Array

from dcgan_jax.core import regularizers
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.core.regularizers import Memory

PyTree = Any
# Folded into the key of the seed for training. Latent i of a seed has i folded in, which stays far below;
# 2**32 - 1 is folded in for their classes, see `latents.Latents.sample`.
TRAINING = 2**32 - 2


@dataclass(frozen=True)
class Gan:
  """Both networks, their optimizers, the latents and the pixel format."""

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
  """State of one network.

  Attributes:
    params: Parameters.
    batch_stats: Batch-norm statistics; {} for a network without batch norm.
    opt_state: State of its optimizer.
    memory: Memory of the penalties of its loss, see `regularizers`; {} if none has one.
  """

  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree
  memory: Memory = struct.field(default_factory=dict)

  @property
  def variables(self) -> dict[str, PyTree]:
    """Variables that `module.apply` takes."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


@struct.dataclass
class GanState:
  """Everything that a run needs to resume as if it had never stopped.

  Attributes:
    step: Number of steps done, int32 [].
    generator: G's state.
    discriminator: D's state.
    ema: Moving average of G's variables, or None.
    key: Data of a constant random key, uint32 [2]; each step folds its number into it.
  """

  step: Array
  generator: NetState
  discriminator: NetState
  ema: PyTree
  key: Array

  @property
  def sampling_variables(self) -> dict[str, PyTree]:
    """Variables of G to draw samples with: their moving average where there is one."""
    return self.generator.variables if self.ema is None else self.ema


def make_optimizer(
  learning_rate: float,
  b1: float = 0.5,
  b2: float = 0.999,
  epsilon: float = 1e-8,
  l2: float = 0.0,
  decay_after: int = 0,
  decay_steps: int = 0,
  decay: str = 'linear',
  final_rate: float = 0.0,
) -> optax.GradientTransformation:
  """Returns Adam, as the paper uses it (section 4).

  Args:
    learning_rate: Step size.
    b1: Decay of the gradient's average; the paper lowers it to 0.5.
    b2: Decay of the squared gradient's average.
    epsilon: Added to the root of the squared gradient's average: 1e-8 in PyTorch, 1e-7 in Keras.
    l2: Factor of the parameters that are added to the gradients before Adam, as the authors' code does.
    decay_after: Number of train steps with a constant rate, before the decay.
    decay_steps: Number of train steps over which the rate then falls; 0 keeps it constant.
    decay: Shape of the decay: 'linear' | 'cosine', which begins and ends gently.
    final_rate: Step size after the decay.

  Returns:
    The optimizer. With a decay, `update` takes the train step as the keyword `step`; without that keyword, it
    counts its own updates, which agree only if each step has one.
  """
  adam = optax.adam(learning_rate, b1, b2, epsilon)
  if decay_steps:
    if decay == 'linear':
      schedule = optax.linear_schedule(learning_rate, final_rate, decay_steps, decay_after)
    else:
      falling = optax.cosine_decay_schedule(learning_rate, decay_steps, final_rate / learning_rate)
      schedule = optax.join_schedules([optax.constant_schedule(learning_rate), falling], [decay_after])
    adam = optax.chain(optax.scale_by_adam(b1, b2, epsilon), _scale_by_train_step(schedule))
  return optax.chain(optax.add_decayed_weights(l2), adam) if l2 else adam


def _scale_by_train_step(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Returns optax's scaling by a learning rate, whose count is the train step if `update` gets one."""
  by_count = optax.scale_by_learning_rate(schedule)

  def update(
    updates: PyTree, state: Any, params: PyTree = None, *, step: Array | None = None, **_: Any
  ) -> tuple[PyTree, Any]:
    state = state if step is None else state._replace(count=step)
    return by_count.update(updates, state, params)

  return optax.GradientTransformationExtraArgs(by_count.init, update)


def create(gan: Gan, seed: int, ema: bool = False, penalties: Iterable[str] = ()) -> GanState:
  """Returns the state before the first step, a function of the seed. Call it under `jax.jit`.

  Args:
    gan: The networks, their optimizers and the latents.
    seed: Seed of the initial parameters and of everything random in training.
    ema: Whether to keep a moving average of G.
    penalties: Names of the penalties in D's loss.
  """
  key = jax.random.fold_in(jax.random.key(seed), TRAINING)
  generator_key, discriminator_key, training_key = jax.random.split(key, 3)
  images = jnp.zeros((gan.discriminator.packing, *gan.generator.image_size, gan.generator.channels))
  z = jnp.zeros((1, gan.latents.width))
  generator = _create_network(gan.generator, gan.generator_optimizer, generator_key, z)
  discriminator = _create_network(gan.discriminator, gan.discriminator_optimizer, discriminator_key, images)
  return GanState(
    step=jnp.zeros((), jnp.int32),
    generator=generator,
    discriminator=dataclasses.replace(discriminator, memory=regularizers.initial_memory(penalties)),
    # A copy, because the train step donates the state, in which no two leaves may share a buffer.
    ema=jax.tree.map(jnp.copy, generator.variables) if ema else None,
    key=jax.random.key_data(training_key),
  )


def _create_network(
  module: nn.Module, optimizer: optax.GradientTransformation, key: Array, x: Array
) -> NetState:
  variables = module.init(key, x)
  params = variables['params']
  return NetState(
    params=params, batch_stats=variables.get('batch_stats', {}), opt_state=optimizer.init(params)
  )


def moving_average(ema: PyTree, variables: PyTree, age: Array, decay: float) -> PyTree:
  """Returns the exponential moving average of G's variables after a step.

  Args:
    ema: Average before the step.
    variables: Variables of G after the step.
    age: Number of steps averaged in `ema`, int32 [].
    decay: Largest share of the old average in the new one.
  """
  # A younger average forgets faster, or the first thousands of its samples would be those of the untrained G.
  age = age.astype(jnp.float32)
  share = jnp.minimum(decay, (1.0 + age) / (10.0 + age))
  return jax.tree.map(lambda old, new: share * old + (1.0 - share) * new, ema, variables)
