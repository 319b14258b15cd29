"""Compares the exports of all presets, and of trained runs, to the original networks.

python benchmarks/exports.py
python benchmarks/exports.py --presets=svhn,mnist --workdir=runs/mnist,runs/svhn

The networks of a preset have random weights and statistics of realistic size, and process four images. A row
has the largest difference of an image, in [-1, 1], and of a logit, relative to the largest logit: in
onnxruntime, in PyTorch if its example can represent the network, from StableHLO in a process that imports
only JAX, and from safetensors. A row of a run has the largest difference of a pixel, 0 to 255, over 256
images of `--mode=sample`, and the fraction of values that differ. The status is 1 if an image of a preset
differs by more than 1e-4, or a pixel by more than 1.
"""

import argparse
import importlib
import json
import math
import pkgutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from dcgan_jax import settings
from dcgan_jax.core.models import Discriminator, Generator, to_pixels
from dcgan_jax.core.train_state import Gan
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.settings import Settings
from dcgan_jax.trained.interop import exporting

MOST = 1e-4  # maximum difference of an image
# Runs an exported program on the arrays of another file, and reports whether our package was imported.
JAX_ALONE = """
import sys, numpy, jax
from jax import export
program = export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))
numpy.save(sys.argv[3], program.call(*numpy.load(sys.argv[2]).values()))
assert not {'dcgan_jax', 'flax'} & set(sys.modules)
"""


def random_networks(chosen: Settings) -> tuple[Gan, dict[str, Any]]:
  """Returns the networks of a run with random parameters and statistics of realistic size.

  Kernels about preserve the variance of their input, and no variable is left at 0 or 1.

  Returns:
    The networks; and the variables of 'generator' and 'discriminator', float32.
  """
  parts = experiment.build(chosen)
  state = parts.shapes
  filled = {}
  for kind, net in (('generator', state.generator), ('discriminator', state.discriminator)):
    upsample = chosen.generator.upsample if kind == 'generator' else ''

    def random(path: Any, x: jax.ShapeDtypeStruct, upsample: str = upsample) -> np.ndarray:
      return _random(jax.tree_util.keystr(path), x.shape, upsample)

    filled[kind] = jax.tree_util.tree_map_with_path(random, net.variables)
  return parts.gan, filled


def _random(name: str, shape: tuple[int, ...], upsample: str) -> np.ndarray:
  """Returns a random array, a function of its name; `upsample` is that of the convolutions, '' for none."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith("['kernel']"):
    inputs: float = math.prod(shape[:-1])
    if upsample in ('transposed', 'filtered') and len(shape) == 4:
      inputs = shape[0] * shape[1] * shape[3]
      if upsample == 'transposed':  # With strides of 2, each output sees a quarter of the kernel.
        inputs /= 4
    return rng.normal(0, (2 / inputs) ** 0.5, shape).astype(np.float32)
  if name.endswith(("['var']", "['scale']")):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return rng.normal(0, 0.3, shape).astype(np.float32)


def random_latents(gan: Gan, num: int) -> np.ndarray:
  """Returns normal latents, with classes followed by weights that are not one-hot, float32 [num, width]."""
  rng = np.random.default_rng(0)
  z = rng.normal(size=(num, gan.latents.size))
  weights = rng.dirichlet(np.ones(gan.latents.classes), num) if gan.latents.classes else np.zeros((num, 0))
  return np.concatenate([z, weights], 1).astype(np.float32)


def in_onnxruntime(path: Path, network: exporting.Exported, *inputs: np.ndarray) -> np.ndarray:
  """Runs an ONNX file."""
  import onnxruntime

  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  named = {argument.name: x for argument, x in zip(session.get_inputs(), inputs)}
  return session.run(None, named)[0]


def in_jax_alone(path: Path, network: exporting.Exported, *inputs: np.ndarray) -> np.ndarray:
  """Runs a StableHLO file in a process that imports JAX and nothing of ours."""
  given, made = path.with_suffix('.npz'), path.with_suffix('.npy')
  np.savez(given, *inputs)
  subprocess.run([sys.executable, '-c', JAX_ALONE, path, given, made], cwd=path.parent, check=True)
  return np.load(made)


def from_safetensors(path: Path, network: exporting.Exported, *inputs: np.ndarray) -> np.ndarray:
  """Builds the module from the header, and runs it with the arrays of the file."""
  import safetensors
  from flax import traverse_util

  with safetensors.safe_open(path, 'np') as file:
    about = {name: json.loads(text) for name, text in file.metadata().items()}
    flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
  modules: dict[str, type] = {'generator': Generator, 'discriminator': Discriminator}
  return in_ours(
    modules[about['network']](**about['architecture']), traverse_util.unflatten_dict(flat, sep='.'), *inputs
  )


def in_pytorch(path: Path, network: exporting.Exported, *inputs: np.ndarray) -> np.ndarray:
  """Runs a state dict in the modules of PyTorch's example."""
  import torch
  from torch import nn

  module, weights = network.module, torch.load(path, weights_only=True)
  kernels = [name for name, weight in weights.items() if weight.ndim == 4]
  is_generator = isinstance(module, Generator)
  layers: list[nn.Module] = []
  for name in kernels:
    ends, size = weights[name].shape[:2], weights[name].shape[2:]
    inner = (2, 1) if name != kernels[0 if is_generator else -1] else (1, 0)  # stride and padding
    bias = name.replace('weight', 'bias') in weights
    kind: Any = nn.ConvTranspose2d if is_generator else nn.Conv2d
    layers.append(kind(*(ends if is_generator else reversed(ends)), tuple(size), *inner, bias=bias))
    if f'main.{len(layers)}.running_var' in weights:
      layers.append(nn.BatchNorm2d(weights[f'main.{len(layers)}.running_var'].numel(), module.norm_epsilon))
    layers.append(nn.LeakyReLU(module.leak))
  layers[-1] = nn.Tanh() if is_generator else nn.Flatten(0)
  net = nn.ModuleDict({'main': nn.Sequential(*layers)}).eval()
  net.load_state_dict(weights)
  x = inputs[0][:, :, None, None] if is_generator else inputs[0].transpose(0, 3, 1, 2)
  with torch.no_grad():
    made = net['main'](torch.tensor(np.ascontiguousarray(x))).numpy()
  return made.transpose(0, 2, 3, 1) if is_generator else made


