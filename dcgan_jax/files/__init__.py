"""Files that a user names or that a folder from elsewhere has, which may be anything: too long a name, a pipe
without an end, a link, no text. They are opened by `opened` and written by `whole`, and by nothing else.

And the memory that there is for them.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from dcgan_jax.errors import InputError


def named(field: str, text: str) -> Path:
  """Returns the path of a file or folder that a user names and that need not exist; ~ is the home folder.

  Args:
    field: that the user gave it to, for the error message.
    text: the path.

  Raises:
    InputError: there can be no such file, or the user may not look at it.
  """
  try:
    path = Path(text).expanduser()
    if stat.S_ISDIR(path.stat().st_mode) and not os.access(path, os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except (FileNotFoundError, NotADirectoryError):
    pass
  except OSError as error:
    raise InputError(f'{field}={text}: {error.strerror}; give another path') from error
  except (ValueError, RuntimeError) as error:  # a NUL in the name; ~ of a user that there is not
    raise InputError(f'{field}={text}: is no path ({error}); give another one') from error
  return path


def to_be_written(field: str, text: str) -> Path:
  """Returns the path of a file or folder that a user wants to have written.

  Raises:
    InputError: as `named`, or no file can be made there.
  """
  path = named(field, text)
  if not text.strip():
    raise InputError(f'{field}: is empty; give a path')
  above = next((folder for folder in path.absolute().parents if folder.exists()), None)
  if above is None or not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
    raise InputError(f'{field}={text}: cannot be written, because {above} is no folder that you may write to')
  return path


def check_utf8(path: Path) -> None:
  """Refuses a path below which TensorStore, which writes all names in UTF-8, would not find a checkpoint.

  Raises:
    InputError: its bytes, also those of the folders above it, are no text in UTF-8, or Python takes them for
      another encoding, that of the locale.
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
  """Returns whether there is a file or folder.

  Raises:
    InputError: nobody can tell, because a folder above it may not be searched or it is a link to nothing.
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
  """Returns what tells a folder from another one that has taken its name."""
  status = path.stat()
  return status.st_dev, status.st_ino


def listed(folder: Path) -> list[str]:
  """Returns the names in a folder; none if there is no such folder.

  Raises:
    InputError: it cannot be read, or is a link to nothing.
  """
  try:
    return os.listdir(folder)
  except (FileNotFoundError, NotADirectoryError):
    _check_no_link(folder)
    return []
  except OSError as error:
    raise InputError(f'{folder}: cannot be read: {error.strerror}; try again when it can be') from error


def _check_no_link(path: Path) -> None:
  """Refuses a link to what is not there: a run would begin anew where its disk is not mounted."""
  if path.is_symlink():
    raise InputError(f'{path}: is a link to {path.readlink()}, which is not there; mount that, or remove it')


def opened(path: Path) -> BufferedReader:
  """Opens an ordinary file to read it. It is what was opened that is looked at, and opening never waits.

  Raises:
    OSError: it is not there, or it is a folder, or a device or a pipe, reading which might never end.
  """
  try:
    return open(path, 'rb', opener=_open_ordinary)
  except ValueError as error:
    raise OSError(errno.EINVAL, 'no file can have this name') from error


def _open_ordinary(path: str, flags: int) -> int:
  """Returns the descriptor of an ordinary file, as the built-in `open` wants it."""
  flags |= getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_NOCTTY', 0)  # Windows has neither.
  descriptor = os.open(path, flags)
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return descriptor
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise OSError(errno.EISDIR, 'is a folder')
  raise OSError(errno.EINVAL, 'is no ordinary file')


def size(file: BinaryIO) -> int:
  """Returns the size of an open file in bytes."""
  return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, most: int) -> bytes:
  """Returns the content of an ordinary file.

  Args:
    path: of the file.
    most: its largest size in bytes.

  Raises:
    OSError: as `opened`, or it is larger.
  """
  with opened(path) as file:
    if (found := size(file)) > most:
      raise OSError(errno.EFBIG, f'has {found:,} bytes, which is too large; it should have {most:,} at most')
    return file.read(found)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
  """Yields where to write a file so that it then is whole or not there, even if the process is killed.

  That is a new file beside it, with a name that nobody can know before: no link is followed, and no two
  writers share one. It has the permissions of any new file, unlike one of `tempfile`.
  """
  part = path.with_name(f'{path.name}.{secrets.token_hex(4)}.part')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    part.open('xb').close()
    yield part
    part.replace(path)
  finally:
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)


def free_memory() -> int:
  """Returns the bytes of memory that this process may still take, as far as Linux tells; 0 elsewhere."""
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
    path: of the file.
    most: its largest size in bytes.

  Raises:
    InputError: it is not there, is no JSON or is larger.
  """
  try:
    return json.loads(read_bytes(path, most).decode())
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}') from error
  except RecursionError as error:
    raise InputError(f'{path}: is not JSON that can be read: it is nested too deeply') from error
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: is not JSON: byte {error.start} is no text in UTF-8') from error
  except ValueError as error:
    raise InputError(f'{path}: is not JSON: {error}') from error
