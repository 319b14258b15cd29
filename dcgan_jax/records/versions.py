"""The versions and devices that a run was last trained with, in `versions.json`."""

import importlib.metadata
import platform
from pathlib import Path

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir

PACKAGES = ('dcgan_jax', 'jax', 'flax')


def here() -> dict[str, str]:
  """Returns the versions of this installation, by name."""
  found = {'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # The package is used without being installed.
      continue
  return found


def note(folder: Path, devices: str) -> None:
  """Writes the versions and devices, or says that they cannot be written.

  Args:
    folder: The workdir.
    devices: The devices, in words.
  """
  with workdir.said_if_not_written(folder / 'versions.json'):
    workdir.write_json(folder / 'versions.json', here() | {'devices': devices})


def read(folder: Path) -> dict[str, str]:
  """Returns what `note` wrote; {} if there is no such file.

  Raises:
    InputError: The file is damaged.
  """
  path = folder / 'versions.json'
  if not path.exists():
    return {}
  found = files.read_json(path)
  if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
    raise InputError(f'{path}: does not list versions and devices; you can remove it')
  return found
