"""What is kept between runs, in a folder of the user's own: decoded images, what was learned of them,
compiled programs.

$DCGAN_JAX_CACHE, or dcgan_jax in $XDG_CACHE_HOME or ~/.cache. It may be deleted at any time.
"""

import hashlib
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dcgan_jax.data import sources

VERSION = 1  # of the decoding: raised when the same source and fit give other images


def folder() -> Path:
  """The cache's folder; it may not exist yet."""
  chosen = os.environ.get('DCGAN_JAX_CACHE')
  base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
  return Path(chosen).expanduser() if chosen else base / 'dcgan_jax'


def load(source: sources.Source, title: str) -> np.ndarray:
  """`sources.load`, done once for a source and a fit; afterwards mapped from disk.

  A cache that is broken, of other images, or on a disk without room for it, costs only the decoding.

  Returns:
    uint8 [N, H, W, C].

  Raises:
    InputError: no image could be decoded.
  """
  description = f'{VERSION} {source.identity()} {source.fit}'
  target = folder() / 'images' / (hashlib.sha256(description.encode()).hexdigest()[:32] + '.npy')
  about = target.with_suffix('.json')
  try:
    images = np.load(target, mmap_mode='r')
    skipped = json.loads(about.read_text())['skipped']
    sources.report_unreadable(skipped)
    return images
  except (OSError, ValueError, EOFError, KeyError):
    pass  # not there, or not whole
  images, skipped = sources.load(source, title)
  try:
    _make_private(target.parent)
    if shutil.disk_usage(target.parent).free > 2 * images.nbytes:
      part = target.with_name(f'{target.name}.{os.getpid()}.part')
      with part.open('wb') as file:
        np.save(file, images)
      about.write_text(json.dumps({'source': description, 'skipped': skipped}))
      part.replace(target)
  except OSError as error:
    print(f'not kept for the next start: {error}', flush=True)
  return images


def arrays(kind: str, description: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """What `make` gives, made once for a description and kept in a folder for its kind.

  A cache that is broken, or on a disk without room, costs only the making.
  """
  name = hashlib.sha256(description.encode()).hexdigest()[:32]
  target = folder() / kind / f'{name}.npz'
  try:
    with np.load(target) as kept:
      return dict(kept)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    pass  # not there, or not whole
  made = make()
  try:
    _make_private(target.parent)
    part = target.with_name(f'{target.name}.{os.getpid()}.part')
    with part.open('wb') as file:
      np.savez(file, **made)  # type: ignore[arg-type]
    part.replace(target)
  except OSError as error:
    print(f'not kept for the next start: {error}', flush=True)
  return made


def keep_compiled_programs() -> None:
  """Lets JAX keep what it compiles, unless the user has told JAX where to.

  Programs for a CPU are of this very CPU's instructions, and are run as they are found: so the folder is
  the user's own and one of its kind of CPU.
  """
  import jax  # the rest of this module works without

  if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
    return
  programs = folder() / 'programs' / _cpu()
  try:
    _make_private(programs)
  except OSError:
    return
  jax.config.update('jax_compilation_cache_dir', str(programs))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _make_private(path: Path) -> None:
  """Raises: OSError: it cannot be made, or belongs to somebody else."""
  path.mkdir(mode=0o700, parents=True, exist_ok=True)
  if hasattr(os, 'getuid') and path.stat().st_uid != os.getuid():
    raise PermissionError(f'{path} belongs to another user')


def _cpu() -> str:
  """Tells apart kinds of CPU."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    kind = next((line for line in lines if line.startswith(('flags', 'Features'))), '')
  except OSError:
    kind = platform.processor()
  return f'{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}'
