"""State dicts of PyTorch's DCGAN example (pytorch/examples) and of its many relatives.

Any width, any depth and any names will do, since the layers are taken in the order of the file. A generator
has 4x4 transposed convolutions of stride 2 after a first one that makes the base size from a 1x1 input. A
discriminator has 4x4 convolutions of stride 2 and a last one that makes one logit from the base size. Strides
are not in a file, but they must be 2: with stride 1 an even kernel could not keep the size.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from dcgan_jax.errors import InputError
from dcgan_jax.interop.network import CHANNELS, Layer, Network, Tensor, convert

SETTINGS = {'kernel_size': 4, 'padding': 'same', 'norm_epsilon': 1e-5}


def from_pytorch(tensors: Mapping[str, np.ndarray]) -> Network:
  """Returns the network of a state dict.

  Args:
    tensors: by name, in the order of the layers, as `torch_files.read` returns them.

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
    InputError: a tensor belongs to neither.
  """
  layer = None
  for parts in _modules(tensors):
    # The number of axes of 'weight' tells a convolution from a batch norm.
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
      names = {'weight': 'scale', 'bias': 'bias', 'running_mean': 'mean', 'running_var': 'var'}
      layer = layer._replace(norm={names[part]: tensor for part, tensor in parts.items()})
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
