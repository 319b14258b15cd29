"""Prints the layers of both networks, their shapes and parameter counts, and the memory of a train step."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from dcgan_jax.data import cache
from dcgan_jax.devices import placement, processes
from dcgan_jax.runs import experiment
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.settings import Settings, check_devices
from dcgan_jax.trained.targets import report


class Layer(NamedTuple):
  """A row of a network's table.

  Attributes:
    name: of the layer in its network.
    kind: the class of the layer's module.
    shape: of its output.
    parameters: how many numbers are trained.
    statistics: how many running means and variances of batch norm it has.
  """

  name: str
  kind: str
  shape: tuple[int, ...]
  parameters: int
  statistics: int


def run(settings: Settings) -> None:
  """Prints a table for each network, and the memory that a train step takes; no step is executed.

  Args:
    settings: of the run.

  Raises:
    InputError: in one line; the batch cannot be divided among the devices.
  """
  check_devices(settings, len(processes.devices()))
  parts = experiment.build(settings)
  z = jax.ShapeDtypeStruct((1, parts.gan.latents.width), jnp.float32)
  packing = parts.gan.discriminator.packing
  images = jax.ShapeDtypeStruct((packing, *settings.data.size, settings.data.channels), jnp.float32)
  print(table('Generator', parts.gan.generator, z))
  print()
  print(table('Discriminator', parts.gan.discriminator, images))
  print()
  print(memory(parts))


def memory(parts: Experiment) -> str:
  """Returns what a train step takes of each device's memory, by XLA's analysis of the compiled program.

  Args:
    parts: of the run.
  """
  cache.keep_compiled_programs()
  settings, mesh = parts.settings, placement.mesh()
  count, shape = settings.train.images_per_step, (*settings.data.size, settings.data.channels)
  state, batches = report.step_arguments(parts, mesh, None)
  bytes_each = math.prod(shape) * parts.fit.pixels.kept.itemsize
  step = parts.train_program(mesh)
  analysis = step.lower(state, batches).compile().memory_analysis()
  if analysis is None:
    return f'Memory of a train step: unknown to XLA for {jax.default_backend()}'
  size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  # The state's buffers are given to the next state, so they count once, as arguments.
  total = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
  total += analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  devices = f'{mesh.size} {jax.default_backend()} device{"s" * (mesh.size > 1)}'
  each, most = count // mesh.size, settings.data.memory_limit
  return '\n'.join(
    [
      f'Memory of a train step: {count} images on {devices}, {each} on each, in MiB of each device',
      f"state         {size / 2**20:10,.1f}  (parameters, Adam's averages, statistics)",
      f'whole step    {total / 2**20:10,.1f}  (with activations, gradients and what they take on the way)',
      f'data set      up to {most:,} more, {bytes_each:,} bytes an image; a larger one stays on disk',
    ]
  )


def table(title: str, module: nn.Module, x: jax.ShapeDtypeStruct) -> str:
  """Returns a text table of a network's layers, with the batch size left open, and the totals.

  Args:
    title: of the table.
    module: the network.
    x: shape and dtype of its input.
  """
  rows = layers(module, x)
  cells = [
    (
      f'{row.name} ({row.kind})',
      f'({", ".join(["batch", *map(str, row.shape[1:])])})',
      f'{row.parameters + row.statistics:,}',
    )
    for row in rows
  ]
  header = (f'{title}: layer (type)', 'output shape', 'parameters')
  widths = [max(len(row[i]) for row in [header, *cells]) for i in range(3)]
  lines = [f'{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}' for a, b, c in [header, *cells]]
  trained, statistics = sum(row.parameters for row in rows), sum(row.statistics for row in rows)
  rule = '-' * len(lines[0])
  totals = [
    f'total       {trained + statistics:>12,}',
    f'trainable   {trained:>12,}',
    f'statistics  {statistics:>12,}  (running means and variances of batch norm)',
  ]
  return '\n'.join([lines[0], rule, *lines[1:], rule, *totals])


def layers(module: nn.Module, x: jax.ShapeDtypeStruct) -> list[Layer]:
  """Returns the layers of a network, in the order in which they are called; nothing is computed.

  Args:
    module: the network.
    x: shape and dtype of its input.
  """

  def trace(key: jax.Array, x: jax.Array) -> Any:
    rows.clear()

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
      output = call(*args, **kwargs)
      if len(context.module.path) == 1 and context.method_name == '__call__':
        rows.append((str(context.module.name), type(context.module).__name__, output.shape))
      return output

    with nn.intercept_methods(note):
      return module.init({'params': key, 'dropout': key}, x, train=True)

  rows: list[tuple[str, str, tuple[int, ...]]] = []
  variables = jax.eval_shape(trace, jax.random.key(0), x)
  params, statistics = variables['params'], variables.get('batch_stats', {})
  return [
    Layer(name, kind, shape, _size(params.get(name)), _size(statistics.get(name)))
    for name, kind, shape in rows
  ]


def _size(tree: Any) -> int:
  """Returns how many numbers the arrays of a tree have together."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
