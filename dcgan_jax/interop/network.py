"""Weights of DCGANs that others trained, as variables of ours.

What a file holds is brought into one form, PyTorch's, as a list of layers; their shapes tell the
architecture.

'pytorch': the state dicts of pytorch/examples' DCGAN and its relatives, of any width and depth, by whatever
names, since the layers are taken in the order of the file. G: 4x4 transposed convolutions of stride 2 after
a first one that makes the base size of a 1x1 input. D: 4x4 convolutions of stride 2, and a last one that
makes one logit of the base size. (Strides are not in a file, but with stride 1 an even kernel could not keep
the size.)

'newmu': the arrays of the paper's authors (https://github.com/Newmu/dcgan_code). Dense layers whose units are
ordered channels first; 5x5 kernels of true convolutions, flipped against everybody else's; batch norm of the
dense layer by unit, with epsilon 1e-8 and without running statistics.

Neither says the slopes of the leaky ReLUs: they are the published 0 in G and 0.2 in D.
"""

import itertools
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.errors import InputError

CHANNELS = (1, 3)
SETTINGS: dict[str, dict[str, Any]] = {
  'pytorch': {'kernel_size': 4, 'padding': 'same', 'norm_epsilon': 1e-5},
  'newmu': {'kernel_size': 5, 'padding': 'symmetric', 'norm_epsilon': 1e-8},
}


class Tensor(NamedTuple):
  """An array with its name, for the complaints."""

  name: str
  array: np.ndarray

  def shaped(self, *shape: int | None) -> np.ndarray:
    """The array as float32, if it has this shape, in which None is 1 or more; InputError if not."""
    found = self.array.shape
    if len(found) != len(shape) or any(m != n if n else m < 1 for n, m in zip(shape, found)):
      wanted = ', '.join(str(n or '*') for n in shape) + ',' * (len(shape) == 1)
      raise InputError(f'{self.name} has shape {found}; ({wanted}) is expected')
    return np.asarray(self.array, np.float32)


class Layer(NamedTuple):
  """A convolution and what follows it, in PyTorch's layout.

  Attributes:
    kernel: [in, out, h, w] of a transposed convolution, [out, in, h, w] of another.
    bias: [out], or None.
    norm: of batch norm, 'scale' and 'bias' and, where they are kept, running 'mean' and 'var', each [out]
      or, by unit, [out * h * w]; {} without one.
  """

  kernel: Tensor
  bias: Tensor | None
  norm: dict[str, Tensor]


class Network(NamedTuple):
  """A generator or a discriminator.

  Attributes:
    kind: 'generator' | 'discriminator'.
    settings: arguments of the module of `models` that the shapes and the format determine.
    z_size: numbers in each latent; None for a discriminator.
    image_size: height and width in pixels.
    channels: of the images.
    params: what the module takes, float32.
    batch_stats: the same, of those batch norms that the file has running statistics of.
  """

  kind: str
  settings: dict[str, Any]
  z_size: int | None
  image_size: tuple[int, int]
  channels: int
  params: dict[str, dict[str, np.ndarray]]
  batch_stats: dict[str, dict[str, np.ndarray]]


def from_pytorch(tensors: Mapping[str, np.ndarray]) -> Network:
  """A state dict.

  Args:
    tensors: by name, in the order of the layers, as `torch_files.read` gives them.

  Raises:
    InputError: in one line, with the tensor that does not fit.
  """
  layers = list(_pytorch_layers(tensors))
  if len(layers) < 2:
    raise InputError('is neither a generator nor a discriminator: it has less than two convolutions')
  last = layers[-1].kernel
  if last.array.shape[1] in CHANNELS:
    return _network('generator', layers, 'pytorch')
  if last.array.shape[0] == 1:
    return _network('discriminator', layers, 'pytorch')
  raise InputError(
    f'is neither a generator nor a discriminator: its last kernel, {last.name}, has shape '
    f"{last.array.shape}; a generator's ends in 1 or 3 channels, (*, 1 or 3, 4, 4), a discriminator's in a "
    'logit, (1, *, *, *)'
  )


