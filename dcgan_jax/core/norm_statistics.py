"""Batch-norm statistics of a whole population, for networks without running averages of them."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax.core import conv
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator

PyTree = Any
SAMPLES, BATCH_SIZE = 10_000, 100  # latents of a population, and how many are worked on at a time


def of_latents(
  generator: Generator, params: PyTree, latents: Latents, seed: int = 0, num: int | None = None
) -> dict[str, PyTree]:
  """Measures the statistics of a generator as it is, over `num` latents of a seed; see `estimate`."""
  generator = generator.clone(dtype='float32')  # whatever the run computes in
  return estimate(generator, params, {}, lambda: population(latents, seed, num))


def population(latents: Latents, seed: int, num: int | None = None) -> tuple[Array, ...]:
  """Returns `num` latents of a seed, a multiple of 100 and by default 10,000, in batches.

  Their classes are as frequent as in training, whose population it is that G learns to make images of.
  """
  return _drawn(latents, seed, num or SAMPLES)


@functools.lru_cache(1)  # They are wanted for each layer, and in training again and again.
def _drawn(latents: Latents, seed: int, num: int) -> tuple[Array, ...]:
  groups = jnp.arange(num).reshape(-1, BATCH_SIZE)
  return tuple(latents.sample(jax.random.key(seed), indices, as_trained=True) for indices in groups)


def estimate(
  module: Generator | Discriminator,
  params: PyTree,
  known: dict[str, PyTree],
  batches: Callable[[], Iterable[Any]],
) -> dict[str, PyTree]:
  """Measures the mean and variance of the input of each batch norm, layer by layer.

  Each layer is measured while those before it already normalise by the population's statistics. The result is
  what one batch of all inputs would be normalised by: the limit of ever larger batches. A running average
  over small batches is not quite that, because the layers of a small batch see activations that the batch
  itself has normalised.

  Args:
    module: a `models.Generator` or `models.Discriminator`.
    params: its parameters.
    known: the 'batch_stats' of those batch norms that have them, {} for none.
    batches: returns all inputs of the module in batches [B, ...]; it is called once for each batch norm that
      is measured.

  Returns:
    The 'batch_stats' of all batch norms, float32.
  """
  shapes = jax.eval_shape(module.init, jax.random.key(0), next(iter(batches()))).get('batch_stats', {})
  zeros = {name: np.zeros(shapes[name]['mean'].shape, np.float32) for name, _ in module.norms}
  stats: dict[str, PyTree] = {name: {'mean': zero, 'var': zero + 1} for name, zero in zeros.items()} | known
  for name, layer in module.norms:
    if name in known:
      continue
    measure = _moments(module, layer, len(zeros[name]))
    found = [(len(x), *measure({'params': params, 'batch_stats': stats}, x)) for x in batches()]
    weights, means, variances = (np.asarray(values, np.float64) for values in zip(*jax.device_get(found)))
    mean = np.average(means, 0, weights)
    variance = np.average(variances + np.square(means - mean), 0, weights)
    stats[name] = {'mean': mean.astype(np.float32), 'var': variance.astype(np.float32)}
  return stats


@functools.cache  # A run in training measures again and again.
def _moments(
  module: Generator | Discriminator, layer: str, size: int
) -> Callable[[PyTree, Any], tuple[Array, Array]]:
  """Compiles the function (variables, inputs [B, ...]) -> mean and variance [size] of a layer's output."""

  def measure(variables: PyTree, inputs: Any) -> tuple[Array, Array]:
    _, kept = module.apply(
      variables, inputs, capture_intermediates=lambda m, _: m.name == layer, mutable=['intermediates']
    )
    (output,) = kept['intermediates'][layer]['__call__']
    output = output.reshape(-1, size)  # The last axis holds channels, or units.
    return output.mean(0), output.var(0)  # The compiler drops the later layers.

  return jax.jit(measure, compiler_options=conv.compiler_options())
