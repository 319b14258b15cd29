"""The memory and the instructions of a config's train step, compiled for a machine."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import feed
from dcgan_jax.devices import placement
from dcgan_jax.devices.programs import LONGEST_INNER
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.settings import Settings, check_devices
from dcgan_jax.trained.targets import programs, topology
from dcgan_jax.trained.targets.counting import count_here
from dcgan_jax.trained.targets.names import Target
from dcgan_jax.trained.targets.programs import Counted

MIB = 2**20
PREALLOCATED = 0.75  # of a GPU's memory, which JAX allocates at the start by default
SMALLER = 'choose a smaller train.batch_size or data.image_size, a larger train.accumulate or more devices'


@dataclass(frozen=True)
class Images:
  """The images of a run.

  Attributes:
    count: Number of images.
    numbers: Numbers in each image.
    origin: Origin of the count, in words.
    streamed: Whether batches are sent to the devices one at a time, because all take more than
      data.memory_limit.
    itemsize: Bytes of each number.
  """

  count: int
  numbers: int
  origin: str
  streamed: bool
  itemsize: int = 1


@dataclass(frozen=True)
class Report:
  """A compiled train step; bytes are those of each device.

  Attributes:
    target: The machine.
    images: The data set.
    batch: Images of a step on all devices together.
    devices: Number of devices.
    steps: Steps of one call of the program.
    state: Bytes of the state in memory.
    data: Bytes of the data set, or of the batch if it is streamed, and of the indices.
    temporaries: Bytes of all intermediate results.
    code: Bytes of the program itself, if it is in device memory.
    total: Bytes of all these together, and of the metrics.
    flops: Operations of one step; None if the compiler does not say.
    convolutions: Number of convolutions of each kind, see `programs.convolutions`.
    products: Number of matrix products; on a CPU most convolutions become some.
    collectives: Collectives of a step.
    copies: Instructions that make an array as large as the data set.
    branches: Number of conditionals, each of which waits for its condition.
  """

  target: Target
  images: Images
  batch: int
  devices: int
  steps: int
  state: int
  data: int
  temporaries: int
  code: int
  total: int
  flops: float | None
  convolutions: dict[str, int]
  products: int
  collectives: list[Counted]
  copies: list[Counted]
  branches: int

  @property
  def memory(self) -> int:
    """The memory of each device in bytes, 0 if unknown; devices of a CPU share the machine's."""
    return self.target.memory * MIB // (self.devices if self.target.platform == 'cpu' else 1)

  @property
  def fits(self) -> bool:
    """Whether the program fits into the memory of each device."""
    return not self.memory or self.total <= self.memory


def run(settings: Settings, target: Target, num_images: int | None, steps: int) -> None:
  """Compiles the train step of a config for a machine, and prints its memory and instructions.

  Args:
    settings: Settings of the run.
    target: The machine.
    num_images: Images of the data set; None counts those on this machine.
    steps: Steps of one program on that machine.

  Raises:
    InputError: in one line; the step does not fit, the batch cannot be divided among the devices, or the
      installed compiler does not support the machine.
  """
  mesh = topology.mesh(target)
  check_devices(settings, mesh.size)
  built = experiment.build(settings)
  images = find_images(built, num_images)
  report = measure(built, target, mesh, images, 1 if images.streamed else steps)
  print(to_text(report))
  if not report.fits:
    raise InputError(
      f'--target={target.name}: a step takes {report.total / MIB:,.0f} MiB of each device, which has '
      f'{report.memory / MIB:,.0f}; {SMALLER}'
    )


def find_images(built: Experiment, num_images: int | None) -> Images:
  """Counts a run's images, without downloading any.

  Args:
    built: The run.
    num_images: Number of images, if the user gives it.

  Raises:
    InputError: they are on this machine, and are unusable.
  """
  data = built.settings.data
  numbers, limit = math.prod(data.size) * data.channels, data.memory_limit * MIB
  itemsize = built.fit.pixels.kept.itemsize
  count, origin = num_images, 'by --num'
  if count is None:
    count = count_here(data.source, data.split, built.fit)
    origin = f'counted in {data.source}'
  if count is None:
    count = max(1, limit // (numbers * itemsize))
    origin = f'{data.source} is not on this machine: as many as data.memory_limit={data.memory_limit} holds'
  return Images(count, numbers, origin, count * numbers * itemsize > limit, itemsize)


def measure(built: Experiment, target: Target, mesh: Mesh, images: Images, steps: int = 1) -> Report:
  """Compiles the program of a run's train steps for a machine, and analyses it.

  Args:
    built: The run.
    target: The machine.
    mesh: Devices of the machine.
    images: The data set.
    steps: Steps of one program.

  Raises:
    InputError: the compiler finds that the program does not fit, or lacks a tool.
  """
  program = built.train_program(mesh, min(steps, LONGEST_INNER) if steps > 1 else None)
  arguments = step_arguments(built, mesh, None if images.streamed else images.count)
  compiled = _compile(program.lower(*arguments), target)
  rows, _ = placement.row_shape(mesh, images.numbers, images.itemsize)
  memory: Any = compiled.memory_analysis()
  text = compiled.as_text() or ''
  costs: Any = compiled.cost_analysis() or {}
  flops = costs.get('flops', -1.0)
  # The state's buffers are donated to the next state: the aliased bytes are those of the state.
  given = memory.alias_size_in_bytes
  total = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
  return Report(
    target=target,
    images=images,
    batch=built.settings.train.images_per_step,
    devices=mesh.size,
    steps=steps,
    state=given,
    data=memory.argument_size_in_bytes - given,
    temporaries=memory.temp_size_in_bytes,
    code=memory.generated_code_size_in_bytes,
    total=total + memory.output_size_in_bytes - given,
    flops=flops if flops > 0 else None,
    convolutions=programs.convolutions(text),
    products=programs.products(text),
    collectives=programs.collectives(text),
    copies=[] if images.streamed else _copies(text, images, rows),
    branches=programs.branches(text),
  )


def _copies(text: str, images: Images, rows: int) -> list[Counted]:
  """Returns the instructions of a program that make an array as large as all images, of `rows` rows each."""
  return programs.like(text, images.count * rows, images.count * images.numbers, images.itemsize)


def step_arguments(
  built: Experiment, mesh: Mesh, num_images: int | None
) -> tuple[GanState, placement.Batches]:
  """Returns the shapes, types and shardings of the arguments of the program of `programs.train_program`.

  Args:
    built: The run.
    mesh: The devices.
    num_images: Images of the data set; None if batches are sent to the devices one at a time.
  """
  data, count = built.settings.data, built.settings.train.images_per_step
  kept = built.fit.pixels.kept
  rows, length = placement.row_shape(mesh, math.prod(data.size) * data.channels, kept.itemsize)

  def array(shape: tuple[int, ...], dtype: Any, *axes: str) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*axes)))

  state = jax.tree.map(lambda x: array(x.shape, x.dtype), built.shapes)
  if num_images is None:
    images = array((count, *data.size, data.channels), kept, placement.AXIS)
    classes = array((count,), jnp.int32, placement.AXIS) if data.classes else None
    return state, placement.Batches(Examples(images, classes))
  classes = array((num_images,), jnp.int32) if data.classes else None
  steps = feed.steps_of_window(num_images, count)
  window = placement.Window(array((steps, count), jnp.int32), array((), jnp.int32))
  examples = Examples(array((num_images * rows, length), kept), classes)
  return state, placement.Batches(examples, window, array((), jnp.int32))


