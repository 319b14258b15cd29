"""Train steps as compiled programs: one or several at once, on one device or many."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax import conv
from dcgan_jax.state import GanState
from dcgan_jax.steps import TrainStep

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
