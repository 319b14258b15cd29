"""Reads PyTorch's files of tensors without PyTorch, and without running anything that they contain.

Both of PyTorch's formats are pickles, and a pickle is a program that may call any function it names. Here it
may name tensors, their element types and dictionaries; reading stops at the first other name.
"""

import collections
import pickle
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

from dcgan_jax.errors import InputError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object in files from before PyTorch 1.6
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
  return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Unpickler(pickle.Unpickler):
  """A reader of pickles that hold nothing but tensors in dictionaries and lists."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns what a name in the pickle stands for, if it is one of the few that are allowed."""
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _tensor
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return lambda tensor, *_: tensor
    if module == 'torch' and name in DTYPES:
      return np.dtype(DTYPES[name])
    raise pickle.UnpicklingError(f'it names {module}.{name}, which is no tensor; nothing of it was run')

  def persistent_load(self, pid: Any) -> _Storage:
    """Returns the storage that the pickle refers to."""
    kind, dtype, key = pid[:3]
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise pickle.UnpicklingError('a storage is expected')
    return _Storage(dtype, str(key))


def read(path: Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict that `torch.save` wrote, by their names.

  Tensors in nested dictionaries get names with dots. Other objects, such as numbers, are left out.

  Raises:
    InputError: there is no such file, it is cut short, it holds no tensors, or it names anything else.
  """
  try:
    if zipfile.is_zipfile(path):
      content, data = _read_zip(path)
    else:
      with path.open('rb') as file:
        content, data = _read_legacy(file)
    tensors = dict(_flatten(content, data))
  except OSError as error:
    _refuse(path, error.strerror or str(error))
  except Exception as error:  # A broken pickle may raise anything.
    _refuse(path, f'cannot be read as PyTorch tensors: {error or type(error).__name__}')
  if not tensors:
    _refuse(path, 'has no tensors in it')
  return tensors


def _refuse(path: Path, reason: str) -> NoReturn:
  """Raises an InputError about a file, in one line."""
  raise InputError(f'{path}: {" ".join(reason.split())[:300]}')


def _read_zip(path: Path) -> tuple[Any, dict[str, bytes]]:
  """Reads the format since PyTorch 1.6; returns the content and the bytes of each storage by its key."""
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    (pickled,) = (name for name in names if name.endswith('/data.pkl'))
    root = pickled.removesuffix('data.pkl')
    if f'{root}byteorder' in names and archive.read(f'{root}byteorder') != b'little':
      raise ValueError('its numbers are big-endian')
    with archive.open(pickled) as file:
      content = _Unpickler(file).load()
    start = f'{root}data/'
    return content, {name.removeprefix(start): archive.read(name) for name in names if name.startswith(start)}


def _read_legacy(file: IO[bytes]) -> tuple[Any, dict[str, bytes]]:
  """Reads the format before PyTorch 1.6; returns what `_read_zip` does."""
  if file.read(2) == b'PK':
    raise ValueError('it is a zip file that is cut short')
  file.seek(0)
  if _Unpickler(file).load() != LEGACY_MAGIC:
    raise ValueError('it is no file of torch.save')
  _Unpickler(file).load()  # the version of the protocol
  _Unpickler(file).load()  # the sizes of types on the machine that wrote the file
  unpickler = _Unpickler(file)
  content = unpickler.load()
  sizes = {tensor.storage.key: tensor.storage for _, tensor in _tensors(content)}
  data = {}
  for key in _Unpickler(file).load():
    (count,) = struct.unpack('<q', file.read(8))
    storage = sizes[key]
    data[key] = file.read(count * storage.dtype.itemsize)
  return content, data


def _tensors(content: Any, path: str = '') -> Any:
  """Yields the name and the reference of each tensor."""
  if isinstance(content, _Tensor):
    yield path, content
  elif isinstance(content, dict):
    for key, value in content.items():
      yield from _tensors(value, f'{path}.{key}' if path else str(key))


def _flatten(content: Any, data: dict[str, bytes]) -> Any:
  """Yields the name and the array of each tensor."""
  for name, tensor in _tensors(content):
    numbers = np.frombuffer(data[tensor.storage.key], tensor.storage.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if 0 not in tensor.shape and not 0 <= tensor.offset <= last < len(numbers):
      raise ValueError(f'{name} is cut short')
    strides = [s * numbers.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    yield name, view.copy()
