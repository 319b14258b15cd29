"""The cache: decoded images, arrays computed from them, and compiled programs, kept from one run to the next.

It is the folder $DCGAN_JAX_CACHE or, without that variable, dcgan_jax in $XDG_CACHE_HOME or ~/.cache. It may
be deleted at any time. A cache that is broken, or on a disk without room, costs only the time to do the work
again. Importing this module does not import JAX.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dcgan_jax import files
from dcgan_jax.data import arrays as arrays_files
from dcgan_jax.data import sources
from dcgan_jax.data.decode import Fit
from dcgan_jax.errors import InputError

Arrays = dict[str, np.ndarray]

VERSION = 1  # of the decoding; raise it when the same source and fit come to give other images


def folder() -> Path:
  """Returns the folder of the cache, which may not exist yet."""
  chosen = os.environ.get('DCGAN_JAX_CACHE')
  base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
  return Path(chosen).expanduser() if chosen else base / 'dcgan_jax'


def load(source: sources.Source, title: str) -> np.ndarray:
  """Loads all images of a source: decodes them the first time, and maps them from disk afterwards.

  Args:
    source: the images.
    title: what the source is called in the progress bar and in errors.

  Returns:
    uint8 [N, H, W, C], without the images that cannot be decoded.

  Raises:
    InputError: no image could be decoded.
  """
  description = f'{VERSION} {source.identity()} {source.fit}'
  target = folder() / 'images' / (hashlib.sha256(description.encode()).hexdigest()[:32] + '.npy')
  about = target.with_suffix('.json')
  kept = _kept_images(target, about, source.fit)
  if kept is not None:
    sources.report_unreadable(kept[1])
    return kept[0]
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


def _kept_images(target: Path, about: Path, fit: Fit) -> tuple[np.ndarray, list[str]] | None:
  """Returns kept images and the names of those left out; None if they are not there, or not whole."""
  try:
    images, notes = arrays_files.map_npy(target), files.read_json(about, 2**28)
  except InputError:
    return None
  skipped = notes.get('skipped') if isinstance(notes, dict) else None
  if images.dtype != np.uint8 or images.shape[1:] != (*fit.image_size, fit.channels):
    return None
  if not isinstance(skipped, list) or not all(isinstance(name, str) for name in skipped):
    return None
  return images, skipped


def arrays(
  kind: str, description: str, make: Callable[[], Arrays], fits: Callable[[Arrays], bool] = bool
) -> Arrays:
  """Returns the arrays that `make` returns, which is called only the first time.

  Args:
    kind: name of the subfolder that they are kept in.
    description: identifies them; another description stands for other arrays.
    make: computes them.
    fits: whether arrays are such as `make` returns; if not, they are made again.
  """
  name = hashlib.sha256(description.encode()).hexdigest()[:32]
  return arrays_in(folder() / kind / f'{name}.npz', make, fits, _make_private)


def arrays_in(
  target: Path,
  make: Callable[[], Arrays],
  fits: Callable[[Arrays], bool] = bool,
  make_folder: Callable[[Path], None] | None = None,
) -> Arrays:
  """Returns the arrays of a file or, where it is not there or not whole, makes them and tries to write it.

  Args:
    target: the file, an .npz.
    make: computes the arrays.
    fits: whether arrays are such as `make` returns; if not, they are made again.
    make_folder: creates its folder, if that is to be done in a special way.
  """
  try:
    kept = arrays_files.read_npz(target)
    if fits(kept):
      return kept
  except InputError:
    pass  # The file is not there, or not whole.
  made = make()
  try:
    if make_folder is None:
      target.parent.mkdir(parents=True, exist_ok=True)
    else:
      make_folder(target.parent)
    part = target.with_name(f'{target.name}.{os.getpid()}.part')
    with part.open('wb') as file:
      np.savez(file, **made)  # type: ignore[arg-type]
    part.replace(target)
  except OSError as error:
    print(f'not kept for the next start: {error}', flush=True)
  return made


def keep_compiled_programs() -> None:
  """Lets JAX keep the programs that it compiles, unless the user has already told JAX where to keep them.

  A program for a CPU contains machine code, and it is run as it is found. Therefore the folder must belong to
  the user, and each kind of CPU has a folder of its own.
  """
  import jax  # The rest of this module works without it.

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
  """Creates a folder, with its parents, that only this user can read.

  Raises:
    OSError: it cannot be created, or belongs to another user.
  """
  path.mkdir(mode=0o700, parents=True, exist_ok=True)
  if hasattr(os, 'getuid') and path.stat().st_uid != os.getuid():
    raise PermissionError(f'{path} belongs to another user')


def _cpu() -> str:
  """Returns a name for this kind of CPU, by its instruction sets."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    kind = next((line for line in lines if line.startswith(('flags', 'Features'))), '')
  except OSError:
    kind = platform.processor()
  return f'{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}'
