"""`--mode=import`: weights that others trained, as a run of step 0 on which every verb works."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from dcgan_jax import cache, checkpoints, conv, foreign, images, latents, norm_statistics, torch_files
from dcgan_jax.commands import build, validation, workdir
from dcgan_jax.commands.sample import Sampler
from dcgan_jax.errors import InputError
from dcgan_jax.foreign import Network
from dcgan_jax.state import GanState, NetState

SAMPLES = 10_000  # from which batch-norm statistics are taken that the original does not have
BATCH_SIZE = 100  # of them, at a time


def run(config: ConfigDict, folder: Path, file_format: str, source: str) -> None:
  """Writes config.json, a checkpoint of step 0 and its picture.

  Where the original has no running statistics of batch norm, they are those of 10,000 latents for the
  generator, and of its images for the discriminator: no data need be at hand.

  Args:
    config: validated; what the weights tell (architecture, sizes, epsilon) replaces its settings.
    folder: the workdir, without a run.
    file_format: 'pytorch' | 'newmu', see `foreign`.
    source: PATH of a generator's file, or PATH,PATH with a discriminator's, in any order; for newmu, the
      folder of the arrays.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  _check_free(folder)
  networks = {'pytorch': _read_pytorch, 'newmu': _read_newmu}[file_format](source)
  config = _adopt(config, networks, source)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'workdir={folder}: cannot be written: {error.strerror}') from error
  cache.keep_compiled_programs()
  state = jax.jit(build.initial_state(config))()
  state = _with_weights(config, state, networks)
  generator, _ = build.networks(config)
  sampler = Sampler(generator, state.sampling_variables, 0, config.latent.size, config.latent.prior)
  picture = images.grid(sampler.sample(config.sample.num, config.seed))
  workdir.write_config(folder, config)
  with checkpoints.open_for_writing(folder / 'checkpoints', config.checkpoint.keep) as saver:
    checkpoints.save(saver, state)
  images.save_png(workdir.sample(folder, 0), picture)
  print(f'{folder}: imported as step 0; look at {workdir.sample(folder, 0)}')


def _check_free(folder: Path) -> None:
  if folder.exists() and not folder.is_dir():
    raise InputError(f'workdir={folder}: is a file; choose a folder')
  if (folder / 'config.json').exists() or (folder / 'checkpoints').exists():
    raise InputError(f'workdir={folder}: holds a run already; choose another --workdir')


def _read_pytorch(source: str) -> dict[str, Network]:
  """The networks of one file or two, by kind."""
  networks: dict[str, Network] = {}
  for name in source.split(','):
    path = Path(name).expanduser()
    if path.is_dir():
      raise InputError(f'source={name}: is a folder; format=pytorch takes files, format=newmu a folder')
    tensors = torch_files.read(path)
    try:
      network = foreign.from_pytorch(tensors)
    except InputError as error:
      raise InputError(f'source={name}: {error}') from error
    if network.kind in networks:
      raise InputError(f'source={source}: both are a {network.kind}; give one and the other network')
    networks[network.kind] = network
  if 'generator' not in networks:
    raise InputError(f'source={source}: is a discriminator; give its generator too, --source=PATH,PATH')
  return networks


def _read_newmu(source: str) -> dict[str, Network]:
  """The networks of the folder, by kind."""
  try:
    arrays = foreign.read_newmu(Path(source).expanduser())
    kinds = {'gen': 'generator', 'discrim': 'discriminator'}
    return {kinds[name]: foreign.from_newmu(arrays[name], kinds[name]) for name in arrays}
  except InputError as error:
    raise InputError(f'source={source}: {error}') from error


def _adopt(config: ConfigDict, networks: dict[str, Network], source: str) -> ConfigDict:
  """The config with what the weights tell; prints that."""
  config = config.copy_and_resolve_references()
  generator = networks['generator']
  for kind, network in networks.items():
    if _images(network) != _images(generator):
      raise InputError(
        f'source={source}: the generator makes images of {_images(generator)} pixels and channels, the '
        f'discriminator takes {_images(network)}'
      )
    config[kind].update(network.settings)
  config.latent.size = generator.z_size
  config.data.image_size, config.data.channels = generator.image_size, generator.channels
  try:
    validation.check(config)
  except InputError as error:
    raise InputError(f'source={source}: does not go with the config: {error}') from error
  print(f'images {_images(generator)}, latents of {generator.z_size} numbers, prior {config.latent.prior}')
  for kind in ('generator', 'discriminator'):
    print(f'{kind}: {_describe(networks[kind]) if kind in networks else "none there; a new one, untrained"}')
  return config


def _images(network: Network) -> str:
  return f'{network.image_size[0]}x{network.image_size[1]}x{network.channels}'


def _describe(network: Network) -> str:
  settings, size = network.settings, network.settings['kernel_size']
  norms = [name for name in network.params if name.startswith('norm')]
  statistics = 'as stored there'
  if len(network.batch_stats) < len(norms):
    statistics = f'of {SAMPLES:,} samples, since none are stored there'
  return (
    f'widths {", ".join(map(str, settings["widths"]))}, kernels {size}x{size}, '
    f'{"" if settings["use_bias"] else "no "}biases, batch-norm statistics {statistics}'
  )


def _with_weights(config: ConfigDict, state: GanState, networks: dict[str, Network]) -> GanState:
  """The initial state with the imported parameters and statistics; Adam's averages stay new."""
  generator, discriminator = (module.clone(dtype='float32') for module in build.networks(config))

  def z() -> Iterator[jax.Array]:
    for indices in jnp.arange(SAMPLES).reshape(-1, BATCH_SIZE):
      yield latents.sample(jax.random.key(config.seed), indices, config.latent.size, config.latent.prior)

  def generated() -> Iterator[jax.Array]:
    return (make(made.variables, x) for x in z())

  make = jax.jit(generator.apply, compiler_options=conv.compiler_options())
  made = _filled(generator, state.generator, networks['generator'], z)
  judge = state.discriminator
  if 'discriminator' in networks:
    judge = _filled(discriminator, judge, networks['discriminator'], generated)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, made.variables)
  return dataclasses.replace(state, generator=made, discriminator=judge, ema=ema)


def _filled(
  module: nn.Module, net: NetState, network: Network, batches: Callable[[], Iterator[jax.Array]]
) -> NetState:
  """A network with the weights of another, and statistics of what is fed to it where that has none."""
  stats = norm_statistics.estimate(module, network.params, network.batch_stats, batches)
  params, stats = jax.tree.map(jnp.asarray, (network.params, stats))
  return dataclasses.replace(net, params=params, batch_stats=stats)
