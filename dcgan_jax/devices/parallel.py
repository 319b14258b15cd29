"""Processes, their devices, and the programs that run on them.

In a run of several processes, JAX's distributed runtime joins them. In a single process, the functions about
processes have nothing to wait for. A batch is divided among all devices of all processes along one mesh axis,
and everything else is replicated.
"""

import contextlib
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax.core import conv
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.train_state import GanState
from dcgan_jax.core.train_step import TrainStep
from dcgan_jax.errors import InputError

AXIS = 'batch'  # the mesh axis along which a batch is divided
LONGEST_WAIT = 7 * 24 * 3600 * 1000  # milliseconds that processes wait for process 0, while it lives
LANES, LONGEST_ROW = 128, 2**14  # of a TPU, in numbers and in bytes
LOOP = 10  # steps, or fewer, after which the devices ask whether there are more
_MEETINGS = itertools.count()  # of the processes, which need a name each


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes of the run. Call it before anything else asks JAX for devices.

  From here on process 0 speaks for all: the standard output of the others is dropped.

  Args:
    coordinator: HOST:PORT of process 0, which all can reach; None asks the cluster.
    num_processes: how many processes the run has; None asks the cluster.
    process_id: the number of this one, from 0; None asks the cluster.

  Raises:
    InputError: there is no cluster, the others did not come within five minutes, or there are no devices.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    if coordinator is None:
      what = '--distributed: no cluster found here; give --coordinator, --num_processes and --process_id'
    else:
      what = f'--coordinator={coordinator}: the {num_processes} processes did not find each other'
    raise InputError(f'{what} ({str(error).splitlines()[0]})') from error
  devices()  # If there are none, this says so in one line.
  if not is_main():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  It stays open as long as the process lives.


def is_main() -> bool:
  """Returns whether this process writes what a run writes once: metrics, pictures, the config."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first() -> Iterator[None]:
  """Lets process 0 go through the block before the others do, so that it can prepare what they then find.

  The others wait for as long as it lives, be it hours of downloading. They wait at the coordination service,
  because a collective of the devices would time out.
  """
  if not is_main():
    _meet()
  yield
  if is_main() and jax.process_count() > 1:
    _meet()


def _meet() -> None:
  """Waits until all processes have come here."""
  from jax._src import distributed  # JAX has no public name for this barrier.

  distributed.global_state.client.wait_at_barrier(f'dcgan_jax_{next(_MEETINGS)}', LONGEST_WAIT)  # type: ignore[union-attr]


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


def devices() -> list[jax.Device]:
  """Returns every device of every process, in which the devices of a process are neighbours.

  Raises:
    InputError: there are none of the kind that JAX_PLATFORMS names.
  """
  try:
    found = jax.devices()
  except Exception as error:  # RuntimeError or, without a GPU, whatever an empty list of devices leads to
    asked = jax.config.jax_platforms or ''  # type: ignore[attr-defined]
    reason = ' '.join(str(error).partition(' (')[0].split())[:200] or 'it does not say why'
    raise InputError(
      f'JAX_PLATFORMS={asked}: JAX finds no such device here ({reason}); choose cpu, or leave it out for the '
      'best that there is; cuda and tpu take a device and the extra of that name'
    ) from error
  return sorted(found, key=lambda device: (device.process_index, device.id))


def all_devices() -> Mesh:
  """Returns a mesh of `devices()`."""
  return Mesh(np.array(devices()), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device has whole."""
  return NamedSharding(mesh, P())


def mesh_axis(mesh: Mesh) -> str | None:
  """Returns the `axis_name` that train steps and networks take on this mesh; None for a single device."""
  return AXIS if mesh.size > 1 else None


class Window(NamedTuple):
  """The order of the images over some steps, on every device.

  Attributes:
    rows: of the data set that each step learns from, int32 [steps, batch].
    first: the step that the first of them are for, int32 [].
  """

  rows: Any
  first: Any


class Batches(NamedTuple):
  """The input of one program of steps, on the devices.

  Attributes:
    examples: the whole data set if there is a window, which every device has: images, as they are kept, as
      rows [N * rows, length], see `row_shape`, and maybe classes, int32 [N]. Otherwise one batch, divided
      among the devices: [batch, H, W, C] and maybe int32 [batch].
    window: from which each step takes its rows by its own number; None for a single batch.
    steps: how many steps the program has, int32 []; 1 without a window.
  """

  examples: Any
  window: Any = None  # a Window
  steps: Any = np.int32(1)


def own_rows(mesh: Mesh, batch_size: int) -> slice:
  """Returns the rows of a global batch that the devices of this process work on."""
  own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
  each = batch_size // mesh.size
  return slice(own[0] * each, (own[-1] + 1) * each)


def put_whole(mesh: Mesh, tree: Any) -> Any:
  """Returns a tree of NumPy arrays that each process has whole, on every device."""
  sharding = replicated(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x, x.shape), tree)


