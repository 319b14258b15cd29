"""Reads and writes PyTorch's files of tensors without PyTorch, and without running any code in them.

Both of PyTorch's formats are pickles, and a pickle is a program that may call any function it names. Here it
may name tensors, their element types and dictionaries; reading stops at the first other name. Reading takes
little more memory than the file has bytes, whatever the file claims.
"""

import io
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.files import pickles
from dcgan_jax.files.pickles import Found, Tensor

DTYPES = {
  'DoubleStorage': '<f8',
  'FloatStorage': '<f4',
  'HalfStorage': '<f2',
  'LongStorage': '<i8',
  'IntStorage': '<i4',
  'ShortStorage': '<i2',
  'ByteStorage': '<u1',
  'CharStorage': '<i1',
  'BoolStorage': '?',
}


def read(path: Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict that `torch.save` wrote, by their names.

  Tensors in nested dictionaries get names with dots. Other objects, such as numbers, are left out. Tensors
  that share storage in the file share it here, and all are read-only.

  Raises:
    InputError: the file is missing, cut short, without tensors, or names anything else.
  """
  try:
    file = files.opened(path)
  except OSError as error:
    _refuse(path, error.strerror or str(error))
  try:
    with file:
      found, data = (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(file, files.size(file))
    tensors = {name: _view(name, tensor, data) for name, tensor in found.tensors}
  except pickles.PickleError as error:
    _refuse(path, f'cannot be read as PyTorch tensors: {error}')
  except Exception as error:  # A broken file may raise anything.
    _refuse(path, f'cannot be read as PyTorch tensors: it is damaged ({error or type(error).__name__})')
  if not tensors:
    _refuse(path, 'has no tensors in it')
  return tensors


def _refuse(path: Path, reason: str) -> NoReturn:
  """Raises an InputError about a file, in one line."""
  raise InputError(f'{path}: {" ".join(reason.split())[:300]}')


def _read_zip(file: BinaryIO, size: int) -> tuple[Found, Mapping[str, bytes]]:
  """Reads the format since PyTorch 1.6; returns the tensors and the bytes of each storage by its key."""
  with zipfile.ZipFile(file) as archive:
    members = archive.infolist()
    if sum(member.file_size for member in members) > size:
      raise pickles.PickleError('it is compressed, which torch.save does not do')
    names = {member.filename for member in members}
    pickled = [name for name in names if name.endswith('/data.pkl')]
    if len(pickled) != 1:
      raise pickles.PickleError('it is a zip file without data.pkl, not one of torch.save')
    root = pickled[0].removesuffix('data.pkl')
    if f'{root}byteorder' in names and archive.read(f'{root}byteorder') != b'little':
      raise pickles.PickleError('its numbers are big-endian')
    if archive.getinfo(pickled[0]).file_size > pickles.MOST_BYTES:
      raise pickles.PickleError(f'its data.pkl has more than {pickles.MOST_BYTES:,} bytes')
    found = pickles.read(archive.read(pickled[0]), legacy=False)
    start = f'{root}data/'
    return found, {name.removeprefix(start): archive.read(name) for name in names if name.startswith(start)}


def _read_legacy(file: BinaryIO, size: int) -> tuple[Found, Mapping[str, bytes]]:
  """Reads the format before PyTorch 1.6; returns the same as `_read_zip`."""
  file.seek(0, os.SEEK_SET)
  if file.read(2) == b'PK':
    raise pickles.PickleError('it is a zip file that is cut short')
  file.seek(0, os.SEEK_SET)
  found = pickles.read(file.read(min(size, pickles.MOST_BYTES)), legacy=True)
  sizes = {tensor.storage.key: _dtype(tensor).itemsize for _, tensor in found.tensors}
  file.seek(found.end)
  data = {}
  for key in found.keys:
    (count,) = struct.unpack('<q', file.read(8))
    if not 0 <= count * sizes[key] <= size:
      raise pickles.PickleError(f'its storage {key} is cut short')
    data[key] = file.read(count * sizes[key])
  return found, data


def _dtype(tensor: Tensor) -> np.dtype:
  """Returns the dtype of a tensor's numbers.

  Raises:
    PickleError: NumPy has none like it.
  """
  kind = tensor.storage.kind
  if kind not in DTYPES:
    raise pickles.PickleError(f'it has tensors of {kind}; save it with .float()')
  return np.dtype(DTYPES[kind])


def _view(name: str, tensor: Tensor, data: Mapping[str, bytes]) -> np.ndarray:
  """Returns the array of a tensor, read-only."""
  numbers = np.frombuffer(data[tensor.storage.key], _dtype(tensor))
  offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
  if len(shape) != len(strides) or min(offset, *shape, *strides, 0) < 0:
    raise pickles.PickleError(
      f'{name} has the shape {shape}, strides {strides} and offset {offset}, which is impossible'
    )
  if 0 in shape:
    return np.zeros(shape, numbers.dtype)
  last, count = offset, 1
  for length, stride in zip(shape, strides):
    last, count = last + (length - 1) * stride, count * length
  if last >= len(numbers):
    raise pickles.PickleError(f'{name} is cut short')
  if count > len(numbers):
    raise pickles.PickleError(f'{name} repeats its numbers, by the strides {strides}; save a copy of it')
  steps = [stride * numbers.itemsize for stride in strides]
  return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


def to_bytes(tensors: Mapping[str, np.ndarray], root: str) -> bytes:
  """Returns the file that `torch.save` writes of a state dict, in the format since PyTorch 1.6.

  Args:
    tensors: Tensors by name, in the order of the layers, float32 or int64.
    root: Name of the top folder in the zip file; PyTorch uses the name of the file.
  """
  parts = {'data.pkl': _pickled(tensors), 'byteorder': b'little', 'version': b'3\n'}
  for key, array in enumerate(tensors.values()):
    parts[f'data/{key}'] = array.astype(array.dtype.newbyteorder('<')).tobytes()
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, content in parts.items():
      archive.writestr(
        zipfile.ZipInfo(f'{root}/{name}'), content
      )  # without a date, so that the bytes depend on the tensors alone
  return file.getvalue()


def _pickled(tensors: Mapping[str, np.ndarray]) -> bytes:
  """Returns the pickle of a dictionary of tensors, each with its own storage."""
  kinds = {np.dtype('float32'): 'FloatStorage', np.dtype('int64'): 'LongStorage'}
  items = []
  for key, (name, array) in enumerate(tensors.items()):
    kind = _name('torch', kinds[array.dtype])
    storage = _tuple(_text('storage'), kind, _text(str(key)), _text('cpu'), _number(array.size)) + b'Q'
    strides = [stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides]
    shape = (_tuple(*map(_number, sizes)) for sizes in (array.shape, strides))
    hooks = _name('collections', 'OrderedDict') + b')R'  # The last arguments: no gradient, no hooks.
    view = _tuple(storage, _number(0), *shape, b'\x89', hooks)
    items.append(_text(name) + _name('torch._utils', '_rebuild_tensor_v2') + view + b'R')
  return b'\x80\x02}(' + b''.join(items) + b'u.'


# These return instructions of pickle's protocol 2, each of which leaves a value on the stack.


def _name(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def _text(value: str) -> bytes:
  return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def _number(value: int) -> bytes:
  return b'J' + struct.pack('<i', value)


def _tuple(*items: bytes) -> bytes:
  return b'(' + b''.join(items) + b't'
