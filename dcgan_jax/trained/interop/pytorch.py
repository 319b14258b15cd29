"""State dicts of PyTorch's DCGAN example (pytorch/examples) and of its many relatives.

Any width, any depth and any names will do, since the layers are taken in the order of the file. A generator
has 4x4 transposed convolutions of stride 2 after a first one that makes the base size from a 1x1 input. A
discriminator has 4x4 convolutions of stride 2 and a last one that makes one logit from the base size. Strides
are not in a file, but they must be 2: with stride 1 an even kernel could not keep the size.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.errors import InputError
from dcgan_jax.trained.interop.network import CHANNELS, Layer, Network, Tensor, convert

SETTINGS = {'kernel_size': 4, 'padding': 'same', 'norm_epsilon': 1e-5}
LEAKS = {'generator': 0.0, 'discriminator': 0.2}  # of the example
NORM = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}  # our names, theirs
OTHERS = 'choose --format=onnx, safetensors or stablehlo'  # formats that take any network


def from_pytorch(tensors: Mapping[str, np.ndarray]) -> Network:
  """Returns the network of a state dict.

  Args:
    tensors: Tensors by name, in the order of the layers, as `torch_files.read` returns them.

  Raises:
    InputError: in one line, with the tensor that does not fit.
  """
  layers = list(_layers(tensors))
  if len(layers) < 2:
    raise InputError('is neither a generator nor a discriminator: it has less than two convolutions')
  last = layers[-1].kernel
  if last.array.shape[1] in (1, 3):
    return convert('generator', layers, SETTINGS)
  if last.array.shape[0] == 1:
    return convert('discriminator', layers, SETTINGS)
  # A kernel of a generator is [in, out, ...], and that of a discriminator [out, in, ...].
  if last.array.shape[1] in CHANNELS and layers[-2].kernel.array.shape[1] == last.array.shape[0]:
    return convert('generator', layers, SETTINGS)
  raise InputError(
    f'is neither a generator nor a discriminator: its last kernel, {last.name}, has shape '
    f"{last.array.shape}; a generator's ends in the channels of its images, {CHANNELS[-1]} at most, a "
    "discriminator's in a logit, (1, *, *, *)"
  )


def _layers(tensors: Mapping[str, np.ndarray]) -> Iterator[Layer]:
  """Yields the convolutions with their batch norms.

  Raises:
    InputError: a tensor is part of neither.
  """
  layer = None
  for parts in _modules(tensors):
    # Convolutions and batch norms differ in the number of axes of 'weight'.
    weight = parts.get('weight', next(iter(parts.values())))
    is_conv = weight.array.ndim == 4 and parts.keys() - {'bias'} == {'weight'}
    statistics = {'running_mean', 'running_var'}
    is_norm = weight.array.ndim == 1 and parts.keys() - statistics == {'weight', 'bias'}
    if not is_conv and not (is_norm and layer and not layer.norm and len(parts) in (2, 4)):
      raise InputError(
        f'{weight.name}, of shape {weight.array.shape}, is not of a DCGAN, whose file has convolutions, each '
        'followed by its batch norm or by none'
      )
    if is_conv:
      if layer:
        yield layer
      layer = Layer(weight, parts.get('bias'), {})
    elif layer:
      layer = layer._replace(norm={ours: parts[theirs] for ours, theirs in NORM.items() if theirs in parts})
  if layer:
    yield layer


def _modules(tensors: Mapping[str, np.ndarray]) -> list[dict[str, Tensor]]:
  """Returns the tensors of each PyTorch module, by the last part of their names."""
  modules: dict[str, dict[str, Tensor]] = {}
  for name, array in tensors.items():
    module, _, part = name.rpartition('.')
    if part != 'num_batches_tracked':
      modules.setdefault(module, {})[part] = Tensor(name, array)
  return list(modules.values())


def to_pytorch(
  module: Generator | Discriminator, variables: Mapping[str, Any], image_size: tuple[int, int], step: int
) -> dict[str, np.ndarray]:
  """Returns a network as the state dict of PyTorch's example, whose modules are numbered within main.

  Each convolution is followed by its batch norm, if any, and by its activation.

  Args:
    module: The network.
    variables: 'params' and 'batch_stats' of the network.
    image_size: Height and width in pixels.
    step: Batch count of PyTorch's batch norm.

  Returns:
    Tensors by name, in the order of the layers: float32, and int64 for that number.

  Raises:
    InputError: the example cannot represent such a network.
  """
  is_generator = isinstance(module, Generator)
  check_exportable(module)
  base = [size // math.prod(module.strides) for size in image_size]
  names = [f'conv{i}' for i in range(1, 1 + len(module.strides))]
  names.insert(0 if is_generator else len(names), 'dense')
  norms = {layer: norm for norm, layer in module.norms}
  tensors, place = {}, 0
  for name in names:
    params = variables['params'][name]
    kernel = np.asarray(params['kernel'])
    if name == 'dense':  # as the equivalent convolution of the base size, in our layout
      kernel = kernel.reshape(-1, *base, module.widths[0]) if is_generator else kernel.reshape(*base, -1, 1)
      kernel = kernel.transpose(1, 2, 3, 0) if is_generator else kernel
    tensors[f'main.{place}.weight'] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    if 'bias' in params:
      tensors[f'main.{place}.bias'] = np.asarray(params['bias'])
    if name in norms:
      place += 1
      stats = variables['batch_stats'][norms[name]]
      identity = {'scale': np.ones_like(stats['mean']), 'bias': np.zeros_like(stats['mean'])}
      both = variables['params'].get(norms[name], identity) | stats
      for ours, theirs in NORM.items():
        tensors[f'main.{place}.{theirs}'] = np.asarray(both[ours])
      tensors[f'main.{place}.num_batches_tracked'] = np.asarray(step, np.int64)
    place += 2  # beyond the activation
  return tensors


def check_exportable(module: Generator | Discriminator) -> None:
  """Refuses a network that PyTorch's example cannot represent, whatever its widths and depths.

  Raises:
    InputError: in one line, with the unsupported setting.
  """
  allowed: dict[str, Any] = {'kernel_size': 4, 'strides': (2,) * len(module.strides), 'dense_widths': ()}
  if isinstance(module, Generator):
    kind, allowed = 'generator', allowed | {'upsample': 'transposed'}
    if module.norm[0] or module.use_bias:
      allowed['dense_norm'] = 'channel'
  else:
    kind, allowed = 'discriminator', allowed | {'packing': 1, 'spectral_norm': False}
  if module.classes:
    raise InputError(f"data.classes={module.classes}: PyTorch's example has no classes; {OTHERS}")
  for name, value in allowed.items():
    if getattr(module, name) != value:
      raise InputError(f"{kind}.{name}={getattr(module, name)}: PyTorch's example has {value} only; {OTHERS}")


def beyond_the_file(module: Generator | Discriminator) -> list[str]:
  """Returns the arguments of PyTorch's modules that differ from the example and are not in the file."""
  told = []
  if module.leak != LEAKS['generator' if isinstance(module, Generator) else 'discriminator']:
    told.append(f'nn.LeakyReLU({module.leak})' if module.leak else 'nn.ReLU()')
  if any(module.norm) and module.norm_epsilon != SETTINGS['norm_epsilon']:
    told.append(f'nn.BatchNorm2d(..., eps={module.norm_epsilon})')
  if module.use_bias:
    told.append('bias=True')
  return told
