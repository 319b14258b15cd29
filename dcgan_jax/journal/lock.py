"""The lock of a workdir: one process trains there at a time.

The operating system releases it when its process ends, however that ends. Those who only read take none.
"""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dcgan_jax.errors import InputError

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
      with contextlib.suppress(
        OSError
      ):  # On a full disk there is no note, and the lock is held all the same.
        (workdir / OWNER).write_text(json.dumps(owner) + '\n')
      yield
  except Timeout:
    raise InputError(
      f'workdir={workdir}: {_describe(workdir)} trains here; wait for it, stop it or choose another --workdir'
    ) from None


def is_elsewhere(workdir: Path) -> bool:
  """Returns whether a process other than this one trains in a workdir."""
  try:
    with FileLock(workdir / LOCK, blocking=False):
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
    InputError: the folder cannot be written.
  """
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
    yield
  finally:
    lock.release()


def _owner(workdir: Path) -> dict[str, object]:
  """Returns the note of who holds the lock, {} if it cannot be read."""
  try:
    found = json.loads((workdir / OWNER).read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _describe(workdir: Path) -> str:
  """Returns in words who holds the lock."""
  owner = _owner(workdir)
  if not owner:
    return 'another process'
  return f'process {owner.get("process")} of {owner.get("host")}, since {owner.get("since")},'
