"""Reads untrusted .npy and .npz files of numbers; writes .npy incrementally.

NumPy's reader allocates what a header claims, and may raise anything on a broken one. This one checks the
header against the file size first, which bounds memory and time, and never unpickles.
"""

import contextlib
import lzma
import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError

# Errors of zipfile on an archive that is broken, encrypted or in an unknown format.
BROKEN_ZIP = (
  OSError,  # a seek outside the file
  zipfile.BadZipFile,
  NotImplementedError,
  RuntimeError,
  ValueError,
  EOFError,
  IndexError,
  OverflowError,
  struct.error,
  zlib.error,
  lzma.LZMAError,
)
HEADER = 192  # bytes of the header of an incrementally written file


class Array(NamedTuple):
  """An array in a file whose header has been read.

  Attributes:
    file: Open file, positioned at the first number.
    shape: Shape of the array.
    dtype: Dtype of the array.
    in_columns: Whether the array is in Fortran order.
  """

  file: IO[bytes]
  shape: tuple[int, ...]
  dtype: np.dtype
  in_columns: bool

  def read(self, rows: int | None = None) -> np.ndarray:
    """Reads the array.

    Args:
      rows: Maximum number of rows to read; None for all.

    Raises:
      InputError: The file is truncated, or rows of an array in Fortran order are requested.
    """
    shape = self.shape
    if rows is not None and shape:
      if self.in_columns:
        raise InputError("is in Fortran's order; save numpy.ascontiguousarray of it")
      shape = (min(rows, shape[0]), *shape[1:])
    count = math.prod(shape) * self.dtype.itemsize
    content = self.file.read(count)
    if len(content) < count:
      raise InputError(f'is cut short: {len(content):,} of {count:,} bytes of the array are there')
    flat = np.frombuffer(bytearray(content), self.dtype)  # A bytearray makes the result writable.
    try:
      return flat.reshape(shape, order='F' if self.in_columns else 'C')
    except ValueError as error:  # one axis is empty, and another exceeds the maximum length
      raise InputError(f'has an impossible shape, {_short(shape)}') from error


def read_npy(path: Path) -> np.ndarray:
  """Reads an .npy file.

  Raises:
    InputError: The file is invalid; the message does not name it.
  """
  with opened_npy(path) as array:
    return array.read()


def map_npy(path: Path) -> np.ndarray:
  """Memory-maps an .npy file read-only.

  Raises:
    InputError: The file is invalid; the message does not name it.
  """
  with opened_npy(path) as array:
    if not math.prod(array.shape):
      raise InputError('is empty')
    order = 'F' if array.in_columns else 'C'
    return np.memmap(array.file, array.dtype, 'r', array.file.tell(), array.shape, order)  # type: ignore[call-overload]


def write_npy(
  path: Path, parts: Iterable[np.ndarray], row: tuple[int, ...], dtype: np.typing.DTypeLike
) -> int:
  """Writes an .npy file atomically, chunk by chunk, without holding it in memory.

  Args:
    path: Path of the file.
    parts: Chunks of rows in order, [n, *row] each.
    row: Shape of a row.
    dtype: Dtype of the array.

  Returns:
    The number of rows.

  Raises:
    OSError: The file cannot be written; a partial one is removed.
  """
  count = 0
  with files.whole(path) as unfinished, unfinished.open('wb') as file:
    file.write(_header(0, row, dtype))
    for part in parts:
      file.write(np.ascontiguousarray(part, dtype).reshape(-1).data)
      count += len(part)
    file.seek(0)
    file.write(_header(count, row, dtype))
    file.flush()
    os.fsync(file.fileno())  # Some file systems report a full disk only here.
  return count


def _header(count: int, row: tuple[int, ...], dtype: np.typing.DTypeLike) -> bytes:
  """Returns the header of an .npy file; its length does not depend on the number of rows."""
  content = {'descr': np.dtype(dtype).str, 'fortran_order': False, 'shape': (count, *row)}
  text = f'{content}'.encode().ljust(HEADER - 11) + b'\n'
  return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text


