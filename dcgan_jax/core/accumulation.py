"""Gradient accumulation: one part's activations are in memory at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any
Gradient = tuple[PyTree, PyTree, PyTree]  # of a network's parameters; its new statistics; metrics


class Examples(NamedTuple):
  """Real images, and their classes if the networks are told them."""

  images: Any  # [B, H, W, C]
  classes: Any = None  # int32 [B]; in the train step one-hot, float32 [B, classes]

  def divided(self, updates: int, parts: int) -> list['Examples']:
    """Returns the examples of each update, [B / updates / parts, parts, ...].

    Image i of the global batch goes to update (i // parts) % updates, on any number of devices.
    """
    whole = [None if x is None else x.reshape(-1, updates, parts, *x.shape[1:]) for x in self]
    return [Examples(*(x if x is None else x[:, i] for x in whole)) for i in range(updates)]


def accumulated(
  gradient: Callable[[PyTree, Any], Gradient], stats: PyTree, batch: Any, parts: int
) -> Gradient:
  """Returns the mean gradient and metrics over the parts of a batch; the statistics move with each in turn.

  Args:
    gradient: (batch-norm statistics, one part) -> the gradient, new statistics and metrics of the part.
    stats: the statistics before the first part.
    batch: the only part, or a tree of arrays with a leading axis, the parts.
    parts: how many there are.
  """
  if parts == 1:
    return gradient(stats, batch)

  def one(carry: tuple[PyTree, PyTree], part: Any) -> tuple[tuple[PyTree, PyTree], None]:
    sums, stats = carry
    grads, stats, metrics = gradient(stats, part)
    return (jax.tree.map(jnp.add, sums, (grads, metrics)), stats), None

  grads, _, metrics = jax.eval_shape(gradient, stats, jax.tree.map(lambda x: x[0], batch))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
  (sums, stats), _ = lax.scan(one, (zeros, stats), batch)
  grads, metrics = jax.tree.map(lambda x: x / parts, sums)
  return grads, stats, metrics
