"""Writes the networks of a run in the formats of other projects."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dcgan_jax import files
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.files import torch_files
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.interop import onnx, pytorch, safetensors, stablehlo

# What a run chooses and a network in evaluation is not changed by.
LEFT_OUT = ('parent', 'name', 'fast_conv', 'axis_name', 'sync_norm', 'dtype')
PYTORCHS = {'generator': 'netG', 'discriminator': 'netD'}  # names of the example's files


class Exported(NamedTuple):
  """A trained network, as all formats take it.

  Attributes:
    module: the network, which computes in float32 whatever the run did.
    variables: its parameters and the batch-norm statistics that were asked for, as NumPy arrays.
    latents: size and prior of z, and how many classes there are.
    image_shape: height, width and channels.
    step: of training.
    about: what else a file should tell, see `describe`.
  """

  module: Generator | Discriminator
  variables: Any
  latents: Latents
  image_shape: tuple[int, int, int]
  step: int
  about: dict[str, Any]

  @property
  def metadata(self) -> dict[str, str]:
    """What a file should tell, as names and JSON."""
    return {name: json.dumps(value) for name, value in self.about.items()}


class Format(NamedTuple):
  """How a network becomes a file.

  Attributes:
    suffix: of the file's name.
    serialize: returns the content of the file.
    library: imports what it needs, or raises an InputError.
    check: raises an InputError for a network that the format cannot have.
  """

  suffix: str
  serialize: Callable[[Exported], bytes]
  library: Callable[[], Any] = lambda: None
  check: Callable[[Generator | Discriminator], None] = lambda module: None


class Asked(NamedTuple):
  """What a user wants to have exported.

  Attributes:
    file_format: a key of FORMATS.
    out: a file; for 'pytorch' also a folder; None for a file in the current folder.
    network: 'generator' | 'discriminator'; None for the generator, or both if `out` is a folder.
    statistics: of G's batch norm: 'stored' | 'population', see `Sampler.from_latents`; None as the run says.
  """

  file_format: str
  out: str | None
  network: str | None
  statistics: str | None


def run(folder: Path, checkpoint: str, asked: Asked) -> None:
  """Writes one network of a run to a file, or both to a folder.

  Args:
    folder: the workdir.
    checkpoint: 'last', 'best' or the number of a step.
    asked: what and where.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  chosen, targets = FORMATS[asked.file_format], _targets(asked)
  if asked.statistics == 'population' and 'generator' not in targets:
    raise InputError(
      "statistics=population: are of latents through the generator; the discriminator's are the stored ones"
    )
  chosen.library()
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  for kind in targets:
    chosen.check(getattr(trained.experiment.gan, kind))
  networks = {kind: network_of(trained, folder, kind, asked.statistics) for kind in targets}
  contents = {kind: chosen.serialize(network) for kind, network in networks.items()}
  for kind, content in contents.items():
    _write(targets[kind], content)
    print(f'{targets[kind]}: {_described(networks[kind])}; {len(content) / 1e6:.2f} MB')
    if asked.file_format == 'pytorch' and (told := pytorch.beyond_the_file(networks[kind].module)):
      print(f"{targets[kind]}: differs from PyTorch's example by {', '.join(told)}")


def network_of(
  trained: experiment.TrainedRun, folder: Path, kind: str, statistics: str | None = None
) -> Exported:
  """Returns a network of a run as it is exported: the generator's moving average, where there is one.

  Args:
    trained: the run and its checkpoint.
    folder: its workdir.
    kind: 'generator' | 'discriminator'.
    statistics: of the generator's batch norm, 'stored' | 'population'; None takes those that the run says.
  """
  gan, settings = trained.experiment.gan, trained.experiment.settings
  sampler = sampling.of_run(trained, folder)
  if kind == 'generator':
    module: Generator | Discriminator = gan.generator
    statistics = statistics or sampler.statistics
    variables = sampler.variables(statistics)
  else:
    module, variables, statistics = gan.discriminator, trained.state.discriminator.variables, 'stored'
  about = {
    'network': kind,
    'architecture': architecture(module),
    'latents': dataclasses.asdict(gan.latents),
    'image_shape': (*settings.data.size, settings.data.channels),
    'pixels': dataclasses.asdict(gan.pixels),
    'classes': sampler.classes,
    'run': folder.resolve().name,
    'step': trained.step,
    'statistics': statistics,
    'moving_average': kind == 'generator' and trained.state.ema is not None,
  }
  return Exported(
    module.clone(dtype='float32'),
    jax.tree.map(np.asarray, variables),
    gan.latents,
    (*settings.data.size, settings.data.channels),
    trained.step,
    about,
  )


