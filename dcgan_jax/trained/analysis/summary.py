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
    name: Name of the layer in its network.
    kind: Class of the layer's module.
    shape: Shape of its output.
    parameters: Number of trained parameters.
    statistics: Number of running means and variances of batch norm.
  """

  name: str
  kind: str
  shape: tuple[int, ...]
  parameters: int
  statistics: int


class Network(NamedTuple):
  """A network's table."""

  name: str
  layers: list[Layer]

  @property
  def parameters(self) -> int:
    """The number of trained parameters."""
    return sum(layer.parameters for layer in self.layers)


def run(settings: Settings) -> None:
  """Prints a table for each network, and the memory of a train step; no step is executed.

  Args:
    settings: Settings of the run.

  Raises:
    InputError: in one line; the batch cannot be divided among the devices.
  """
  check_devices(settings, len(processes.devices()))
  built = experiment.build(settings)
  print(*map(table, networks(built)), memory(built), sep='\n\n')


def networks(built: Experiment) -> list[Network]:
  """Returns the tables of both networks; nothing is computed."""
  gan, data = built.gan, built.settings.data
  z = jax.ShapeDtypeStruct((1, gan.latents.width), jnp.float32)
  images = jax.ShapeDtypeStruct((gan.discriminator.packing, *data.size, data.channels), jnp.float32)
  return [
    Network('Generator', layers(gan.generator, z)),
    Network('Discriminator', layers(gan.discriminator, images)),
  ]


def memory(built: Experiment) -> str:
  """Returns the memory of a train step on each device, by XLA's analysis of the compiled program.

  Args:
    built: The run.
  """
  cache.keep_compiled_programs()
  settings, mesh = built.settings, placement.mesh()
  count, shape = settings.train.images_per_step, (*settings.data.size, settings.data.channels)
  state, batches = report.step_arguments(built, mesh, None)
  bytes_each = math.prod(shape) * built.fit.pixels.kept.itemsize
  step = built.train_program(mesh)
  analysis = step.lower(state, batches).compile().memory_analysis()
  if analysis is None:
    return f'Memory of a train step: unknown to XLA for {jax.default_backend()}'
  size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  # The state's buffers are donated to the next state, so they count once, as arguments.
  total = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
  total += analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  devices = f'{mesh.size} {jax.default_backend()} device{"s" * (mesh.size > 1)}'
  each, most = count // mesh.size, settings.data.memory_limit
  return '\n'.join(
    [
      f'Memory of a train step: {count} images on {devices}, {each} on each, in MiB of each device',
      f"state         {size / 2**20:10,.1f}  (parameters, Adam's averages, statistics)",
      f'whole step    {total / 2**20:10,.1f}  (with activations, gradients and other intermediate results)',
      f'data set      up to {most:,} more, {bytes_each:,} bytes an image; a larger one stays on disk',
    ]
  )


def table(network: Network) -> str:
  """Returns a text table of a network's layers, with the batch size left open, and the totals."""
  rows = network.layers
  cells = [
    (
      f'{row.name} ({row.kind})',
      f'({", ".join(["batch", *map(str, row.shape[1:])])})',
      f'{row.parameters + row.statistics:,}',
    )
    for row in rows
  ]
  header = (f'{network.name}: layer (type)', 'output shape', 'parameters')
  widths = [max(len(row[i]) for row in [header, *cells]) for i in range(3)]
  lines = [f'{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}' for a, b, c in [header, *cells]]
  trained, statistics = network.parameters, sum(row.statistics for row in rows)
  rule = '-' * len(lines[0])
  totals = [
    f'total       {trained + statistics:>12,}',
    f'trainable   {trained:>12,}',
    f'statistics  {statistics:>12,}  (running means and variances of batch norm)',
  ]
  return '\n'.join([lines[0], rule, *lines[1:], rule, *totals])


def layers(module: nn.Module, x: jax.ShapeDtypeStruct) -> list[Layer]:
  """Returns the layers of a network in the order of their calls; nothing is computed.

  Args:
    module: The network.
    x: Shape and dtype of its input.
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
  """Returns the number of elements of all arrays in a tree."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
