"""PyTorch's files of tensors, read without PyTorch and without running anything that they contain.

Both of its formats are pickles: programs. Here a pickle may name tensors, their element types and
dictionaries; the first other name ends the reading.
"""

import collections
import pickle
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

from dcgan_jax.errors import InputError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what files from before PyTorch 1.6 start with
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
  """Numbers that tensors are views of; filled when all is read, in the legacy format after the pickle."""

  dtype: np.dtype
  key: str


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]  # in elements


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
  return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Unpickler(pickle.Unpickler):
  """Reads a pickle of tensors in dictionaries and lists."""

  def find_class(self, module: str, name: str) -> Any:
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
    kind, dtype, key = pid[:3]
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise pickle.UnpicklingError('a storage is expected')
    return _Storage(dtype, str(key))


def read(path: Path) -> dict[str, np.ndarray]:
  """The tensors of a file that `torch.save` made of a state dict, by name.

  Those of nested dictionaries have names with dots. Whatever else is in it, as numbers, is left out.

  Raises:
    InputError: in one line; no such file, cut short, not of tensors, or with code in it.
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
  except Exception as error:  # a broken pickle may raise anything
    _refuse(path, f'cannot be read as PyTorch tensors: {error or type(error).__name__}')
  if not tensors:
    _refuse(path, 'has no tensors in it')
  return tensors


def _refuse(path: Path, reason: str) -> NoReturn:
  raise InputError(f'{path}: {" ".join(reason.split())[:300]}')


def _read_zip(path: Path) -> tuple[Any, dict[str, bytes]]:
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
  if file.read(2) == b'PK':
    raise ValueError('it is a zip file that is cut short')
  file.seek(0)
  if _Unpickler(file).load() != LEGACY_MAGIC:
    raise ValueError('it is no file of torch.save')
  _Unpickler(file).load()  # version of the protocol
  _Unpickler(file).load()  # sizes of the writing machine's types
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
  if isinstance(content, _Tensor):
    yield path, content
  elif isinstance(content, dict):
    for key, value in content.items():
      yield from _tensors(value, f'{path}.{key}' if path else str(key))


def _flatten(content: Any, data: dict[str, bytes]) -> Any:
  for name, tensor in _tensors(content):
    numbers = np.frombuffer(data[tensor.storage.key], tensor.storage.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if 0 not in tensor.shape and not 0 <= tensor.offset <= last < len(numbers):
      raise ValueError(f'{name} is cut short')
    strides = [s * numbers.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    yield name, view.copy()
