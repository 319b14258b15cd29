"""Reads and writes PyTorch's files of tensors without PyTorch, and without running anything in them.

Both of PyTorch's formats are pickles, and a pickle is a program that may call any function it names. Here it
may name tensors, their element types and dictionaries; reading stops at the first other name. Whatever the
file claims, little more memory is taken than it has bytes.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.interop import pickles

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object in files from before PyTorch 1.6
MOST, DEEPEST = 100_000, 50  # tensors and other entries of a file, and dictionaries inside each other
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


class _Storage(NamedTuple):
  """A reference to the numbers that tensors are views of, which the file has outside the pickle."""

  dtype: np.dtype
  key: str


class _Tensor(NamedTuple):
  """A view of a storage."""

  storage: _Storage
  offset: int  # in elements
  shape: tuple[int, ...]
  strides: tuple[int, ...]  # in elements


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
  """Stands in for PyTorch's function that rebuilds a tensor."""
  if not isinstance(storage, _Storage):
    raise pickles.PickleError('it refers to what is no storage of numbers')
  return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _find(module: str, name: str) -> Any:
  """Returns what stands in for a name in the pickle, if it is one of the few that are allowed."""
  if (module, name) == ('collections', 'OrderedDict'):
    return lambda pairs=(): dict(pairs)
  if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
    return _tensor
  if (module, name) == ('torch._utils', '_rebuild_parameter'):
    return lambda tensor, *_: tensor
  if module == 'torch' and name in DTYPES:
    return np.dtype(DTYPES[name])
  if module == 'torch' and name.endswith('Storage'):
    raise pickles.PickleError(f'it has tensors of {name}; save it with .float()')
  raise pickles.PickleError(f'it names {module}.{name}, which is no tensor; nothing of it was run')


def _refer(pid: Any) -> _Storage:
  """Returns the storage that the pickle refers to."""
  kind, dtype, key = pid[:3]
  if kind != 'storage' or not isinstance(dtype, np.dtype):
    raise pickles.PickleError('it refers to what is no storage of numbers')
  return _Storage(dtype, str(key))


def _load(file: IO[bytes]) -> Any:
  """Reads the next pickle of a file."""
  return pickles.load(file, _find, _refer)


def read(path: Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict that `torch.save` wrote, by their names.

  Tensors in nested dictionaries get names with dots. Other objects, such as numbers, are left out. Tensors
  that share numbers in the file share them here, and none can be written to.

  Raises:
    InputError: there is no such file, it is cut short, it holds no tensors, or it names anything else.
  """
  try:
    file = files.opened(path)
  except OSError as error:
    _refuse(path, error.strerror or str(error))
  try:
    with file:
      content, data = (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(file, files.size(file))
    tensors = {name: _view(name, tensor, data) for name, tensor in _tensors(content)}
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


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, Mapping[str, bytes]]:
  """Reads the format since PyTorch 1.6; returns the content and the bytes of each storage by its key."""
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
    with archive.open(pickled[0]) as member:
      content = _load(member)
    start = f'{root}data/'
    return content, {name.removeprefix(start): archive.read(name) for name in names if name.startswith(start)}


def _read_legacy(file: BinaryIO, size: int) -> tuple[Any, Mapping[str, bytes]]:
  """Reads the format before PyTorch 1.6; returns what `_read_zip` does."""
  file.seek(0, os.SEEK_SET)
  if file.read(2) == b'PK':
    raise pickles.PickleError('it is a zip file that is cut short')
  file.seek(0, os.SEEK_SET)
  try:
    is_ours = _load(file) == LEGACY_MAGIC
  except Exception:  # It is no pickle, which is no news.
    is_ours = False
  if not is_ours:
    raise pickles.PickleError('it is no file of torch.save')
  _load(file)  # the version of the protocol
  _load(file)  # the sizes of types on the machine that wrote the file
  content = _load(file)
  sizes = {tensor.storage.key: tensor.storage.dtype.itemsize for _, tensor in _tensors(content)}
  data = {}
  for key in _load(file):
    (count,) = struct.unpack('<q', file.read(8))
    if not 0 <= count <= size:
      raise pickles.PickleError(f'its storage {key} is cut short')
    data[key] = file.read(count * sizes[key])
  return content, data


def _tensors(content: Any) -> Iterator[tuple[str, _Tensor]]:
  """Yields the name and the reference of each tensor, in the order of the file."""
  left, seen = [('', 0, content)], 0
  while left:
    name, depth, value = left.pop()
    if isinstance(value, _Tensor):
      yield name, value
    elif isinstance(value, dict):
      # A dictionary may be in others many times, and even in itself.
      seen += 1 + len(value)
      if seen > MOST or depth > DEEPEST:
        raise pickles.PickleError(
          f'it has more than {MOST:,} entries, or {DEEPEST} dictionaries inside each other'
        )
      inside = [(f'{name}.{key}' if depth else str(key), depth + 1, item) for key, item in value.items()]
      left += [one for one in reversed(inside) if isinstance(one[2], _Tensor | dict)]


def _view(name: str, tensor: _Tensor, data: Mapping[str, bytes]) -> np.ndarray:
  """Returns the array of a tensor, to be read only."""
  numbers = np.frombuffer(data[tensor.storage.key], tensor.storage.dtype)
  offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
  if len(shape) != len(strides) or min(offset, *shape, *strides, 0) < 0:
    raise pickles.PickleError(
      f'{name} has the shape {shape}, strides {strides} and offset {offset}, which cannot be'
    )
  if 0 in shape:
    return np.zeros(shape, tensor.storage.dtype)
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
    tensors: by name, in the order of the layers, float32 or int64.
    root: name of the folder that the zip file has everything in; PyTorch takes the name of the file.
  """
  parts = {'data.pkl': _pickled(tensors), 'byteorder': b'little', 'version': b'3\n'}
  for key, array in enumerate(tensors.values()):
    parts[f'data/{key}'] = array.astype(array.dtype.newbyteorder('<')).tobytes()
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, content in parts.items():
      archive.writestr(zipfile.ZipInfo(f'{root}/{name}'), content)  # It has the same date always.
  return file.getvalue()


def _pickled(tensors: Mapping[str, np.ndarray]) -> bytes:
  """Returns the pickle of a dictionary of tensors, each a view of a storage of its own."""
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
