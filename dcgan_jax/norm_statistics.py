"""Batch-norm statistics of a whole population, for networks without running averages of them."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import Array

from dcgan_jax import conv

PyTree = Any


def estimate(
  module: nn.Module, params: PyTree, known: dict[str, PyTree], batches: Callable[[], Iterable[Any]]
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
  norms = sorted((n for n in params if n.startswith('norm')), key=lambda n: int(n.removeprefix('norm')))
  zeros = {name: np.zeros_like(params[name]['bias']) for name in norms}
  stats: dict[str, PyTree] = {name: {'mean': zeros[name], 'var': zeros[name] + 1} for name in norms} | known
  for name in norms:
    if name in known:
      continue
    measure = jax.jit(_moments(module, name, len(zeros[name])), compiler_options=conv.compiler_options())
    found = [(len(x), *measure({'params': params, 'batch_stats': stats}, x)) for x in batches()]
    weights, means, variances = (np.asarray(values, np.float64) for values in zip(*jax.device_get(found)))
    mean = np.average(means, 0, weights)
    variance = np.average(variances + np.square(means - mean), 0, weights)
    stats[name] = {'mean': mean.astype(np.float32), 'var': variance.astype(np.float32)}
  return stats


def _moments(module: nn.Module, norm: str, size: int) -> Callable[[PyTree, Any], tuple[Array, Array]]:
  """Returns the function (variables, inputs [B, ...]) -> mean and variance [size] of a batch norm's input."""
  before = 'dense' if norm == 'norm0' else norm.replace('norm', 'conv')

  def measure(variables: PyTree, inputs: Any) -> tuple[Array, Array]:
    _, kept = module.apply(
      variables, inputs, capture_intermediates=lambda m, _: m.name == before, mutable=['intermediates']
    )
    (output,) = kept['intermediates'][before]['__call__']
    output = output.reshape(-1, size)  # The last axis holds channels, or units.
    return output.mean(0), output.var(0)  # The compiler drops the later layers.

  return measure
