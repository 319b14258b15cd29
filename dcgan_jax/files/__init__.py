"""Untrusted paths and files, and atomic writes.

A path that a user gives, or a file in a folder from elsewhere, may be anything: too long, an endless pipe, a
link, binary. All files are opened by `opened` and written by `whole`.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from dcgan_jax.errors import InputError


def named(field: str, text: str) -> Path:
  """Returns a path given by the user, which need not exist; ~ is the home folder.

  Args:
    field: Flag or key with the path, for the error message.
    text: The path.

  Raises:
    InputError: there can be no such file, or it may not be read.
  """
  try:
    path = Path(text).expanduser()
    if stat.S_ISDIR(path.stat().st_mode) and not os.access(path, os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except (FileNotFoundError, NotADirectoryError):
    pass
  except OSError as error:
    raise InputError(f'{field}={text}: {error.strerror}; give another path') from error
  except (ValueError, RuntimeError) as error:  # a NUL in the name; ~ of an unknown user
    raise InputError(f'{field}={text}: is not a path ({error}); give another one') from error
  return path


def to_be_written(field: str, text: str) -> Path:
  """Returns the path of a file or folder to write, given by the user.

  Raises:
    InputError: as `named`, or nothing can be written there.
  """
  path = named(field, text)
  if not text.strip():
    raise InputError(f'{field}: is empty; give a path')
  above = next((folder for folder in path.absolute().parents if folder.exists()), None)
  if above is None or not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
    raise InputError(
      f'{field}={text}: cannot be written, because {above} is not a folder that you may write to'
    )
  return path


def folder_to_be_written(field: str, text: str) -> Path:
  """Returns the path of a folder to write, given by the user, which may exist.

  Raises:
    InputError: as `to_be_written`, or it is a file.
  """
  path = to_be_written(field, text)
  if path.exists() and not path.is_dir():
    raise InputError(f'{field}={text}: is a file; choose a folder')
  return path


@contextlib.contextmanager
def output(field: str, path: Path) -> Iterator[None]:
  """Creates the folder of a path given by the user, which the block writes; an OSError becomes one line.

  Raises:
    InputError: it cannot be written, say because the disk is full.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield
  except OSError as error:
    reason = error.strerror or error
    raise InputError(f'{field}={path}: cannot be written: {reason}; choose another --{field}') from error


def check_utf8(path: Path) -> None:
  """Refuses a path at which TensorStore, which writes all names in UTF-8, would not find a checkpoint.

  Raises:
    InputError: the absolute path is not valid UTF-8, or the locale's encoding is another one.
  """
  path = path.absolute()
  try:
    is_utf8 = os.fsencode(path) == str(path).encode()
  except UnicodeEncodeError:
    is_utf8 = False
  if not is_utf8:
    remedy = 'choose a path whose bytes are UTF-8'
    if sys.getfilesystemencoding() != 'utf-8':
      remedy = f'set PYTHONUTF8=1, since the locale is {sys.getfilesystemencoding()}, or choose an ASCII path'
    raise InputError(f'{path}: is not UTF-8, and no checkpoint could be saved or read there; {remedy}')


def exists(path: Path) -> bool:
  """Returns whether a file or folder exists.

  Raises:
    InputError: it is unknown, because a folder above it may not be searched; or it is a dangling link.
  """
  try:
    path.stat()
  except (FileNotFoundError, NotADirectoryError):
    _check_no_link(path)
    return False
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}; try again when it can be') from error
  return True


def identity(path: Path) -> tuple[int, int]:
  """Returns the device and inode of a folder, which differ from those of another one of its name."""
  status = path.stat()
  return status.st_dev, status.st_ino


def listed(folder: Path) -> list[str]:
  """Returns the names in a folder; none if there is no such folder.

  Raises:
    InputError: it cannot be read, or is a dangling link.
  """
  try:
    return os.listdir(folder)
  except (FileNotFoundError, NotADirectoryError):
    _check_no_link(folder)
    return []
  except OSError as error:
    raise InputError(f'{folder}: cannot be read: {error.strerror}; try again when it can be') from error


def _check_no_link(path: Path) -> None:
  """Refuses a dangling link: a run would start over where its disk is not mounted."""
  if path.is_symlink():
    raise InputError(f'{path}: is a link to {path.readlink()}, which is not there; mount that, or remove it')


def opened(path: Path) -> BufferedReader:
  """Opens a regular file to read it, without ever blocking.

  Raises:
    OSError: it is missing, or a folder, or a device or pipe, which might be endless.
  """
  try:
    return open(path, 'rb', opener=_open_regular)
  except ValueError as error:
    raise OSError(errno.EINVAL, 'no file can have this name') from error


def _open_regular(path: str, flags: int) -> int:
  """Returns the descriptor of a regular file; an `opener` of the built-in `open`."""
  flags |= getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_NOCTTY', 0)  # Windows has neither.
  descriptor = os.open(path, flags)
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return descriptor
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise OSError(errno.EISDIR, 'is a folder')
  raise OSError(errno.EINVAL, 'is not a regular file')


def size(file: BinaryIO) -> int:
  """Returns the size of an open file in bytes."""
  return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, most: int) -> bytes:
  """Returns the content of a regular file.

  Args:
    path: Path of the file.
    most: Its largest size in bytes.

  Raises:
    OSError: as `opened`, or it is larger.
  """
  with opened(path) as file:
    if (found := size(file)) > most:
      raise OSError(errno.EFBIG, f'has {found:,} bytes, which is too large; it should have {most:,} at most')
    return file.read(found)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
  """Yields the path of a temporary file that becomes the file at the end of the block: an atomic write.

  It is a new file beside it, with a random name: no link is followed, and no two writers share one. It has
  the permissions of any new file, unlike one of `tempfile`. No folder is created: it may be a run's workdir
  that the user has just removed.
  """
  part = path.with_name(f'{path.name}.{secrets.token_hex(4)}.part')
  try:
    part.open('xb').close()
    yield part
    part.replace(path)
  finally:
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
  """Writes a file atomically."""
  with whole(path) as part:
    part.write_bytes(content)


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
  """Writes files, each atomically, to their paths relative to a folder, which is created if necessary."""
  for path, content in contents.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / path, content)


def free_memory() -> int:
  """Returns the bytes of memory still available to this process on Linux; 0 elsewhere."""
  found = []
  with contextlib.suppress(OSError):
    lines = re.findall(r'MemAvailable:\s*(\d+) kB', Path('/proc/meminfo').read_text())
    found += [int(kibibytes) * 1024 for kibibytes in lines]
  with contextlib.suppress(OSError, ValueError):  # It is "max" in a container without a limit.
    found.append(int(Path('/sys/fs/cgroup/memory.max').read_text()))
  return min(found, default=0)


def read_json(path: Path, most: int = 2**20) -> Any:
  """Returns the content of a JSON file.

  Args:
    path: Path of the file.
    most: Its largest size in bytes.

  Raises:
    InputError: it is missing, not JSON, or larger.
  """
  try:
    return json.loads(read_bytes(path, most).decode())
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}') from error
  except RecursionError as error:
    raise InputError(f'{path}: is not JSON that can be read: it is nested too deeply') from error
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: is not JSON: byte {error.start} is not valid UTF-8') from error
  except ValueError as error:
    raise InputError(f'{path}: is not JSON: {error}') from error
