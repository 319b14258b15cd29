"""The versions, the code and the devices that a run was last trained with, in `versions.json`."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir

PACKAGES = ('dcgan_jax', 'jax', 'flax')
CODE = Path(__file__).parents[1]
LONGEST = 10  # seconds that git may take


def here() -> dict[str, str]:
  """Returns the versions of this installation, by name."""
  found = {'python': platform.python_version()} | code(CODE)
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # The package is used without being installed.
      continue
  return found


@functools.cache
def code(package: Path) -> dict[str, str]:
  """Returns what identifies the code of a package.

  Args:
    package: Folder of the package.

  Returns:
    'commit' of the clone that it lies in, with a + if tracked files are changed; or, if it lies in none or
    git cannot tell, 'sha256' of its Python files.
  """
  if (package.parent / '.git').exists():
    command = ['git', '--no-optional-locks', '-C', str(package.parent), 'describe', '--always', '--dirty=+']
    try:
      # Without tags, the description is the commit.
      done = subprocess.run(
        [*command, '--abbrev=40', '--exclude=*'], capture_output=True, text=True, timeout=LONGEST, check=True
      )
      return {'commit': done.stdout.strip()}
    except (OSError, subprocess.SubprocessError):  # There is no git, or it does not trust the folder.
      pass
  digest = hashlib.sha256()
  for path in sorted(package.rglob('*.py')):
    content = path.read_bytes()
    digest.update(f'{path.relative_to(package).as_posix()} {len(content)}\n'.encode() + content)
  return {'sha256': digest.hexdigest()}


def note(folder: Path, devices: str) -> None:
  """Writes the versions, the code and the devices, or says that they cannot be written.

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
