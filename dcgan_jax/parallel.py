"""Processes, their devices, and the programs that run on them.

In a run of several processes, JAX's distributed runtime joins them. In a single process, the functions about
processes have nothing to wait for. A batch is divided among all devices of all processes along one mesh axis,
and everything else is replicated.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax import conv
from dcgan_jax.accumulation import Examples
from dcgan_jax.errors import InputError
from dcgan_jax.train_state import GanState
from dcgan_jax.train_step import TrainStep

AXIS = 'batch'  # the mesh axis along which a batch is divided


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes of the run. Call it before anything else asks JAX for devices.

  From here on process 0 speaks for all: the standard output of the others is dropped.

  Args:
    coordinator: HOST:PORT of process 0, which all can reach; None asks the cluster.
    num_processes: how many processes the run has; None asks the cluster.
    process_id: the number of this one, from 0; None asks the cluster.

  Raises:
    InputError: there is no cluster, or the others did not come within five minutes.
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
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  It stays open as long as the process lives.


def is_main() -> bool:
  """Returns whether this process writes what a run writes once: metrics, pictures, the config."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first() -> Iterator[None]:
  """Lets process 0 go through the block before the others do, so that it can prepare what they then find."""
  if not is_main():
    multihost_utils.sync_global_devices('main first')
  yield
  if is_main() and jax.process_count() > 1:
    multihost_utils.sync_global_devices('main first')


def agreed(values: Any) -> Any:
  """Returns process 0's values: a tree of numbers and arrays that has the same shapes in each process."""
  return values if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(values)


def all_agree(value: bool) -> bool:
  """Returns whether a condition holds in every process."""
  return value if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(value)).all())


@contextlib.contextmanager
def leaving_when_others_do() -> Iterator[None]:
  """Ends this process, with a message, when something that all processes do together fails.

  It ends at once and does not run the exits of enclosing blocks, because those could wait forever for a
  process that is dead. A process that hangs instead is ended by JAX's runtime after 100 seconds without a
  sign of life.
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
  """Ends this process now. An ordinary exit would wait for the other processes, which may be gone."""
  print(message, file=sys.stderr, flush=True)
  os._exit(status)


def all_devices() -> Mesh:
  """Returns a mesh of every device of every process, in which the devices of a process are neighbours."""
  devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
  return Mesh(np.array(devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device has whole."""
  return NamedSharding(mesh, P())


def mesh_axis(mesh: Mesh) -> str | None:
  """Returns the `axis_name` that train steps and networks take on this mesh; None for a single device."""
  return AXIS if mesh.size > 1 else None


class Batches(NamedTuple):
  """The input of one program of steps, on the devices.

  Attributes:
    examples: the whole data set, images uint8 [N, H, W, C] and maybe classes int32 [N], which every device
      has; None for a streamed one.
    xs: the batch of each step: indices into `examples`, int32 [steps, batch], or `Examples` themselves, uint8
      [steps, batch, H, W, C] and maybe int32 [steps, batch].
  """

  examples: Any
  xs: Any

  @property
  def steps(self) -> int:
    """Returns how many steps there are."""
    return len(jax.tree.leaves(self.xs)[0])


def own_rows(mesh: Mesh, batch_size: int) -> slice:
  """Returns the rows of a global batch that the devices of this process work on."""
  own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
  each = batch_size // mesh.size
  return slice(own[0] * each, (own[-1] + 1) * each)


def put_batches(mesh: Mesh, examples: Examples | None, rows: Any) -> Batches:
  """Returns `Batches` of which each process puts its own rows on its devices.

  Args:
    mesh: all devices.
    examples: the whole data set on every device, or None.
    rows: this process's part of `xs`, NumPy arrays [steps, own batch, ...].
  """
  sharding = NamedSharding(mesh, P(None, AXIS))
  return Batches(examples, jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows))


def compile_steps(train_step: TrainStep, mesh: Mesh, deterministic: bool = False) -> jax.stages.Wrapped:
  """Makes one program of several train steps.

  Args:
    train_step: made for the axis name `mesh_axis(mesh)`.
    mesh: all devices.
    deterministic: whether a GPU must repeat every bit.

  Returns:
    The jitted function (state, batches) -> (state, metrics), which takes `batches.steps` steps. The new
    state takes over the buffers of the old one. Each metric is an array [steps].
  """

  def steps(state: GanState, batches: Batches) -> tuple[GanState, Any]:
    def one(state: GanState, x: Any) -> tuple[GanState, Any]:
      examples = x if batches.examples is None else jax.tree.map(lambda all: all[x], batches.examples)
      return train_step(state, *examples)

    if batches.steps > 1:
      return jax.lax.scan(one, state, batches.xs)
    state, metrics = one(
      state, jax.tree.map(lambda x: x[0], batches.xs)
    )  # XLA optimises a step better outside a loop.
    return state, jax.tree.map(lambda x: x[None], metrics)

  if mesh.size > 1:
    # Unchecked, each device gets gradients of its own, as under pmap, and the step averages them.
    steps = jax.shard_map(
      steps, mesh=mesh, in_specs=(P(), Batches(P(), P(None, AXIS))), out_specs=(P(), P()), check_vma=False
    )
  options = conv.compiler_options(deterministic, mesh.devices.flat[0].platform)
  return jax.jit(steps, donate_argnums=0, compiler_options=options)


def map_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[[Any, np.ndarray, int], Any]:
  """Makes a program that applies a function to any number of rows, spread over the devices.

  Args:
    function: (variables, rows [B, ...]) -> a tree of arrays [B, ...].
    mesh: all devices.

  Returns:
    The function (variables, rows, B) -> a tree of NumPy arrays [N, ...], whole in each process, where the
    rows are a NumPy array [N, ...]. Each device works on B rows at a time, so that the results do not depend
    on the number of devices, and one program serves every N. The last batch is filled up with copies of its
    own rows.
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
    made, ahead = [], []  # While the results of one call are fetched, the devices work on the next.
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