def put_batch(mesh: Mesh, rows: Examples) -> Batches:
  """Returns a batch of which each process puts its own rows, [own batch, ...], on its devices."""
  sharding = NamedSharding(mesh, P(AXIS))
  return Batches(jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows))


def put_data_set(mesh: Mesh, examples: Examples) -> Examples:
  """Puts a whole data set on every device.

  Images become rows, because a TPU keeps [N, H, W, C] in a layout from which single images cannot be taken:
  it would copy all of them in each step.

  Args:
    mesh: all devices.
    examples: images of any dtype, [N, H, W, C], and maybe their classes, int32 [N]; NumPy arrays.

  Returns:
    Images [N * rows, length], see `row_shape`, and maybe classes.
  """
  images = examples.images.reshape(len(examples.images), -1)
  rows, length = row_shape(mesh, images.shape[1], images.dtype.itemsize)
  filling = rows * length - images.shape[1]
  images = np.pad(images, ((0, 0), (0, filling))) if filling else images
  return put_whole(mesh, examples._replace(images=images.reshape(-1, length)))


def row_shape(mesh: Mesh, numbers: int, itemsize: int = 1) -> tuple[int, int]:
  """Returns how many rows an image of so many numbers, of so many bytes each, takes, and how long each is.

  A TPU has lanes of 128 numbers, and turns an array of rows that do not fill them around in each program; of
  rows longer than 32,768 bytes it makes a copy.
  """
  if mesh.devices.flat[0].platform != 'tpu':
    return 1, numbers
  rows = -(-numbers * itemsize // LONGEST_ROW)
  return rows, -(-numbers // (rows * LANES)) * LANES


def compile_steps(
  train_step: TrainStep,
  mesh: Mesh,
  image_shape: tuple[int, ...],
  loop: int = 0,
  deterministic: bool = False,
  precision: str = 'default',
) -> jax.stages.Wrapped:
  """Makes one program of train steps.

  Args:
    train_step: made for the axis name `mesh_axis(mesh)`.
    mesh: all devices.
    image_shape: height, width, channels.
    loop: 0 for a program of a single step, which XLA optimizes better than one in a loop. Otherwise the
      program takes any number of steps, `batches.steps`, that is a multiple of `loop`. The devices ask after
      every so many steps whether there are more, and a GPU has to ask its host.
    deterministic: whether a GPU must repeat every bit.
    precision: of convolutions and matrix products of float32: 'default' | 'high' | 'highest'.

  Returns:
    The jitted function (state, batches) -> (state, sums, last), which trains on `Batches`. The new state
    takes over the buffers of the old one. `last` has the metrics of the last step, float32 [] each, and
    `sums` their sums over all steps of the program.
  """
  own = partial(_own_examples, mesh=mesh, image_shape=image_shape)
  precise = jax.default_matmul_precision(None if precision == 'default' else precision)
  take = precise(train_step)

  def steps(state: GanState, batches: Batches) -> tuple[GanState, Any, Any]:
    if loop and batches.window is not None:
      return _in_loop(take, own, loop, state, batches)
    state, metrics = take(state, *own(batches, state.step))
    return state, metrics, metrics

  def divided(state: GanState, batches: Batches) -> tuple[GanState, Any, Any]:
    # Unchecked, each device gets gradients of its own, as under pmap, and the step averages them.
    of_batches = Batches(P(AXIS) if batches.window is None else P(), P(), P())
    mapped = jax.shard_map(
      steps, mesh=mesh, in_specs=(P(), of_batches), out_specs=(P(), P(), P()), check_vma=False
    )
    return mapped(state, batches)

  options = conv.compiler_options(deterministic, mesh.devices.flat[0].platform)
  return jax.jit(steps if mesh.size == 1 else divided, donate_argnums=0, compiler_options=options)


def _in_loop(
  train_step: TrainStep, own: Callable[..., Examples], loop: int, state: GanState, batches: Batches
) -> tuple[GanState, Any, Any]:
  """Takes `batches.steps` steps, see `compile_steps`."""

  def one_step(carry: tuple[GanState, Any, Any], _: Any) -> tuple[tuple[GanState, Any, Any], None]:
    state, sums, _ = carry
    state, last = train_step(state, *own(batches, state.step))
    return (state, jax.tree.map(jnp.add, sums, last), last), None

  def known_number(_: Any, carry: tuple[GanState, Any, Any]) -> tuple[GanState, Any, Any]:
    return jax.lax.scan(one_step, carry, length=loop)[0]

  _, metrics = jax.eval_shape(lambda state: train_step(state, *own(batches, state.step)), state)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
  return jax.lax.fori_loop(0, batches.steps // loop, known_number, (state, zeros, zeros))


def _own_examples(batches: Batches, step: Array, mesh: Mesh, image_shape: tuple[int, ...]) -> Examples:
  """Returns what a device learns from in a step: its part of the batch."""
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
