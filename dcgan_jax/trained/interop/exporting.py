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
from dcgan_jax.files import safetensors, torch_files
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.interop import onnx, pytorch, stablehlo

# Arguments that do not change a network in evaluation.
LEFT_OUT = ('parent', 'name', 'fast_conv', 'axis_name', 'sync_norm', 'dtype')
PYTORCHS = {'generator': 'netG', 'discriminator': 'netD'}  # names of the example's files


class Exported(NamedTuple):
  """A trained network, the input of all formats.

  Attributes:
    module: The network, which computes in float32 whatever the run did.
    variables: Its parameters and the chosen batch-norm statistics, as NumPy arrays.
    latents: Size and prior of z, and the number of classes.
    image_shape: Height, width and channels.
    step: Training step.
    about: Metadata of the file, see `network_of`.
  """

  module: Generator | Discriminator
  variables: Any
  latents: Latents
  image_shape: tuple[int, int, int]
  step: int
  about: dict[str, Any]

  @property
  def metadata(self) -> dict[str, str]:
    """The metadata of a file: names, and values as JSON."""
    return {name: json.dumps(value) for name, value in self.about.items()}


class Format(NamedTuple):
  """A file format for networks.

  Attributes:
    suffix: Suffix of the file's name.
    serialize: Function that returns the content of the file.
    library: Function that imports a required package, or raises an InputError.
    check: Function that raises an InputError for a network that the format cannot represent.
  """

  suffix: str
  serialize: Callable[[Exported], bytes]
  library: Callable[[], Any] = lambda: None
  check: Callable[[Generator | Discriminator], None] = lambda module: None


def run(
  folder: Path,
  checkpoint: str,
  file_format: str,
  out: str | None = None,
  network: str | None = None,
  statistics: str | None = None,
) -> None:
  """Writes one network of a run to a file, or both to a folder.

  Args:
    folder: The workdir.
    checkpoint: 'last', 'best' or the number of a step.
    file_format: A key of FORMATS.
    out: Path of a file; for 'pytorch' also of a folder; None for a file in the current folder.
    network: 'generator' | 'discriminator'; None for the generator, or both if `out` is a folder.
    statistics: G's batch-norm statistics, 'stored' | 'population', see `Sampler.from_latents`; None for the
      run's own.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  chosen, targets = FORMATS[file_format], _targets(file_format, out, network)
  if statistics == 'population' and 'generator' not in targets:
    raise InputError(
      "statistics=population: are of latents through the generator; the discriminator's are the stored ones"
    )
  chosen.library()
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  for kind in targets:
    chosen.check(getattr(trained.experiment.gan, kind))
  networks = {kind: network_of(trained, kind, statistics) for kind in targets}
  contents = {kind: chosen.serialize(network) for kind, network in networks.items()}
  for kind, content in contents.items():
    with files.output('out', targets[kind]):
      files.write_bytes(targets[kind], content)
    print(f'{targets[kind]}: {_described(networks[kind])}; {len(content) / 1e6:.2f} MB')
    if file_format == 'pytorch' and (told := pytorch.beyond_the_file(networks[kind].module)):
      print(f"{targets[kind]}: differs from PyTorch's example by {', '.join(told)}")


def network_of(trained: experiment.TrainedRun, kind: str, statistics: str | None = None) -> Exported:
  """Returns a network of a run for export: of the generator its moving average, if there is one.

  Args:
    trained: The run and its checkpoint.
    kind: 'generator' | 'discriminator'.
    statistics: The generator's batch-norm statistics, 'stored' | 'population'; None for the run's own.
  """
  gan, settings = trained.experiment.gan, trained.experiment.settings
  sampler = sampling.sampler_of(trained)
  if kind == 'generator':
    module: Generator | Discriminator = gan.generator
    statistics = statistics or sampler.statistics
    variables = sampler.variables(statistics)
  else:
    module, variables, statistics = gan.discriminator, trained.discriminator, 'stored'
  about = {
    'network': kind,
    'architecture': architecture(module),
    'latents': dataclasses.asdict(gan.latents),
    'image_shape': (*settings.data.size, settings.data.channels),
    'pixels': dataclasses.asdict(gan.pixels),
    'classes': sampler.classes,
    'run': trained.folder.resolve().name,
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
  """Returns the arguments that build a network."""
  names = [field.name for field in dataclasses.fields(module) if field.name not in LEFT_OUT]
  return {name: getattr(module, name) for name in names}


def _targets(file_format: str, out: str | None, network: str | None) -> dict[str, Path]:
  """Returns the path for each network, by kind.

  Raises:
    InputError: there can be no such file.
  """
  suffix, kind = FORMATS[file_format].suffix, network or 'generator'
  is_pytorch = file_format == 'pytorch'
  if out is None:
    return {kind: Path((PYTORCHS[kind] if is_pytorch else kind) + suffix)}
  target = files.to_be_written('out', out)
  if is_pytorch and (target.is_dir() or not target.suffix):
    if target.exists() and not target.is_dir():
      raise InputError(f'out={out}: is a file; choose a folder or a name that ends in {suffix}')
    kinds = [network] if network else list(PYTORCHS)
    return {kind: target / f'{PYTORCHS[kind]}{suffix}' for kind in kinds}
  if target.is_dir():
    raise InputError(f'out={out}: is a folder; format={file_format} writes a file, {kind}{suffix}')
  if target.suffix != suffix:
    raise InputError(f'out={out}: must end in {suffix}, for format={file_format}')
  return {kind: target}


def _described(network: Exported) -> str:
  """Returns one line about a network, its input and its output."""
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
  'pytorch': Format('.pth', _pytorch, check=pytorch.check_exportable),
}