def _compile(lowered: jax.stages.Lowered, target: Target) -> jax.stages.Compiled:
  """Compiles a program.

  Raises:
    InputError: it does not fit, or the tool that assembles programs for GPUs is not installed.
  """
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    text = ' '.join(str(error).split())
    if 'RESOURCE_EXHAUSTED' in text:
      raise InputError(f'--target={target.name}: a step does not fit: {text[:200]}; {SMALLER}') from error
    if 'PTX' in text:
      raise InputError(
        f"--target={target.name}: needs ptxas, which is not installed; pip install -e '.[aotcuda]'"
      ) from error
    raise


def to_text(report: Report) -> str:
  """Returns the report as text."""
  devices = (
    f'{report.devices} device{"s" * (report.devices > 1)}, {report.batch // report.devices} images on each'
  )
  title = (
    f'Train step of {report.batch} images on {report.target.name}: {devices}. Memory in MiB of each device:'
  )
  rows = [*_memory_rows(report), *_program_rows(report)]
  width = max(len(name) for name, _, _ in rows)
  return '\n'.join([title, *(f'{name:{width}} {value:>12}  ({about})' for name, value, about in rows)])


def _memory_rows(report: Report) -> list[tuple[str, str, str]]:
  """Returns the rows about memory of each device: name, MiB, explanation."""
  images = report.images
  about = f'{images.count:,} images, {images.origin}'
  if images.streamed:
    about = f'a batch; {about}, take more than data.memory_limit and are streamed'
  if not report.memory:
    room = 'this machine does not say how much it has'
  else:
    room = f'{"fits" if report.fits else "does not fit"}: each device has {report.memory / MIB:,.0f}'
    if report.fits and report.target.platform == 'gpu' and report.total > PREALLOCATED * report.memory:
      room += '; set XLA_PYTHON_CLIENT_MEM_FRACTION=0.95, since JAX takes only 0.75 of it otherwise'
  return [
    ('state', _mib(report.state), "parameters, Adam's averages, statistics"),
    ('data set', _mib(report.data), about),
    ('temporaries', _mib(report.temporaries), 'activations, gradients and other intermediate results'),
    ('code', _mib(report.code), f'one program takes {report.steps} step{"s" * (report.steps > 1)}'),
    ('whole step', _mib(report.total), room),
  ]


def _program_rows(report: Report) -> list[tuple[str, str, str]]:
  """Returns the rows about instructions: name, count, explanation."""
  kinds = ', '.join(f'{count} {kind}' for kind, count in report.convolutions.items())
  forms = ', the forms of most convolutions among them' if report.target.platform == 'cpu' else ''
  rows = [
    ('convolutions', f'{sum(report.convolutions.values()):,}', kinds or 'all are computed in other forms'),
    ('products', f'{report.products:,}', f'of matrices{forms}'),
    (
      'branches',
      f'{report.branches:,}',
      'conditionals, of which each waits for its condition; all branches are counted here',
    ),
  ]
  rows += [(it.kind, f'{it.count:,}', f'{_mib(it.bytes)} MiB in all') for it in report.collectives]
  rows += [
    (f'{it.kind} of data', f'{it.count:,}', f'as large as the data set: {_mib(it.bytes)} MiB')
    for it in report.copies
  ]
  if not report.images.streamed and not report.copies:
    rows.append(('copies of data', '0', 'nothing else is as large as the data set'))
  flops = 'unknown' if report.flops is None else f'{report.flops / 1e9:,.1f}'
  return [*rows, ('GFLOP', flops, 'of a step on each device, as the compiler counts')]


def _mib(size: int) -> str:
  """Returns bytes in MiB."""
  return f'{size / MIB:,.1f}'
