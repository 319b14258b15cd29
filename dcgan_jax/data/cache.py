"""The cache of decoded images, arrays computed from them and compiled programs.

It is the folder $DCGAN_JAX_CACHE, or else dcgan_jax in $XDG_CACHE_HOME or ~/.cache, and may be deleted at any
time. A broken or read-only cache costs time only. Importing this module does not import JAX.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from dcgan_jax import files
from dcgan_jax.data import arrays as arrays_files
from dcgan_jax.data import sources
from dcgan_jax.data.array_file import ArrayFile
from dcgan_jax.errors import InputError

Arrays = dict[str, np.ndarray]

VERSION = 1  # decoder version; increase it when the same source and fit give other images


def folder() -> Path:
  """Returns the cache folder, which may not exist yet; without a home folder, one that cannot exist."""
  chosen = os.environ.get('DCGAN_JAX_CACHE')
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  try:
    return Path(chosen or f'{base}/dcgan_jax').expanduser()
  except RuntimeError:  # e.g. in a container whose user has no name and no HOME
    return Path(os.devnull, 'no home folder')


def load(source: sources.Source, title: str) -> np.ndarray:
  """Returns all images of a source, memory-mapped from the cache, where the first call decodes them.

  If the cache cannot be written, they are decoded into memory.

  Args:
    source: Source of the images.
    title: Name of the source in the progress bar and in errors.

  Returns:
    The readable images, [N, H, W, C] in `source.fit.pixels.kept`.

  Raises:
    InputError: No image can be decoded.
  """
  return (_load_mapped(source, title) or sources.load(source, title))[0]


def load_large(source: sources.Source, title: str) -> tuple[np.ndarray, list[str]] | None:
  """Loads images as `load` does if they fit on the disk or into half of the free memory.

  Returns:
    The readable images, [N, H, W, C], and the names of the unreadable ones; None if there is no room.

  Raises:
    InputError: No image can be decoded.
  """
  mapped = _load_mapped(source, title)
  if mapped is None and size(source) <= files.free_memory() // 2:
    return sources.load(source, title)
  return mapped


def size(source: sources.Source) -> int:
  """Returns the size of a source's decoded images in bytes."""
  fit = source.fit
  return len(source) * math.prod((*fit.image_size, fit.channels)) * fit.pixels.kept.itemsize


def _load_mapped(source: sources.Source, title: str) -> tuple[np.ndarray, list[str]] | None:
  """Returns the cached images and the names of those left out; decodes them first if necessary.

  If they cannot be cached, prints why and returns None. An array that needs no conversion is not copied.
  """
  if isinstance(source, ArrayFile):
    if not source.is_bound:
      arrays('checked', source.identity(), source.check)
    if (ready := source.ready()) is not None:
      return ready, []
  description = f'{VERSION} {source.identity()} {source.fit}'
  target = folder() / 'images' / (hashlib.sha256(description.encode()).hexdigest()[:32] + '.npy')
  about = target.with_suffix('.json')
  kept = _kept_images(target, about, source)
  if kept is not None:
    sources.report_unreadable(kept[1])
    return kept
  try:
    _make_private(target.parent)
    with _turn(target, title):
      # Another process may have decoded them while this one waited for the lock.
      if _kept_images(target, about, source) is None:
        _decode_to(target, about, description, source, title)
  except OSError as error:
    print(f'not kept for the next start: {error}', flush=True)
    return None
  kept = _kept_images(target, about, source)
  if kept is not None:
    sources.report_unreadable(kept[1])
  return kept


def _decode_to(target: Path, about: Path, description: str, source: sources.Source, title: str) -> None:
  """Decodes all images to `target`, and writes the names of the unreadable ones to `about`.

  Raises:
    OSError: A file cannot be written, or less than 5 % of the disk would stay free.
    InputError: No image can be decoded.
  """
  wanted, usage = size(source), shutil.disk_usage(target.parent)
  if usage.free - wanted < usage.total // 20:
    raise OSError(errno.ENOSPC, f'no room for {wanted / 2**20:,.1f} MiB of images', str(target.parent))

  def images() -> Iterator[np.ndarray]:
    skipped: list[str] = []
    for chunk, unreadable in chunks:
      skipped += unreadable
      yield chunk
    with files.whole(about) as part:  # before the images are moved into place
      part.write_text(json.dumps({'source': description, 'skipped': skipped}))

  with contextlib.closing(sources.decoded(source, title)) as chunks:
    fit = source.fit
    arrays_files.write_npy(target, images(), (*fit.image_size, fit.channels), fit.pixels.kept)


