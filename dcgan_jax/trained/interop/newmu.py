"""The arrays of the paper's authors' code (https://github.com/Newmu/dcgan_code).

Their dense layers order units by channel first. Their kernels are 5x5 and belong to true convolutions, so
that they are flipped against everybody else's. Batch norm has an epsilon of 1e-8 and no running statistics;
after the dense layer it normalises each unit.
"""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from dcgan_jax.data import arrays
from dcgan_jax.errors import InputError
from dcgan_jax.trained.interop.network import Layer, Network, Tensor, convert

SETTINGS = {'kernel_size': 5, 'padding': 'symmetric', 'norm_epsilon': 1e-8}


def read_newmu(folder: Path) -> dict[str, list[Tensor]]:
  """Reads the arrays of a folder.

  Args:
    folder: Folder with gen_01.npy, gen_02.npy, ... and, maybe, discrim_01.npy, ...

  Returns:
    The arrays 'gen' and, if they are there, 'discrim', in their order.

  Raises:
    InputError: in one line; there is no such folder, or a file is missing or cannot be read.
  """
  if not folder.is_dir():
    raise InputError('is not a folder; format=newmu takes one of gen_NN.npy and discrim_NN.npy')
  found: dict[str, list[Tensor]] = {}
  try:
    names = [path.name for path in folder.iterdir()]
  except OSError as error:
    raise InputError(f'cannot be read: {error.strerror}') from error
  # With a single convolution a network has 4 or 2 arrays; each further convolution adds three.
  for network, least in (('gen', 4), ('discrim', 2)):
    numbers = sorted(
      int(m[1]) for name in names if (m := re.fullmatch(rf'{network}_([0-9][0-9])\.npy', name))
    )
    if not numbers and network == 'discrim':
      continue
    count = max([*numbers, least])
    count += (least - count) % 3
    missing = [f'{network}_{i:02d}.npy' for i in range(1, count + 1) if i not in numbers]
    if missing:
      raise InputError(f'has no {missing[0]}; the numbers of the files have no gaps')
    found[network] = [_read_array(folder / f'{network}_{i:02d}.npy') for i in numbers]
  return found


def _read_array(path: Path) -> Tensor:
  """Reads one file.

  Raises:
    InputError: it cannot be read, or does not hold floating-point numbers.
  """
  try:
    array = arrays.read_npy(path)
  except InputError as error:
    raise InputError(f'{path.name} cannot be read as .npy: {error}') from error
  if array.dtype.kind != 'f':
    raise InputError(f'{path.name} is not an array of floating-point numbers')
  return Tensor(path.name, array)


def from_newmu(arrays: Sequence[Tensor], kind: str) -> Network:
  """Returns the network of the paper's authors' arrays.

  Args:
    arrays: Arrays in the order of the files. A generator has a dense matrix [z, units] with scale and shift
      [units]; then for each convolution a kernel [in, out, 5, 5] with scale and shift [out], except that the
      last has a kernel only. A discriminator has for each convolution a kernel [out, in, 5, 5] with scale and
      shift [out], except that the first has a kernel only; then a dense matrix [units, 1].
    kind: 'generator' | 'discriminator'.

  Raises:
    InputError: in one line, with the array that does not fit.
  """
  first = 0 if kind == 'generator' else 1
  starts = [*range(first), *range(first, len(arrays), 3), len(arrays)]
  groups = [arrays[i:j] for i, j in itertools.pairwise(starts)]  # of each layer: kernel, scale, shift
  at = 0 if kind == 'generator' else len(groups) - 1
  dense, *dense_norm = groups.pop(at)
  layers = []
  for kernel, *norm in groups:
    flipped = kernel.shaped(None, None, 5, 5)[:, :, ::-1, ::-1]
    layers.append(_layer(Tensor(kernel.name, flipped), norm))
  neighbour = layers[0 if kind == 'generator' else -1].kernel
  square = _square(dense, neighbour.array.shape[0], is_last=kind == 'discriminator')
  layers.insert(at, _layer(square, dense_norm))
  return convert(kind, layers, SETTINGS, norm_by_unit=kind == 'generator')


def _layer(kernel: Tensor, norm: Sequence[Tensor]) -> Layer:
  """Returns a layer without bias; its batch norm is a scale and a shift, or nothing."""
  return Layer(kernel, None, dict(zip(('scale', 'bias'), norm)))


def _square(dense: Tensor, channels: int, is_last: bool) -> Tensor:
  """Returns a dense layer as the equivalent convolution; its units are a square [channels, side, side].

  Raises:
    InputError: the units are no such square.
  """
  matrix = dense.shaped(None, 1).T if is_last else dense.shaped(None, None)
  side = math.isqrt(matrix.shape[1] // channels)
  if channels * side**2 != matrix.shape[1] or not side:
    raise InputError(
      f'{dense.name} has shape {dense.array.shape}; its units must be {channels} channels of a square'
    )
  return Tensor(dense.name, matrix.reshape(-1, channels, side, side))
