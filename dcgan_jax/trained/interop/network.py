"""Networks that others trained, as variables of the modules in `models`.

Each file format (`pytorch`, `newmu`) turns its arrays into a list of `Layer`, in PyTorch's layout. Their
shapes determine the architecture, and `convert` makes our parameters from them. The slopes of the leaky ReLUs
are in no file: they are the published ones, 0 in the generator and 0.2 in the discriminator.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.errors import InputError
from dcgan_jax.settings.rules import MOST_CHANNELS

CHANNELS = range(1, MOST_CHANNELS + 1)  # that images may have

MOST_LAYERS = 12  # that double the size of an image

Variables = dict[str, dict[str, np.ndarray]]  # arrays by layer and name


class Tensor(NamedTuple):
  """An array, and its name in error messages."""

  name: str
  array: np.ndarray

  def shaped(self, *shape: int | None) -> np.ndarray:
    """Returns the array as float32 and checks its shape; None stands for any size of 1 or more.

    Raises:
      InputError: the array has another shape.
    """
    found = self.array.shape
    if len(found) != len(shape) or any(m != n if n else m < 1 for n, m in zip(shape, found)):
      wanted = ', '.join(str(n or '*') for n in shape) + ',' * (len(shape) == 1)
      raise InputError(f'{self.name} has shape {found}; ({wanted}) is expected')
    return np.asarray(self.array, np.float32)


class Layer(NamedTuple):
  """A convolution and the batch norm that follows it, in PyTorch's layout.

  Attributes:
    kernel: [in, out, h, w] of a transposed convolution, [out, in, h, w] of an ordinary one.
    bias: [out], or None.
    norm: 'scale' and 'bias' of batch norm and, if the file has running statistics, 'mean' and 'var'. Each is
      [out] or, for batch norm by unit, [out * h * w]. It is {} without batch norm.
  """

  kernel: Tensor
  bias: Tensor | None
  norm: dict[str, Tensor]


class Network(NamedTuple):
  """A generator or a discriminator.

  Attributes:
    kind: 'generator' | 'discriminator'.
    settings: Arguments of the module in `models` that follow from the shapes and the file format.
    z_size: Length of z; None for a discriminator.
    image_size: Height and width in pixels.
    channels: Channels of the images.
    params: The module's parameters, float32.
    batch_stats: Batch-norm statistics, float32, of those layers for which the file has them.
  """

  kind: str
  settings: dict[str, Any]
  z_size: int | None
  image_size: tuple[int, int]
  channels: int
  params: Variables
  batch_stats: Variables


def convert(
  kind: str, layers: Sequence[Layer], settings: Mapping[str, Any], norm_by_unit: bool = False
) -> Network:
  """Returns the network that consists of some layers.

  Args:
    kind: 'generator' | 'discriminator'.
    layers: Layers from input to output. The dense layer, a generator's first and a discriminator's last, is
      given as the equivalent convolution.
    settings: Arguments of the module that the file format determines: 'kernel_size', 'padding',
      'norm_epsilon'.
    norm_by_unit: Whether the batch norm after a generator's dense layer is by unit rather than by channel.

  Raises:
    InputError: the layers do not fit together, or are not those of a DCGAN.
  """
  is_generator, last = kind == 'generator', len(layers) - 1
  if last > MOST_LAYERS:
    raise InputError(
      f'has {last + 1} layers, each of which doubles the image; {MOST_LAYERS + 1} are the most'
    )
  names = [f'conv{i}' for i in range(1, len(layers))]
  names.insert(0 if is_generator else last, 'dense')
  named = dict(zip(names, layers))
  if layers[-1].norm:
    raise InputError(f'{layers[-1].norm["scale"].name} is batch norm after the last layer; a DCGAN has none')
  picture = layers[-1 if is_generator else 0].kernel  # the kernel next to the image
  if picture.array.shape[1] not in CHANNELS:
    raise InputError(
      f'{picture.name} has shape {picture.array.shape}; images have 1 to {MOST_CHANNELS} channels'
    )
  arguments = {
    **settings,
    'widths': tuple(_width(layer, is_generator) for layer in layers[:-1]),
    'strides': (2,) * last,
    'norm': tuple(bool(layer.norm) for layer in layers[:-1]),
    'use_bias': any(layer.bias for layer in layers),
    'leak': 0.0 if is_generator else 0.2,
    'norm_affine': True,
    'dense_widths': (),
  }
  if is_generator:
    arguments |= {'dense_norm': 'unit' if norm_by_unit else 'channel', 'upsample': 'transposed'}
  else:
    arguments |= {'packing': 1, 'spectral_norm': False}
  height, width = named['dense'].kernel.array.shape[2:]
  params, batch_stats = _variables(named, arguments, is_generator, norm_by_unit)
  return Network(
    kind=kind,
    settings=arguments,
    z_size=layers[0].kernel.array.shape[0] if is_generator else None,
    image_size=(height * 2**last, width * 2**last),
    channels=picture.array.shape[1],
    params=params,
    batch_stats=batch_stats,
  )


def _width(layer: Layer, is_generator: bool) -> int:
  """Returns the number of a layer's output channels."""
  return layer.kernel.array.shape[1 if is_generator else 0]


def _variables(
  layers: Mapping[str, Layer], settings: Mapping[str, Any], is_generator: bool, norm_by_unit: bool
) -> tuple[Variables, Variables]:
  """Returns parameters and batch-norm statistics by our names and in our layouts.

  Raises:
    InputError: the shape of an array does not fit the layer before it.
  """
  params: Variables = {}
  batch_stats: Variables = {}
  incoming = None  # output channels of the layer before
  for i, (name, layer) in enumerate(layers.items(), 0 if is_generator else 1):
    width, size = _width(layer, is_generator), None if name == 'dense' else settings['kernel_size']
    kernel = layer.kernel.shaped(*((incoming, width) if is_generator else (width, incoming)), size, size)
    params[name] = {'kernel': _our_kernel(kernel, name, is_generator)}
    if settings['use_bias']:  # in our modules either every layer has a bias or none has
      params[name]['bias'] = layer.bias.shaped(width) if layer.bias else np.zeros(width, np.float32)
    if layer.norm:
      square = kernel.shape[2:] if name == 'dense' and norm_by_unit else ()
      norm = {part: _our_vector(tensor, width, square) for part, tensor in layer.norm.items()}
      params[f'norm{i}'] = {part: norm.pop(part) for part in ('scale', 'bias')}
      if norm:
        batch_stats[f'norm{i}'] = norm
    incoming = width
  return params, batch_stats


def _our_kernel(kernel: np.ndarray, name: str, is_generator: bool) -> np.ndarray:
  """Returns a kernel in our layout.

  That is [h, w, out, in] for a transposed convolution, [h, w, in, out] for an ordinary one, and [in, out] for
  a dense layer.
  """
  if name != 'dense':
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
  if is_generator:
    return kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)
  return kernel.transpose(2, 3, 1, 0).reshape(-1, 1)


def _our_vector(tensor: Tensor, width: int, square: tuple[int, ...]) -> np.ndarray:
  """Returns a vector of batch norm, with a number for each channel or, given a square, for each of its units.

  The file orders the units of a square by channel first; our modules order them by channel last.
  """
  vector = tensor.shaped(width * math.prod(square))
  return vector.reshape(width, *square).transpose(1, 2, 0).reshape(-1) if square else vector
