"""The cache: decoded images, arrays computed from them, and compiled programs, kept from one run to the next.

It is the folder $DCGAN_JAX_CACHE or, without that variable, dcgan_jax in $XDG_CACHE_HOME or ~/.cache. It may
be deleted at any time. A cache that is broken, or that cannot be written, costs only the time to do the work
again. Importing this module does not import JAX.
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

VERSION = 1  # of the decoding; raise it when the same source and fit come to give other images


def folder() -> Path:
  """Returns the folder of the cache, which may not exist yet; without a home folder one that cannot."""
  chosen = os.environ.get('DCGAN_JAX_CACHE')
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  try:
    return Path(chosen or f'{base}/dcgan_jax').expanduser()
  except RuntimeError:  # as in a container, whose user has no name and no HOME
    return Path(os.devnull, 'no home folder')


def load(source: sources.Source, title: str) -> np.ndarray:
  """Loads all images of a source: decodes them to the disk the first time, and maps them from there.

  Where the cache cannot be written they are decoded into memory.

  Args:
    source: the images.
    title: what the source is called in the progress bar and in errors.

  Returns:
    [N, H, W, C] as `source.fit.pixels` are kept, without the images that cannot be decoded.

  Raises:
    InputError: no image could be decoded.
  """
  return (_load_mapped(source, title) or sources.load(source, title))[0]


def load_large(source: sources.Source, title: str) -> tuple[np.ndarray, list[str]] | None:
  """Loads images as `load` does, unless neither the disk nor half of the memory has room for them.

  Returns:
    The images, [N, H, W, C], and the names of those that cannot be decoded and are left out; None if there is
    no room.

  Raises:
    InputError: no image could be decoded.
  """
  mapped = _load_mapped(source, title)
  if mapped is None and size(source) <= files.free_memory() // 2:
    return sources.load(source, title)
  return mapped


def size(source: sources.Source) -> int:
  """Returns how many bytes all images of a source take when they are decoded."""
  fit = source.fit
  return len(source) * math.prod((*fit.image_size, fit.channels)) * fit.pixels.kept.itemsize


def _load_mapped(source: sources.Source, title: str) -> tuple[np.ndarray, list[str]] | None:
  """Returns the images of the cache, and the names of those left out; decodes them first if need be.

  Where they cannot be kept it says why and returns None. An array that needs no change is not copied.
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
      # Another process may have decoded them while this one waited for its turn.
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
  """Decodes all images to one file, and notes in another one which of them cannot be decoded.

  Raises:
    OSError: it cannot be written, or would leave less than a twentieth of the disk free.
    InputError: no image could be decoded.
  """
  wanted, usage = size(source), shutil.disk_usage(target.parent)
  if usage.free - wanted < usage.total // 20:
    raise OSError(errno.ENOSPC, f'no room for {wanted / 2**20:,.1f} MiB of images', str(target.parent))

  def images() -> Iterator[np.ndarray]:
    skipped: list[str] = []
    for chunk, unreadable in chunks:
      skipped += unreadable
      yield chunk
    with files.whole(about) as part:  # before the images are there
      part.write_text(json.dumps({'source': description, 'skipped': skipped}))

  with contextlib.closing(sources.decoded(source, title)) as chunks:
    fit = source.fit
    arrays_files.write_npy(target, images(), (*fit.image_size, fit.channels), fit.pixels.kept)


@contextlib.contextmanager
def _turn(target: Path, title: str) -> Iterator[None]:
  """Lets one process at a time decode to a file; one that another process was killed at is removed.

  On a file system without locks they all decode, each to a file of its own, and the last one's stays.
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
  """Returns kept images and the names of those left out; None if they are not there, or not whole."""
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
    if make_folder is not None:
      make_folder(target.parent)
    with files.whole(target) as part, part.open('wb') as file:
      np.savez(file, **made)  # type: ignore[arg-type]
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
