"""`--mode=summary`: the layers of both networks, their shapes and parameter counts."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from dcgan_jax import cache, programs
from dcgan_jax.commands import build, validation


def run(config: ConfigDict) -> None:
  """Prints a table for each network, and the memory that a train step takes; nothing is computed.

  Args:
    config: validated.

  Raises:
    InputError: in one line, the devices cannot share a batch.
  """
  validation.check_devices(config, jax.device_count())
  generator, discriminator = build.networks(config)
  z = jax.ShapeDtypeStruct((1, config.latent.size), jnp.float32)
  shape = (1, *validation.image_size(config), config.data.channels)
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  print(table('Generator', generator, z))
  print()
  print(table('Discriminator', discriminator, images))
  print()
  print(memory(config))


def memory(config: ConfigDict) -> str:
  """What a train step takes of each device's memory, by XLA's analysis of the compiled program."""
  cache.keep_compiled_programs()
  mesh, (height, width) = programs.all_devices(), validation.image_size(config)
  count = config.train.batch_size * config.train.d_steps
  shape, own = (height, width, config.data.channels), count // mesh.size
  state = jax.eval_shape(build.initial_state(config))
  batches = programs.Batches(None, jax.ShapeDtypeStruct((1, count, *shape), jnp.uint8))
  step = programs.compile_steps(build.train_step(config, programs.mesh_axis(mesh)), mesh)
  analysis = step.lower(state, batches).compile().memory_analysis()
  size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  if analysis is None:
    return f'Memory of a train step: unknown to XLA for {jax.default_backend()}'
  # the state is given to the next one: its buffers count once, as arguments
  total = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
  total += analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  devices = f'{mesh.size} {jax.default_backend()} device{"s" * (mesh.size > 1)}'
  return '\n'.join(
    [
      f'Memory of a train step: {count} images on {devices}, {own} on each, in MiB of each device',
      f"state         {size / 2**20:10,.1f}  (parameters, Adam's averages, statistics)",
      f'whole step    {total / 2**20:10,.1f}  (with activations, gradients and what they take on the way)',
      f'data set      up to {config.data.memory_limit:,} more, {math.prod(shape):,} bytes an image; a larger '
      'one is streamed',
    ]
  )


def layers(module: nn.Module, x: jax.ShapeDtypeStruct) -> list[tuple[str, str, tuple[int, ...], int, int]]:
  """(name, type, output shape, trainable parameters, batch-norm statistics) of each layer, in order."""

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
  return [
    (
      name,
      kind,
      shape,
      _size(variables['params'].get(name)),
      _size(variables.get('batch_stats', {}).get(name)),
    )
    for name, kind, shape in rows
  ]


def table(title: str, module: nn.Module, x: jax.ShapeDtypeStruct) -> str:
  """A text table of the layers, the batch size left open, and the totals."""
  rows = layers(module, x)
  cells = [
    (f'{name} ({kind})', f'({", ".join(["batch", *map(str, shape[1:])])})', f'{trained + statistics:,}')
    for name, kind, shape, trained, statistics in rows
  ]
  header = (f'{title}: layer (type)', 'output shape', 'parameters')
  widths = [max(len(row[i]) for row in [header, *cells]) for i in range(3)]
  lines = [f'{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}' for a, b, c in [header, *cells]]
  trained, statistics = sum(row[3] for row in rows), sum(row[4] for row in rows)
  rule = '-' * len(lines[0])
  totals = [
    f'total       {trained + statistics:>12,}',
    f'trainable   {trained:>12,}',
    f'statistics  {statistics:>12,}  (running means and variances of batch norm)',
  ]
  return '\n'.join([lines[0], rule, *lines[1:], rule, *totals])


def _size(tree: Any) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