def _pytorch_layers(tensors: Mapping[str, np.ndarray]) -> Iterator[Layer]:
  """Convolutions with their batch norms. Which is which is seen by the number of axes of 'weight'."""
  modules: dict[str, dict[str, Tensor]] = {}
  for name, array in tensors.items():
    module, _, part = name.rpartition('.')
    if part != 'num_batches_tracked':
      modules.setdefault(module, {})[part] = Tensor(name, array)
  layer = None
  for parts in modules.values():
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


def read_newmu(folder: Path) -> dict[str, list[Tensor]]:
  """The authors' arrays, 'gen' and 'discrim', in their order.

  Args:
    folder: with gen_01.npy, gen_02.npy, ... and, maybe, discrim_01.npy, ...

  Raises:
    InputError: in one line; no such folder, a file that is missing or cannot be read.
  """
  if not folder.is_dir():
    raise InputError('is no folder; format=newmu takes one, of gen_NN.npy and discrim_NN.npy')
  found: dict[str, list[Tensor]] = {}
  names = [path.name for path in folder.iterdir()]
  for network, least in (('gen', 4), ('discrim', 2)):  # of a single convolution; three more for each other
    numbers = sorted(int(m[1]) for name in names if (m := re.fullmatch(rf'{network}_(\d\d)\.npy', name)))
    if not numbers and network == 'discrim':
      continue
    count = max([*numbers, least])
    count += (least - count) % 3
    missing = [f'{network}_{i:02d}.npy' for i in range(1, count + 1) if i not in numbers]
    if missing:
      raise InputError(f'has no {missing[0]}')
    found[network] = [_read_array(folder / f'{network}_{i:02d}.npy') for i in numbers]
  return found


def _read_array(path: Path) -> Tensor:
  try:
    array = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(f'{path.name} cannot be read as .npy: {" ".join(str(error).split())}') from error
  if not isinstance(array, np.ndarray) or array.dtype.kind != 'f':
    raise InputError(f'{path.name} is no array of floating-point numbers')
  return Tensor(path.name, array)


def from_newmu(arrays: Sequence[Tensor], kind: str) -> Network:
  """A network of the paper's authors.

  Args:
    arrays: of a generator, dense [z, units], scale and shift [units]; then for each convolution its kernel
      [in, out, 5, 5], scale and shift [out], the last without these. Of a discriminator, for each
      convolution its kernel [out, in, 5, 5], scale and shift [out], the first without these; then dense
      [units, 1].
    kind: 'generator' | 'discriminator'.

  Raises:
    InputError: in one line, with the array that does not fit.
  """
  first = 0 if kind == 'generator' else 1
  starts = [*range(first), *range(first, len(arrays), 3), len(arrays)]
  groups = [arrays[i:j] for i, j in itertools.pairwise(starts)]  # a layer each: its kernel, what follows it
  at = 0 if kind == 'generator' else len(groups) - 1
  dense, *dense_norm = groups.pop(at)
  layers = []
  for kernel, *norm in groups:
    flipped = kernel.shaped(None, None, 5, 5)[:, :, ::-1, ::-1]
    layers.append(_layer(Tensor(kernel.name, flipped), norm))
  neighbour = layers[0 if kind == 'generator' else -1].kernel
  square = _square(dense, neighbour.array.shape[0], is_last=kind == 'discriminator')
  layers.insert(at, _layer(square, dense_norm))
  return _network(kind, layers, 'newmu')


def _layer(kernel: Tensor, norm: Sequence[Tensor]) -> Layer:
  return Layer(kernel, None, dict(zip(('scale', 'bias'), norm)))


