"""Gradient accumulation: one part's activations are in memory at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any
Gradient = tuple[PyTree, PyTree, PyTree]  # of a network's parameters; new carry; metrics


class Examples(NamedTuple):
  """Real images, and their classes if the networks are conditional.

  Attributes:
    images: Images, [B, H, W, C].
    classes: Classes, int32 [B]; one-hot in the train step, float32 [B, classes].
  """

  images: Any
  classes: Any = None

  def divided(self, updates: int, parts: int) -> list['Examples']:
    """Returns the examples of each update, [B / updates / parts, parts, ...].

    Image i of the global batch goes to update (i // parts) % updates, on any number of devices.
    """
    whole = [None if x is None else x.reshape(-1, updates, parts, *x.shape[1:]) for x in self]
    return [Examples(*(x if x is None else x[:, i] for x in whole)) for i in range(updates)]


def accumulated(
  gradient: Callable[[PyTree, Any], Gradient], carry: PyTree, batch: Any, parts: int
) -> Gradient:
  """Returns the mean gradient, the last carry and the mean metrics over the parts of a batch.

  Args:
    gradient: Function (carry, one part) -> (gradient, new carry, metrics of the part).
    carry: What each part changes in turn: batch-norm statistics and the memory of penalties.
    batch: The only part, or a tree of arrays with the parts as their leading axis.
    parts: Number of parts.
  """
  if parts == 1:
    return gradient(carry, batch)

  def one(state: tuple[PyTree, PyTree], part: Any) -> tuple[tuple[PyTree, PyTree], None]:
    sums, carry = state
    grads, carry, metrics = gradient(carry, part)
    return (jax.tree.map(jnp.add, sums, (grads, metrics)), carry), None

  grads, _, metrics = jax.eval_shape(gradient, carry, jax.tree.map(lambda x: x[0], batch))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
  (sums, carry), _ = lax.scan(one, (zeros, carry), batch)
  grads, metrics = jax.tree.map(lambda x: x / parts, sums)
  return grads, carry, metrics
