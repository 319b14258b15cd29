"""Devices and processes: a mesh of them, train steps and row functions as programs compiled for it.

In a run of several processes, JAX's distributed runtime joins them; in a single process the functions about
processes do nothing.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax import conv
from dcgan_jax.errors import InputError
from dcgan_jax.train_state import GanState
from dcgan_jax.train_step import TrainStep

AXIS = 'batch'  # of a mesh of devices, along which a batch is divided


def all_devices() -> Mesh:
  """A mesh of every device of every process, those of a process side by side."""
  devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
  return Mesh(np.array(devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Of an array that every device has whole."""
  return NamedSharding(mesh, P())


def mesh_axis(mesh: Mesh) -> str | None:
  """What `make_train_step` and the networks take as `axis_name` on this mesh."""
  return AXIS if mesh.size > 1 else None


class Batches(NamedTuple):
  """What some steps need, on the devices.

  Attributes:
    images: the whole data set, uint8 [N, H, W, C] on each device; or None.
    xs: each step's part of it: indices int32 [steps, batch], or the images themselves, uint8
      [steps, batch, H, W, C].
  """

  images: Any
  xs: Any


def own_rows(mesh: Mesh, batch_size: int) -> slice:
  """The rows of a global batch that the devices of this process work on."""
  own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
  each = batch_size // mesh.size
  return slice(own[0] * each, (own[-1] + 1) * each)


def put_batches(mesh: Mesh, images: Any, rows: np.ndarray) -> Batches:
  """`Batches` whose xs are this process's rows, [steps, own batch, ...], and those of the others."""
  sharding = NamedSharding(mesh, P(None, AXIS))
  return Batches(images, jax.make_array_from_process_local_data(sharding, rows))


def map_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[[Any, np.ndarray, int], Any]:
  """A function of rows, jitted once for any number of them and spread over the devices.

  Args:
    function: (variables, rows [B, ...]) -> a tree of [B, ...].
    mesh: the devices.

  Returns:
    (variables, rows [N, ...] of NumPy, B) -> the tree of NumPy arrays [N, ...], whole in each process. Each
    device works on B rows at a time, so that results do not depend on the number of devices; what is
    missing to a whole number of batches is filled up by repeating the last rows.
  """
  if mesh.size > 1:
    function = jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
  compiled = jax.jit(function, compiler_options=conv.compiler_options())
  sharding = NamedSharding(mesh, P(AXIS))

  def fetch(tree: Any) -> Any:
    if jax.process_count() > 1:
      return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)

  def call(variables: Any, rows: np.ndarray, batch_size: int) -> Any:
    together = batch_size * mesh.size
    own = own_rows(mesh, together)
    made, ahead = [], []  # one call is made while the one before is fetched
    for start in range(0, len(rows), together):
      part = rows[start : start + together]
      last = part[len(part) - (len(part) % batch_size or batch_size) :]
      filling = np.resize(last, (-len(part) % batch_size, *rows.shape[1:]))
      nothing = np.zeros((together - len(part) - len(filling), *rows.shape[1:]), rows.dtype)
      whole = np.concatenate([part, filling, nothing])
      ahead.append(compiled(variables, jax.make_array_from_process_local_data(sharding, whole[own])))
      if len(ahead) == 2:
        made.append(fetch(ahead.pop(0)))
    made.append(fetch(ahead.pop()))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(rows)], *made)

  return call


def compile_steps(train_step: TrainStep, mesh: Mesh) -> jax.stages.Wrapped:
  """Compiles `len(xs)` steps as one program, of a step made for `mesh_axis(mesh)`.

  The state's buffers are given to the next state. Metrics are [steps] each.

  Returns:
    (state, batches) -> (state, metrics), jitted.
  """

  def steps(state: GanState, batches: Batches) -> tuple[GanState, Any]:
    def one(state: GanState, x: Array) -> tuple[GanState, Any]:
      return train_step(state, x if batches.images is None else batches.images[x])

    if len(batches.xs) > 1:
      return jax.lax.scan(one, state, batches.xs)
    state, metrics = one(state, batches.xs[0])  # no loop, in which XLA knows less
    return state, jax.tree.map(lambda x: x[None], metrics)

  if mesh.size > 1:
    # Without replication checks gradients arrive per device, as under pmap, and the step averages them.
    steps = jax.shard_map(
      steps, mesh=mesh, in_specs=(P(), Batches(P(), P(None, AXIS))), out_specs=(P(), P()), check_vma=False
    )
  return jax.jit(steps, donate_argnums=0, compiler_options=conv.compiler_options())


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes; to be called before anything else asks JAX for devices.

  Process 0 speaks for all from here on: the others' standard output is dropped.

  Args:
    coordinator: HOST:PORT of process 0, reachable from all; None asks the cluster.
    num_processes: of the run; None asks the cluster.
    process_id: of this one, from 0; None asks the cluster.

  Raises:
    InputError: in one line; no cluster, or the others did not come within five minutes.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    if coordinator is None:
      what = '--distributed: no cluster found here; give --coordinator, --num_processes and --process_id'
    else:
      what = f'--coordinator={coordinator}: the {num_processes} processes did not find each other'
    raise InputError(f'{what} ({str(error).splitlines()[0]})') from error
  if not is_main():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  for as long as the process lives


def is_main() -> bool:
  """Whether this process writes what is written once: metrics, pictures, config."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first() -> Iterator[None]:
  """Process 0 goes through the block before the others do: it may prepare what they then find."""
  if not is_main():
    multihost_utils.sync_global_devices('main first')
  yield
  if is_main() and jax.process_count() > 1:
    multihost_utils.sync_global_devices('main first')


def agreed(values: Any) -> Any:
  """Process 0's values: a tree of numbers and arrays, of the same shapes in each process."""
  return values if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(values)


@contextlib.contextmanager
def leaving_when_others_do() -> Iterator[None]:
  """Ends this process, with a message, when something that all do together fails.

  Whoever waits for a dead process waits in vain: so no block around this one is left in order. What hangs
  without failing is ended by JAX's runtime, after 100 seconds without a sign of life.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = str(error).strip().splitlines()[0][:200]
    leave(
      f'error: process {jax.process_index()} of {jax.process_count()} ends: {reason}; as a rule because '
      'another process has died: start all again, and training goes on from its last checkpoint',
      status=1,
    )


def leave(message: str, status: int) -> NoReturn:
  """Ends this process now, without waiting for others that may be no more, as an ordinary end would."""
  print(message, file=sys.stderr, flush=True)
  os._exit(status)
