"""The placement of arrays: a batch is divided among all devices, and everything else is replicated."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax.core.accumulation import Examples
from dcgan_jax.devices import processes

AXIS = 'batch'  # the mesh axis along which a batch is divided
LANES, LONGEST_ROW = 128, 2**14  # of a TPU, in numbers and in bytes


class Window(NamedTuple):
  """The order of the images over some steps, replicated.

  Attributes:
    rows: Row of the data set for each image of each step, int32 [steps, batch].
    first: Step of the first row, int32 [].
  """

  rows: Any
  first: Any


class Batches(NamedTuple):
  """The input of a round, on the devices.

  Attributes:
    examples: With a window the whole data set, replicated: images flattened to rows, [N * rows, length], see
      `row_shape`, and classes, int32 [N], if the networks are conditional. Otherwise one batch, divided among
      the devices: [batch, H, W, C] and int32 [batch].
    window: A `Window`, in which each step finds its rows by its own number; None for a single batch.
    steps: Number of steps, int32 []; 1 without a window.
  """

  examples: Any
  window: Any = None
  steps: Any = np.int32(1)


def mesh() -> Mesh:
  """Returns a mesh of all devices of all processes."""
  return Mesh(np.array(processes.devices()), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array of which every device has a copy."""
  return NamedSharding(mesh, P())


def mesh_axis(mesh: Mesh) -> str | None:
  """Returns the `axis_name` of train steps and networks on this mesh; None for a single device."""
  return AXIS if mesh.size > 1 else None


def own_rows(mesh: Mesh, batch_size: int) -> slice:
  """Returns the rows of a global batch for the devices of this process."""
  own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
  each = batch_size // mesh.size
  return slice(own[0] * each, (own[-1] + 1) * each)


def put_whole(mesh: Mesh, tree: Any) -> Any:
  """Replicates a tree of NumPy arrays, which each process has as a whole."""
  sharding = replicated(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x, x.shape), tree)


def put_rows(mesh: Mesh, tree: Any) -> Any:
  """Divides a batch among the devices; each process gives its own rows, [own batch, ...]."""
  sharding = NamedSharding(mesh, P(AXIS))
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def put_batch(mesh: Mesh, rows: Examples) -> Batches:
  """Returns a round of one step; each process gives its own rows of the batch."""
  return Batches(put_rows(mesh, rows))


def put_data_set(mesh: Mesh, examples: Examples) -> Examples:
  """Replicates a whole data set.

  Images are flattened to rows, because a TPU lays out [N, H, W, C] so that single images cannot be taken: it
  would copy all of them in each step.

  Args:
    mesh: All devices.
    examples: Images of any dtype, [N, H, W, C], and classes, int32 [N], or None; NumPy arrays.

  Returns:
    Images [N * rows, length], see `row_shape`, and classes or None.
  """
  images = examples.images.reshape(len(examples.images), -1)
  rows, length = row_shape(mesh, images.shape[1], images.dtype.itemsize)
  padding = rows * length - images.shape[1]
  images = np.pad(images, ((0, 0), (0, padding))) if padding else images
  return put_whole(mesh, examples._replace(images=images.reshape(-1, length)))


def row_shape(mesh: Mesh, numbers: int, itemsize: int = 1) -> tuple[int, int]:
  """Returns how many rows an image takes, and how long each is.

  A TPU re-lays out rows that are not padded to 128 lanes in every program, and copies rows longer than 32,768
  bytes.

  Args:
    mesh: All devices.
    numbers: Numbers in an image.
    itemsize: Bytes of a number.
  """
  if mesh.devices.flat[0].platform != 'tpu':
    return 1, numbers
  rows = -(-numbers * itemsize // LONGEST_ROW)
  return rows, -(-numbers // (rows * LANES)) * LANES


def own_examples(batches: Batches, step: Array, mesh: Mesh, image_shape: tuple[int, ...]) -> Examples:
  """Returns a device's part of the batch of a step; called in a program."""
  if batches.window is None:
    return batches.examples
  each = batches.window.rows.shape[1] // mesh.size
  start = np.int32(0) if mesh.size == 1 else each * jax.lax.axis_index(AXIS)
  rows = jax.lax.dynamic_slice(batches.window.rows, (step - batches.window.first, start), (1, each))[0]
  numbers = math.prod(image_shape)
  count, length = row_shape(mesh, numbers, batches.examples.images.dtype.itemsize)
  of_images = rows if count == 1 else (rows[:, None] * count + jnp.arange(count)).reshape(-1)
  images = batches.examples.images.at[of_images].get(mode='promise_in_bounds')
  classes = jax.tree.map(lambda x: x.at[rows].get(mode='promise_in_bounds'), batches.examples.classes)
  return Examples(images.reshape(each, count * length)[:, :numbers].reshape(each, *image_shape), classes)
