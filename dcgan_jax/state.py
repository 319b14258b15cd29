"""The state of training: one pytree of arrays, no functions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import Array

PyTree = Any


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
  """Adam, as the paper uses it.

  Args:
    learning_rate: step size.
    b1: decay of the gradient's average; the paper lowers it to 0.5.
    b2: decay of the squared gradient's average.
    epsilon: added to the root of that: 1e-8 PyTorch, 1e-7 Keras.
    l2: times the parameters is added to the gradients before Adam sees them, as the authors' code does.
    decay_after: updates with the constant rate, before the decay.
    decay_steps: updates over which it then falls linearly to 0; 0 keeps it constant.
  """
  schedule = learning_rate
  if decay_steps:
    schedule = optax.linear_schedule(learning_rate, 0.0, decay_steps, decay_after)
  adam = optax.adam(schedule, b1, b2, epsilon)
  return optax.chain(optax.add_decayed_weights(l2), adam) if l2 else adam


def create(
  generator: nn.Module,
  discriminator: nn.Module,
  generator_optimizer: optax.GradientTransformation,
  discriminator_optimizer: optax.GradientTransformation,
  z_size: int,
  seed: int,
  ema: bool = False,
) -> GanState:
  """The state before the first step, a function of the seed. Call it under `jax.jit`."""
  key = jax.random.key(seed)
  generator_key, discriminator_key, training_key = jax.random.split(key, 3)
  z = jnp.zeros((1, z_size))
  images = jnp.zeros((1, *generator.image_size, generator.channels))
  networks = []
  for module, optimizer, init_key, x in (
    (generator, generator_optimizer, generator_key, z),
    (discriminator, discriminator_optimizer, discriminator_key, images),
  ):
    variables = module.init(init_key, x)
    params = variables['params']
    networks.append(NetState(params, variables.get('batch_stats', {}), optimizer.init(params)))
  return GanState(
    step=jnp.zeros((), jnp.int32),
    generator=networks[0],
    discriminator=networks[1],
    # a copy: the train step donates the state, and two leaves must not share a buffer
    ema=jax.tree.map(jnp.copy, networks[0].variables) if ema else None,
    key=jax.random.key_data(training_key),
  )