def architecture(module: Generator | Discriminator) -> dict[str, Any]:
  """Returns the arguments that a network is made again with."""
  names = [field.name for field in dataclasses.fields(module) if field.name not in LEFT_OUT]
  return {name: getattr(module, name) for name in names}


def _targets(asked: Asked) -> dict[str, Path]:
  """Returns the file of each network that is asked for, by kind.

  Raises:
    InputError: there can be no such file.
  """
  suffix, kind = FORMATS[asked.file_format].suffix, asked.network or 'generator'
  is_pytorch = asked.file_format == 'pytorch'
  if asked.out is None:
    return {kind: Path((PYTORCHS[kind] if is_pytorch else kind) + suffix)}
  target = files.to_be_written('out', asked.out)
  if is_pytorch and (target.is_dir() or not target.suffix):
    if target.exists() and not target.is_dir():
      raise InputError(f'out={asked.out}: is a file; choose a folder or a name that ends in {suffix}')
    kinds = [asked.network] if asked.network else list(PYTORCHS)
    return {kind: target / f'{PYTORCHS[kind]}{suffix}' for kind in kinds}
  if target.is_dir():
    raise InputError(
      f'out={asked.out}: is a folder; format={asked.file_format} writes a file, {kind}{suffix}'
    )
  if target.suffix != suffix:
    raise InputError(f'out={asked.out}: must end in {suffix}, for format={asked.file_format}')
  return {kind: target}


def _write(target: Path, content: bytes) -> None:
  """Writes a file, whole or not at all.

  Raises:
    InputError: it cannot be written.
  """
  try:
    with files.whole(target) as part:
      part.write_bytes(content)
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}; choose another --out') from error


def _described(network: Exported) -> str:
  """Returns in one line what a file has in it, what that takes and what it gives."""
  about, latents, shape = network.about, network.latents, ', '.join(map(str, network.image_shape))
  source = f'the {about["network"]} of step {network.step}'
  if about['network'] == 'discriminator':
    return f'{source}, which judges images [N, {shape}] in [-1, 1]'
  average = 'moving average, ' if about['moving_average'] else ''
  classes = f' and the weights of {latents.classes} classes' if latents.classes else ''
  return (
    f'{source} ({average}{about["statistics"]} statistics), which makes images [N, {shape}] in [-1, 1] of '
    f'z [N, {latents.width}]: {latents.size} {latents.prior} numbers{classes}'
  )


def _onnx(network: Exported) -> bytes:
  module, variables, metadata = network.module, network.variables, network.metadata
  if isinstance(module, Generator):
    return onnx.generator_bytes(module, variables, network.latents.width, metadata=metadata)
  return onnx.discriminator_bytes(module, variables, network.image_shape, metadata=metadata)


def _stablehlo(network: Exported) -> bytes:
  if isinstance(network.module, Generator):
    return stablehlo.generator_bytes(network.module, network.variables, network.latents.width)
  return stablehlo.discriminator_bytes(network.module, network.variables, network.image_shape)


def _safetensors(network: Exported) -> bytes:
  return safetensors.to_bytes(network.variables, network.metadata)


def _pytorch(network: Exported) -> bytes:
  size, kind = network.image_shape[:2], network.about['network']
  tensors = pytorch.to_pytorch(network.module, network.variables, size, network.step)
  return torch_files.to_bytes(tensors, PYTORCHS[kind])


FORMATS = {
  'onnx': Format('.onnx', _onnx, onnx.library),
  'stablehlo': Format('.stablehlo', _stablehlo),
  'safetensors': Format('.safetensors', _safetensors, safetensors.library),
  'pytorch': Format('.pth', _pytorch, check=pytorch.check),
}
