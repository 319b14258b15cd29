"""Programs on all devices: train steps, and functions of rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dcgan_jax.core import compiling
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.train_state import GanState
from dcgan_jax.core.train_step import TrainStep
from dcgan_jax.devices import placement
from dcgan_jax.devices.placement import AXIS, Batches

LONGEST_INNER = 10  # Maximum length of the inner loop.


def train_program(
  train_step: TrainStep,
  mesh: Mesh,
  image_shape: tuple[int, ...],
  inner: int | None = None,
  deterministic: bool = False,
  precision: str = 'default',
) -> jax.stages.Wrapped:
  """Returns the program of a round of train steps, to be compiled.

  Args:
    train_step: The step, made for the axis name `placement.mesh_axis(mesh)`.
    mesh: All devices.
    image_shape: Height, width, channels.
    inner: None for a program of a single step, which XLA optimizes better than one in a loop. Otherwise the
      length of the inner loop: the program takes any multiple of it, `batches.steps`. After each inner loop
      the devices look whether there are more steps, for which a GPU has to ask its host.
    deterministic: Whether a GPU must repeat every bit.
    precision: Precision of float32 convolutions and matrix products: 'default' | 'high' | 'highest'.

  Returns:
    The function (state, batches) -> (state, sums, last), which trains on `Batches`. The new state takes over
    the buffers of the old one. `last` has the metrics of the last step, float32 [] each, and `sums` their
    sums over all steps of the round.
  """
  own = partial(placement.own_examples, mesh=mesh, image_shape=image_shape)
  precise = jax.default_matmul_precision(None if precision == 'default' else precision)
  take_step = precise(train_step)

  def take_round(state: GanState, batches: Batches) -> tuple[GanState, Any, Any]:
    if inner and batches.window is not None:
      return _in_loop(take_step, own, inner, state, batches)
    state, metrics = take_step(state, *own(batches, state.step))
    return state, metrics, metrics

  def divided(state: GanState, batches: Batches) -> tuple[GanState, Any, Any]:
    # Unchecked, each device gets gradients of its own, as under pmap, and the step averages them.
    of_batches = Batches(P(AXIS) if batches.window is None else P(), P(), P())
    mapped = jax.shard_map(
      take_round, mesh=mesh, in_specs=(P(), of_batches), out_specs=(P(), P(), P()), check_vma=False
    )
    return mapped(state, batches)

  return compiling.jit(
    take_round if mesh.size == 1 else divided,
    deterministic=deterministic,
    platform=mesh.devices.flat[0].platform,
    donate_argnums=0,
  )


def _in_loop(
  take_step: TrainStep, own: Callable[..., Examples], inner: int, state: GanState, batches: Batches
) -> tuple[GanState, Any, Any]:
  """Takes `batches.steps` steps, see `train_program`."""

  def one_step(carry: tuple[GanState, Any, Any], _: Any) -> tuple[tuple[GanState, Any, Any], None]:
    state, sums, _ = carry
    state, last = take_step(state, *own(batches, state.step))
    return (state, jax.tree.map(jnp.add, sums, last), last), None

  def inner_loop(_: Any, carry: tuple[GanState, Any, Any]) -> tuple[GanState, Any, Any]:
    return jax.lax.scan(one_step, carry, length=inner)[0]

  _, metrics = jax.eval_shape(lambda state: take_step(state, *own(batches, state.step)), state)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
  return jax.lax.fori_loop(0, batches.steps // inner, inner_loop, (state, zeros, zeros))


def map_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[[Any, np.ndarray, int], Any]:
  """Makes a program that applies a function to any number of rows, divided among the devices.

  Args:
    function: (variables, rows [B, ...]) -> a tree of arrays [B, ...].
    mesh: All devices.

  Returns:
    The function (variables, rows, B) -> a tree of NumPy arrays [N, ...], whole in each process, for rows in a
    NumPy array [N, ...]. Each device works on B rows at a time, so that the results do not depend on the
    number of devices, and one program serves every N. The last batch is padded with copies of its own rows.
  """
  if mesh.size > 1:
    function = jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
  program = compiling.jit(function)

  def fetch(tree: Any) -> Any:
    if jax.process_count() > 1:
      return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)

  def call(variables: Any, rows: np.ndarray, batch_size: int) -> Any:
    together = batch_size * mesh.size
    own = placement.own_rows(mesh, together)
    made, in_flight = [], []  # While the results of one call are fetched, the devices work on the next.
    for start in range(0, len(rows), together):
      part = rows[start : start + together]
      last = part[len(part) - (len(part) % batch_size or batch_size) :]
      copies = np.resize(last, (-len(part) % batch_size, *rows.shape[1:]))
      zeros = np.zeros((together - len(part) - len(copies), *rows.shape[1:]), rows.dtype)
      padded = np.concatenate([part, copies, zeros])
      in_flight.append(program(variables, placement.put_rows(mesh, padded[own])))
      if len(in_flight) == 2:
        made.append(fetch(in_flight.pop(0)))
    made.append(fetch(in_flight.pop()))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(rows)], *made)

  return call
