"""Batch-norm statistics over a population, for networks without running averages."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax.core import compiling
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator

PyTree = Any
SAMPLES, BATCH_SIZE = 10_000, 100  # latents of a population, and latents per batch


def of_latents(
  generator: Generator, params: PyTree, latents: Latents, seed: int = 0, num: int | None = None
) -> dict[str, PyTree]:
  """Measures the statistics of a generator over `num` latents of a seed; see `estimate`."""
  generator = generator.clone(dtype='float32')  # also if the run uses bfloat16
  return estimate(generator, params, {}, lambda: population(latents, seed, num))


def population(latents: Latents, seed: int, num: int | None = None) -> tuple[Array, ...]:
  """Returns `num` latents of a seed in batches; `num` is a multiple of 100, by default 10,000.

  Classes have the frequencies of training, whose population is the one that matters.
  """
  return _drawn(latents, seed, num or SAMPLES)


@functools.lru_cache(1)  # needed for each layer, and repeatedly in training
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

  Each layer is measured with population statistics in those before it. The result equals the statistics of a
  single batch of all inputs, the limit of large batches. A running average over small batches differs from
  it, because their activations are normalised by the batch itself.

  Args:
    module: Network to measure.
    params: Parameters of the network.
    known: 'batch_stats' of batch norms that need no measurement; {} for none.
    batches: Function that returns all inputs in batches [B, ...]; called once for each measured batch norm.

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


@functools.cache  # A run measures repeatedly during training.
def _moments(
  module: Generator | Discriminator, layer: str, size: int
) -> Callable[[PyTree, Any], tuple[Array, Array]]:
  """Compiles the function (variables, inputs [B, ...]) -> mean and variance [size] of a layer's output."""

  def measure(variables: PyTree, inputs: Any) -> tuple[Array, Array]:
    _, kept = module.apply(
      variables, inputs, capture_intermediates=lambda m, _: m.name == layer, mutable=['intermediates']
    )
    (output,) = kept['intermediates'][layer]['__call__']
    output = output.reshape(-1, size)  # last axis: channels or units
    return output.mean(0), output.var(0)  # The compiler drops the later layers.

  return compiling.jit(measure)
