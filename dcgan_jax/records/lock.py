"""The lock of a workdir: one process trains there at a time.

The operating system releases it when its process ends, however that ends. Those who only read take none.
It is the lock of a file, and one of the folder itself, because somebody may remove that file. Windows, where
a locked file cannot be removed, and NFS have none of folders.
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
  """Holds the lock of a workdir during the block, and leaves a note there of who does.

  Args:
    workdir: the folder, which is made if it is not there.

  Raises:
    InputError: another process trains there, or the folder cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'workdir={workdir}: cannot be written: {error.strerror}') from error
  try:
    with _lock(workdir):
      since = f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S}'
      owner = {'process': os.getpid(), 'host': platform.node(), 'since': since}
      # On a full disk there is no note, and the lock is held all the same.
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
  """Takes the lock; on a file system that has no locks, says so and goes on without.

  Raises:
    Timeout: another process has it.
    InputError: the folder cannot be written, or its file is a link.
  """
  if (workdir / LOCK).is_symlink():
    raise InputError(f'{workdir / LOCK}: is a link, maybe to a file that is of use; remove it')
  lock = FileLock(workdir / LOCK, blocking=False)
  try:
    lock.acquire()
  except Timeout:
    raise
  except PermissionError as error:
    raise InputError(f'workdir={workdir}: cannot be written: {error.strerror}') from error
  except (OSError, NotImplementedError) as error:
    print(f'{workdir}: cannot be locked ({error}); see to it that nothing else trains here', flush=True)
  try:
    with _locked_folder(workdir):
      yield
  finally:
    lock.release()


@contextlib.contextmanager
def _locked_folder(workdir: Path) -> Iterator[None]:
  """Locks the folder itself, where that can be done.

  Raises:
    Timeout: another process has locked it.
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
    except OSError:  # as on NFS, which has the lock of the file
      pass
    yield
  finally:
    os.close(handle)


def _owner(workdir: Path) -> dict[str, object]:
  """Returns the note of who holds the lock, {} if it cannot be read."""
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