def in_ours(module: Generator | Discriminator, variables: Any, *inputs: np.ndarray) -> np.ndarray:
  """Returns the images or logits of our network."""
  made: Any = jax.jit(module.apply)(variables, *inputs)
  return np.asarray(made if isinstance(module, Generator) else made[0])


RUNNERS: dict[str, Callable[..., np.ndarray]] = {
  'onnx': in_onnxruntime,
  'pytorch': in_pytorch,
  'stablehlo': in_jax_alone,
  'safetensors': from_safetensors,
}


def exported(gan: Gan, variables: Any, kind: str, chosen: Settings) -> exporting.Exported:
  """Returns a network of a preset in the form that `exporting` takes."""
  module, shape = getattr(gan, kind), (*chosen.data.size, chosen.data.channels)
  about = {'network': kind, 'architecture': exporting.architecture(module)}
  return exporting.Exported(module.clone(dtype='float32'), variables[kind], gan.latents, shape, 0, about)


def outputs(network: exporting.Exported, *inputs: np.ndarray) -> dict[str, np.ndarray | None]:
  """Returns the output of a network in each format; None if the format does not support it."""
  made: dict[str, np.ndarray | None] = {}
  with tempfile.TemporaryDirectory() as folder:
    for name, run in RUNNERS.items():
      path = Path(folder) / f'network{exporting.FORMATS[name].suffix}'
      try:
        path.write_bytes(exporting.FORMATS[name].serialize(network))
        made[name] = run(path, network, *inputs)
      except InputError:
        made[name] = None
  return made


def differences(made: dict[str, np.ndarray | None], want: np.ndarray) -> dict[str, float | None]:
  """Returns the largest difference in each format."""
  return {name: None if x is None else float(np.abs(x - want).max()) for name, x in made.items()}


def compare_preset(name: str) -> bool:
  """Prints the row of a preset; returns whether all images are within `MOST`."""
  config = importlib.import_module(f'configs.{name}').get_config()
  if config.data.source in ('folder:', 'digits'):
    config.data.source = 'folder:anywhere'  # a placeholder that allows any number of channels
  chosen = settings.check(config)
  gan, variables = random_networks(chosen)
  z = random_latents(gan, 4)
  images = in_ours(gan.generator, variables['generator'], z)
  of_images = differences(outputs(exported(gan, variables, 'generator', chosen), z), images)
  given = [images, *([np.eye(gan.latents.classes, dtype=np.float32)[:4]] if gan.latents.classes else [])]
  logits = in_ours(gan.discriminator, variables['discriminator'], *given)
  made = outputs(exported(gan, variables, 'discriminator', chosen), *given)
  largest = np.abs(logits).max()
  of_logits = differences(
    {name: None if x is None else x / largest for name, x in made.items()}, logits / largest
  )
  print_row(name, [*of_images.values(), *of_logits.values()])
  return max(error for error in of_images.values() if error is not None) <= MOST


def compare_run(folder: Path) -> bool:
  """Prints the row of a trained run; returns whether no pixel differs by more than 1."""
  trained = experiment.open_run(folder, 'last')
  sampler = sampling.sampler_of(trained)
  z = sampler.latents.draw(0, 256)
  want, cells, largest = sampler.from_latents(z).astype(np.int64), [], 0
  for images in outputs(exporting.network_of(trained, 'generator'), z).values():
    if images is None:
      cells.append('-')
      continue
    apart = np.abs(np.asarray(to_pixels(jax.numpy.asarray(images)), np.int64) - want)
    largest = max(largest, apart.max())
    cells.append(f'{apart.max()} ({(apart > 0).mean():.4%})')
  print(f'| {folder.name} | {" | ".join(cells)} |', flush=True)
  return largest <= 1


def print_row(name: str, errors: list[float | None]) -> None:
  """Prints a table row."""
  cells = ['-' if error is None else f'{error:.0e}' if error % 1 else f'{error:.0f}' for error in errors]
  print(f'| {name} | {" | ".join(cells)} |', flush=True)


def print_head(*columns: str) -> None:
  """Prints a table header."""
  print(f'| {" | ".join(columns)} |\n|{"---|" * len(columns)}', flush=True)


def main() -> int:
  """Prints the tables; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  presets = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parents[1] / 'configs')]))
  parser.add_argument('--presets', default=','.join(presets), help="names with commas between; '' for none")
  parser.add_argument('--workdir', default='', help='trained runs, with commas between')
  arguments = parser.parse_args()
  good = []
  if arguments.presets:
    print_head('preset', *(f'{kind}: {name}' for kind in ('G', 'D') for name in RUNNERS))
    good += [compare_preset(name) for name in arguments.presets.split(',')]
  if arguments.workdir:
    print_head('run', *RUNNERS)
    good += [compare_run(Path(folder)) for folder in arguments.workdir.split(',')]
  return int(not all(good))


if __name__ == '__main__':
  sys.exit(main())