def read_npz(path: Path) -> dict[str, np.ndarray]:
  """Reads all arrays of an uncompressed .npz file, as written by `numpy.savez`.

  Raises:
    InputError: The file is invalid or compressed; the message does not name it.
  """
  with _opened_zip(path) as (archive, size):
    members = archive.infolist()
    if sum(member.file_size for member in members) > size:
      raise InputError('is compressed, or not whole')
    found = {}
    for member in members:
      with archive.open(member) as file:
        found[member.filename.removesuffix('.npy')] = _open_array(file, member.file_size).read()
    return found


def names_npz(path: Path) -> list[str]:
  """Returns the names of the arrays of an .npz file.

  Raises:
    InputError: The file is invalid; the message does not name it.
  """
  with _opened_zip(path) as (archive, _):
    return [member.filename.removesuffix('.npy') for member in archive.infolist()]


@contextlib.contextmanager
def opened_npz(path: Path, *names: str) -> Iterator[Array]:
  """Opens one array of an .npz file, compressed or not.

  Args:
    path: Path of the file.
    names: Possible names of the array; if none is found, the first array is opened.

  Raises:
    InputError: The file is invalid; the message does not name it.
  """
  with _opened_zip(path) as (archive, _):
    members = {member.filename.removesuffix('.npy'): member for member in archive.infolist()}
    if not members:
      raise InputError('has no arrays in it')
    member = next((members[name] for name in names if name in members), next(iter(members.values())))
    with archive.open(member) as file:
      yield _open_array(file, member.file_size)


@contextlib.contextmanager
def opened_npy(path: Path) -> Iterator[Array]:
  """Opens the array of an .npy file.

  Raises:
    InputError: The file is invalid; the message does not name it.
  """
  try:
    with files.opened(path) as file:
      yield _open_array(file, files.size(file))
  except OSError as error:
    raise InputError(error.strerror or str(error)) from error


@contextlib.contextmanager
def _opened_zip(path: Path) -> Iterator[tuple[zipfile.ZipFile, int]]:
  """Yields an archive and its size in bytes; converts errors of `zipfile` in the block to InputErrors."""
  try:
    file = files.opened(path)
  except OSError as error:
    raise InputError(error.strerror or str(error)) from error
  try:
    with file, zipfile.ZipFile(file) as archive:
      yield archive, files.size(file)
  except InputError:
    raise
  except BROKEN_ZIP as error:
    raise InputError(f'is no whole .npz ({error or type(error).__name__})') from error


def _open_array(file: IO[bytes], size: int) -> Array:
  """Reads the header of an array.

  Args:
    file: Open file, positioned at its start.
    size: Size of the file in bytes.

  Raises:
    InputError: The header is not that of a numeric array, or the array is larger than the file.
  """
  formats = np.lib.format
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # headers written by Python 2, as in the authors' files
      version = formats.read_magic(file)
      read_header = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
      shape, in_columns, dtype = read_header(file)
  except Exception as error:  # NumPy parses the header as Python, so a broken one may raise anything.
    raise InputError('has no header of .npy; numpy.save writes one, and numpy.savez an .npz') from error
  if dtype.kind not in 'biuf' or dtype.subdtype:
    raise InputError(f'holds {str(dtype)[:80]}, which are no real numbers')
  if any(type(size) is not int or size < 0 for size in shape):  # NumPy's reader accepts True as a number.
    raise InputError(f'has an impossible shape, {_short(shape)}')
  if math.prod(shape) * dtype.itemsize > size - file.tell():
    raise InputError(f'is cut short: its header says {dtype} {_short(shape)}, and it has {size:,} bytes')
  return Array(file, shape, dtype, in_columns)


def _short(shape: tuple[int, ...]) -> str:
  """Returns a shape as text, truncated if very long."""
  text = str(shape)
  return text if len(text) < 80 else f'{text[:80]} ...'