@contextlib.contextmanager
def _turn(target: Path, title: str) -> Iterator[None]:
  """Holds the lock for decoding to a file, and removes leftovers of killed processes.

  On a file system without locks, concurrent processes each decode to a file of their own; the last one wins.
  """
  lock = FileLock(target.with_suffix('.lock'))
  try:
    try:
      lock.acquire(blocking=False)
    except Timeout:
      print(f'{title}: another process decodes its images; waiting for it ({lock.lock_file})', flush=True)
      lock.acquire()
    for unfinished in target.parent.glob(f'{target.name}.*.part'):
      unfinished.unlink()
  except (OSError, NotImplementedError):
    pass
  try:
    yield
  finally:
    lock.release()


def _kept_images(target: Path, about: Path, source: sources.Source) -> tuple[np.ndarray, list[str]] | None:
  """Returns the cached images and the names of those left out; None if they are missing or damaged."""
  try:
    images, notes = arrays_files.map_npy(target), files.read_json(about, 2**28)
  except InputError:
    return None
  skipped = notes.get('skipped') if isinstance(notes, dict) else None
  fit = source.fit
  if images.dtype != fit.pixels.kept or images.shape[1:] != (*fit.image_size, fit.channels):
    return None
  if not isinstance(skipped, list) or not all(isinstance(name, str) for name in skipped):
    return None
  return (images, skipped) if len(images) + len(skipped) == len(source) else None


def arrays(
  kind: str, description: str, make: Callable[[], Arrays], fits: Callable[[Arrays], bool] = bool
) -> Arrays:
  """Returns the cached result of `make`.

  Args:
    kind: Subfolder of the cache.
    description: Key of the arrays.
    make: Function that computes the arrays.
    fits: Check of cached arrays; those that fail are computed again.
  """
  name = hashlib.sha256(description.encode()).hexdigest()[:32]
  return arrays_in(folder() / kind / f'{name}.npz', make, fits, _make_private)


def arrays_in(
  target: Path,
  make: Callable[[], Arrays],
  fits: Callable[[Arrays], bool] = bool,
  make_folder: Callable[[Path], None] = lambda folder: folder.mkdir(exist_ok=True),
) -> Arrays:
  """Returns the arrays of a file; if it is missing or damaged, computes them and tries to write it.

  Args:
    target: Path of the file, an .npz.
    make: Function that computes the arrays.
    fits: Check of the arrays of the file; those that fail are computed again.
    make_folder: Function that creates the folder of the file.
  """
  try:
    kept = arrays_files.read_npz(target)
    if fits(kept):
      return kept
  except InputError:
    pass  # missing or damaged
  made = make()
  try:
    make_folder(target.parent)
    with files.whole(target) as part, part.open('wb') as file:
      np.savez(file, **made)  # type: ignore[arg-type]
  except OSError as error:
    print(f'not kept for the next start: {error}', flush=True)
  return made


def keep_compiled_programs() -> None:
  """Enables JAX's persistent compilation cache, unless the user has configured one.

  Cached CPU programs are machine code and run unchecked, so the folder must belong to the user, and each type
  of CPU has its own.
  """
  import jax  # The rest of this module does not need it.

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
  """Creates a folder that only this user can read, with its parents.

  Raises:
    OSError: The folder cannot be created or belongs to another user.
  """
  path.mkdir(mode=0o700, parents=True, exist_ok=True)
  if hasattr(os, 'getuid') and path.stat().st_uid != os.getuid():
    raise PermissionError(f'{path} belongs to another user')


def _cpu() -> str:
  """Returns a name for this type of CPU, derived from its instruction sets."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    kind = next((line for line in lines if line.startswith(('flags', 'Features'))), '')
  except OSError:
    kind = platform.processor()
  return f'{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}'
