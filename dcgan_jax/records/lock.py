"""The lock of a workdir: only one process trains there at a time.

The operating system releases it when the process ends, however it ends. Readers take no lock. There are two,
on a file and on the folder itself, because somebody may remove the file. Windows, where a locked file cannot
be removed, and NFS do not lock folders.
"""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dcgan_jax import files
from dcgan_jax.errors import InputError

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None  # type: ignore[assignment]

LOCK, OWNER = '.lock', '.owner.json'


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Holds the lock of a workdir during the block, and writes there who holds it.

  Args:
    workdir: The folder, created if necessary.

  Raises:
    InputError: Another process trains there, or the folder cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'workdir={workdir}: cannot be written: {error.strerror}') from error
  try:
    with _lock(workdir):
      since = f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S}'
      owner = {'process': os.getpid(), 'host': platform.node(), 'since': since}
      # On a full disk the note is missing, and the lock is held all the same.
      with contextlib.suppress(OSError):
        (workdir / OWNER).unlink(missing_ok=True)  # It may be a link, to anything.
        with (workdir / OWNER).open('x') as note:
          note.write(json.dumps(owner) + '\n')
      yield
  except Timeout:
    raise InputError(
      f'workdir={workdir}: {_describe(workdir)} trains here; wait for it, stop it or choose another --workdir'
    ) from None


def is_elsewhere(workdir: Path) -> bool:
  """Returns whether a process other than this one trains in a workdir."""
  try:
    with FileLock(workdir / LOCK, blocking=False), _locked_folder(workdir):
      return False
  except Timeout:
    return _owner(workdir).get('process') != os.getpid()
  except (OSError, NotImplementedError):
    return False


@contextlib.contextmanager
def _lock(workdir: Path) -> Iterator[None]:
  """Holds the lock of the file; says so if the file system has no locks.

  Raises:
    Timeout: Another process holds it.
    InputError: The folder cannot be written, or the file is a link.
  """
  if (workdir / LOCK).is_symlink():
    raise InputError(f'{workdir / LOCK}: is a link, perhaps to a file that you need; remove the link')
  lock = FileLock(workdir / LOCK, blocking=False)
  try:
    lock.acquire()
  except Timeout:
    raise
  except PermissionError as error:
    raise InputError(f'workdir={workdir}: cannot be written: {error.strerror}') from error
  except (OSError, NotImplementedError) as error:
    print(f'{workdir}: cannot be locked ({error}); make sure that nothing else trains here', flush=True)
  try:
    with _locked_folder(workdir):
      yield
  finally:
    lock.release()


@contextlib.contextmanager
def _locked_folder(workdir: Path) -> Iterator[None]:
  """Holds the lock of the folder itself, if the platform has such locks.

  Raises:
    Timeout: Another process holds it.
  """
  if fcntl is None:
    yield
    return
  handle = os.open(workdir, os.O_RDONLY)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise Timeout(str(workdir)) from None
    except OSError:  # as on NFS, where the lock of the file must do
      pass
    yield
  finally:
    os.close(handle)


def _owner(workdir: Path) -> dict[str, object]:
  """Returns the note of who holds the lock; {} if it cannot be read."""
  try:
    found = files.read_json(workdir / OWNER)
  except InputError:
    return {}
  return found if isinstance(found, dict) else {}


def _describe(workdir: Path) -> str:
  """Returns in words who holds the lock."""
  owner = _owner(workdir)
  if not owner:
    return 'another process'
  return f'process {owner.get("process")} of {owner.get("host")}, since {owner.get("since")},'
