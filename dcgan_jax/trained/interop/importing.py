"""Imports weights that others trained as a run of step 0, which every mode can use."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from dcgan_jax import files
from dcgan_jax.core import compiling, norm_statistics, transfer
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.train_state import Gan, GanState, PyTree
from dcgan_jax.data import cache
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.files import torch_files
from dcgan_jax.media import pictures
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.runs import experiment
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.settings import Settings, from_dict
from dcgan_jax.trained.interop import newmu, pytorch
from dcgan_jax.trained.interop.network import Network


def run(settings: Settings, folder: Path, file_format: str, source: str) -> None:
  """Writes config.json, a checkpoint of step 0 and its picture.

  Batch-norm statistics that the files lack are measured: the generator's on 10,000 latents, the
  discriminator's on the images of these. So no data is needed.

  Args:
    settings: Settings of the run; those that the weights determine (architecture, sizes, epsilon) are
      replaced.
    folder: The workdir, without a run.
    file_format: 'pytorch' | 'newmu', see the modules of these names.
    source: PATH of a generator's file, or PATH,PATH with a discriminator's, in any order; for newmu, the
      folder of the arrays.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  _check_free(folder)
  processes.devices()  # It refuses a machine without devices in one line.
  networks = {'pytorch': _read_pytorch, 'newmu': _read_newmu}[file_format](source)
  settings = _adopt(settings, networks, source)
  with files.output('workdir', folder):
    folder.mkdir(parents=True, exist_ok=True)
  cache.keep_compiled_programs()
  built = experiment.build(settings)
  state = _with_weights(built.gan, settings.seed, built.first_state(), networks)
  picture = Sampler(built.gan, state.sampling_variables).sheet(settings.sample.num, settings.seed)
  workdir.write_settings(folder, settings)
  saver = checkpoints.Saver(folder / 'checkpoints', settings.checkpoint.keep)
  saver.save(state)
  saver.close()
  if saver.problem:
    raise InputError(f'workdir={folder}: {saver.problem}')
  path = workdir.sample(folder, 0)
  path.parent.mkdir(exist_ok=True)
  pictures.save_png(path, picture)
  print(f'{folder}: imported as step 0; look at {path}')


def _check_free(folder: Path) -> None:
  """Refuses a workdir that is a file or holds a run.

  Raises:
    InputError: it does.
  """
  files.check_utf8(folder)
  if folder.exists() and not folder.is_dir():
    raise InputError(f'workdir={folder}: is a file; choose a folder')
  if (folder / 'config.json').exists() or (folder / 'checkpoints').exists():
    raise InputError(f'workdir={folder}: holds a run already; choose another --workdir')


def _read_pytorch(source: str) -> dict[str, Network]:
  """Reads the networks of one file or two, by kind.

  Raises:
    InputError: a file is not a network, or there is no generator.
  """
  networks: dict[str, Network] = {}
  for name in source.split(','):
    path = files.named('source', name)
    if path.is_dir():
      raise InputError(f'source={name}: is a folder; format=pytorch takes files, format=newmu a folder')
    tensors = torch_files.read(path)
    try:
      network = pytorch.from_pytorch(tensors)
    except InputError as error:
      raise InputError(f'source={name}: {error}') from error
    if network.kind in networks:
      raise InputError(f'source={source}: both are a {network.kind}; give one and the other network')
    networks[network.kind] = network
  if 'generator' not in networks:
    raise InputError(f'source={source}: is a discriminator; give its generator too, --source=PATH,PATH')
  return networks


def _read_newmu(source: str) -> dict[str, Network]:
  """Reads the networks of a folder, by kind.

  Raises:
    InputError: there is no such folder, or its arrays are not those of a DCGAN.
  """
  folder = files.named('source', source)
  try:
    arrays = newmu.read_newmu(folder)
    kinds = {'gen': 'generator', 'discrim': 'discriminator'}
    return {kinds[name]: newmu.from_newmu(arrays[name], kinds[name]) for name in arrays}
  except InputError as error:
    raise InputError(f'source={source}: {error}') from error


def _adopt(settings: Settings, networks: dict[str, Network], source: str) -> Settings:
  """Returns the settings with those that the weights determine, and prints them.

  Raises:
    InputError: the networks do not fit each other or the rest of the settings.
  """
  generator = networks['generator']
  values = dataclasses.asdict(settings)
  for kind, network in networks.items():
    if _images(network) != _images(generator):
      raise InputError(
        f'source={source}: the generator makes images of {_images(generator)} pixels and channels, the '
        f'discriminator takes {_images(network)}'
      )
    values[kind] |= network.settings
  values['latent']['size'] = generator.z_size
  values['data'] |= {'image_size': generator.image_size, 'channels': generator.channels, 'classes': 0}
  try:
    adopted = from_dict(values)
  except InputError as error:
    raise InputError(
      f'source={source}: does not go with the config: {error}; or choose another --config'
    ) from error
  print(f'images {_images(generator)}, latents of {generator.z_size} numbers, prior {adopted.latent.prior}')
  for kind in ('generator', 'discriminator'):
    print(f'{kind}: {_describe(networks[kind]) if kind in networks else "none there; a new one, untrained"}')
  return adopted


def _images(network: Network) -> str:
  """Returns the height, width and channels of a network's images as text."""
  return f'{network.image_size[0]}x{network.image_size[1]}x{network.channels}'


def _describe(network: Network) -> str:
  """Returns one line about a network."""
  settings, size = network.settings, network.settings['kernel_size']
  norms = [name for name in network.params if name.startswith('norm')]
  statistics = 'as stored there'
  if len(network.batch_stats) < len(norms):
    statistics = f'of {norm_statistics.SAMPLES:,} samples, since none are stored there'
  return (
    f'widths {", ".join(map(str, settings["widths"]))}, kernels {size}x{size}, '
    f'{"" if settings["use_bias"] else "no "}biases, batch-norm statistics {statistics}'
  )


def _with_weights(gan: Gan, seed: int, state: GanState, networks: dict[str, Network]) -> GanState:
  """Returns a state with imported parameters and statistics.

  Args:
    gan: Networks, optimizers and latents.
    seed: Seed of the latents for missing statistics.
    state: The initial state, whose Adam averages stay.
    networks: Imported networks by kind; a discriminator may be missing.
  """
  # Statistics are measured in full precision, whatever the run computes in.
  generator, discriminator = gan.generator.clone(dtype='float32'), gan.discriminator.clone(dtype='float32')

  def z() -> Iterable[jax.Array]:
    return norm_statistics.population(gan.latents, seed)

  def generated() -> Iterator[jax.Array]:
    return (make(made, x) for x in z())

  make = compiling.jit(generator.apply)
  made = _variables(generator, networks['generator'], z)
  judge = state.discriminator.variables
  if 'discriminator' in networks:
    judge = _variables(discriminator, networks['discriminator'], generated)
  return transfer.with_variables(state, made, judge)


def _variables(
  module: Generator | Discriminator, network: Network, batches: Callable[[], Iterable[jax.Array]]
) -> dict[str, PyTree]:
  """Returns the variables of an imported network; statistics that the file lacks are measured.

  Args:
    module: The network.
    network: The imported network.
    batches: Inputs to measure statistics with, see `norm_statistics.estimate`.
  """
  stats = norm_statistics.estimate(module, network.params, network.batch_stats, batches)
  return jax.tree.map(jnp.asarray, {'params': network.params, 'batch_stats': stats})