def _square(dense: Tensor, channels: int, is_last: bool) -> Tensor:
  """A dense layer as the convolution of a square that it is; its units are [channels, side, side]."""
  matrix = dense.shaped(None, 1).T if is_last else dense.shaped(None, None)
  side = math.isqrt(matrix.shape[1] // channels)
  if channels * side**2 != matrix.shape[1] or not side:
    raise InputError(
      f'{dense.name} has shape {dense.array.shape}; its units must be {channels} channels of a square'
    )
  return Tensor(dense.name, matrix.reshape(-1, channels, side, side))


def _network(kind: str, layers: Sequence[Layer], file_format: str) -> Network:
  """The architecture that the shapes tell, and the variables."""
  is_generator, last = kind == 'generator', len(layers) - 1
  names = [f'conv{i}' for i in range(1, len(layers))]
  names.insert(0 if is_generator else last, 'dense')
  named = dict(zip(names, layers))
  if layers[-1].norm:
    raise InputError(f'{layers[-1].norm["scale"].name} is batch norm after the last layer; a DCGAN has none')
  picture = layers[-1 if is_generator else 0].kernel  # the kernel at the image
  if picture.array.shape[1] not in CHANNELS:
    raise InputError(f'{picture.name} has shape {picture.array.shape}; images have 1 or 3 channels')
  use_bias, by_unit = any(layer.bias for layer in layers), is_generator and file_format == 'newmu'
  settings = SETTINGS[file_format] | {
    'widths': tuple(_width(layer, is_generator) for layer in layers[:-1]),
    'strides': (2,) * last,
    'norm': tuple(bool(layer.norm) for layer in layers[:-1]),
    'use_bias': use_bias,
    'leak': 0.0 if is_generator else 0.2,
  }
  if is_generator:
    settings |= {'dense_norm': 'unit' if by_unit else 'channel', 'upsample': 'transposed'}
  height, width = named['dense'].kernel.array.shape[2:]
  params, batch_stats = _variables(named, settings, is_generator, by_unit)
  return Network(
    kind=kind,
    settings=settings,
    z_size=layers[0].kernel.array.shape[0] if is_generator else None,
    image_size=(height * 2**last, width * 2**last),
    channels=picture.array.shape[1],
    params=params,
    batch_stats=batch_stats,
  )


def _width(layer: Layer, is_generator: bool) -> int:
  """Channels that come out."""
  return layer.kernel.array.shape[1 if is_generator else 0]


def _variables(
  layers: Mapping[str, Layer], settings: Mapping[str, Any], is_generator: bool, by_unit: bool
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
  """Parameters and batch-norm statistics in our names and layouts; checks that the layers fit each other."""
  params: dict[str, dict[str, np.ndarray]] = {}
  batch_stats: dict[str, dict[str, np.ndarray]] = {}
  incoming = None  # channels
  for i, (name, layer) in enumerate(layers.items(), 0 if is_generator else 1):
    width, size = _width(layer, is_generator), None if name == 'dense' else settings['kernel_size']
    kernel = layer.kernel.shaped(*((incoming, width) if is_generator else (width, incoming)), size, size)
    params[name] = {'kernel': _our_kernel(kernel, name, is_generator)}
    if settings['use_bias']:  # all of our layers have one, or none
      params[name]['bias'] = layer.bias.shaped(width) if layer.bias else np.zeros(width, np.float32)
    if layer.norm:
      square = kernel.shape[2:] if name == 'dense' and by_unit else ()
      norm = {part: _our_vector(tensor, width, square) for part, tensor in layer.norm.items()}
      params[f'norm{i}'] = {part: norm.pop(part) for part in ('scale', 'bias')}
      if norm:
        batch_stats[f'norm{i}'] = norm
    incoming = width
  return params, batch_stats


def _our_kernel(kernel: np.ndarray, name: str, is_generator: bool) -> np.ndarray:
  """Of a transposed convolution [h, w, out, in], of another [h, w, in, out], of a dense layer [in, out]."""
  if name != 'dense':
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
  if is_generator:
    return kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)
  return kernel.transpose(2, 3, 1, 0).reshape(-1, 1)


def _our_vector(tensor: Tensor, width: int, square: tuple[int, ...]) -> np.ndarray:
  """A number for each channel or, on a square, for each unit: there channels last, as ours are ordered."""
  vector = tensor.shaped(width * math.prod(square))
  return vector.reshape(width, *square).transpose(1, 2, 0).reshape(-1) if square else vector
