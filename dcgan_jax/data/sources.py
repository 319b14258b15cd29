"""Sources of training images: digits, folders, arrays, tfds. Imports neither JAX nor TensorFlow."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from dcgan_jax import files, threads
from dcgan_jax.data import array_file, decode
from dcgan_jax.data.decode import Fit
from dcgan_jax.data.labels import Labels
from dcgan_jax.errors import InputError, counted, printable

CHUNK = 2**22  # bytes of decoded images per task of a thread, which has at most 256 images
SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')


class Source(Protocol):
  """An indexed collection of images of one size."""

  @property
  def fit(self) -> Fit:
    """How the images are converted to the training size."""
    ...

  def __len__(self) -> int:
    """Returns the number of images."""
    ...

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    """Returns the images at these indices, [H, W, C] each in `fit.pixels.kept`; None for unreadable ones."""
    ...

  def name(self, index: int) -> str:
    """Returns the name of an image in messages."""
    ...

  def identity(self) -> str:
    """Returns a unique key of the images, independent of `fit`."""
    ...

  def labels(self) -> Labels:
    """Returns the class of each image, and the names of the classes.

    Raises:
      InputError: Some or all images have no class.
    """
    ...


@dataclass(frozen=True)
class Digits:
  """The 1,797 handwritten digits, 8x8 gray, that ship with scikit-learn (test part of UCI optdigits)."""

  fit: Fit

  def __len__(self) -> int:
    return 1797  # a constant, so that scikit-learn is not imported if the images are cached

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    return [self.fit(Image.fromarray(_digits()[i])) for i in indices]

  def name(self, index: int) -> str:
    return f'digit {index}'

  def identity(self) -> str:
    return 'digits'

  def labels(self) -> Labels:
    from sklearn import datasets

    return Labels(datasets.load_digits().target.astype(np.int32), tuple('0123456789'))


@functools.cache
def _digits() -> np.ndarray:
  """Returns all digits, uint8 [1797, 8, 8]."""
  from sklearn import datasets  # slow to import

  return (datasets.load_digits().images * (255 / 16)).astype(np.uint8)


@dataclass(frozen=True)
class Folder:
  """Image files of a folder."""

  paths: tuple[Path, ...]
  fit: Fit

  def __len__(self) -> int:
    return len(self.paths)

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    return [decode.read(self.paths[i], self.fit) for i in indices]

  def name(self, index: int) -> str:
    return str(self.paths[index])

  def identity(self) -> str:
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
    return f'folder {hashlib.sha256(repr(files).encode()).hexdigest()}'

  def labels(self) -> Labels:
    """Takes the name of each file's folder as its class.

    Raises:
      InputError: All files are in one folder.
    """
    names = sorted({path.parent.name for path in self.paths})
    if len(names) < 2:
      raise InputError('data.source: its images have no classes; put those of each into a folder of its own')
    numbers = {name: number for number, name in enumerate(names)}
    classes = np.array([numbers[path.parent.name] for path in self.paths], np.int32)
    return Labels(classes, tuple(names))


@dataclass(frozen=True)
class Stacked:
  """Triples of gray images as the channels of colour images; each triple of classes is a class.

  With MNIST this is Stacked MNIST, the benchmark for mode collapse (Metz et al. 2017; Lin et al. 2018,
  section 4.1). The triples are drawn with a fixed seed.

  Attributes:
    gray: Source of the gray images.
    count: Number of triples.
  """

  gray: Source
  count: int = 128_000

  @property
  def fit(self) -> Fit:
    return dataclasses.replace(self.gray.fit, channels=3)

  def __len__(self) -> int:
    return self.count

  @threads.cached_property
  def triples(self) -> np.ndarray:
    """Indices of the gray images of each triple, [count, 3]."""
    return np.random.default_rng(0).integers(len(self.images), size=(self.count, 3))

  @threads.cached_property
  def images(self) -> np.ndarray:
    """All gray images, uint8 [N, H, W, 1]."""
    return load(self.gray, 'gray images')[0]

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    return [np.moveaxis(self.images[self.triples[i], ..., 0], 0, -1) for i in indices]

  def name(self, index: int) -> str:
    return f'triple {index}'

  def identity(self) -> str:
    return f'stacked {self.count} {self.gray.identity()}'

  def labels(self) -> Labels:
    classes, names = self.gray.labels()
    if len(classes) != len(self.images):
      raise InputError('data.source: images that cannot be decoded have labels; remove them')
    numbers = classes[self.triples] @ np.array([len(names) ** 2, len(names), 1])
    triples = tuple(f'{a}-{b}-{c}' for a in names for b in names for c in names)
    return Labels(numbers.astype(np.int32), triples)


def open_folder(folder: Path, fit: Fit) -> Folder:
  """Opens the images below a folder, sorted by path, and prints the files that are skipped.

  Only suffixes and headers are checked.

  Raises:
    InputError: The folder does not exist or has no readable image.
  """
  if not folder.is_dir():
    raise InputError(f'data.source=folder:{folder}: no such folder; give the path of one with images')
  decode.check(f'data.source=folder:{folder}', fit)
  found, closed = _files(folder)
  candidates = [p for p in found if p.suffix.lower() in SUFFIXES]
  with ThreadPoolExecutor() as pool:
    readable = list(pool.map(decode.is_image, candidates))
  paths = tuple(p for p, ok in zip(candidates, readable) if ok)
  if not paths:
    raise InputError(
      f'data.source=folder:{folder}: no readable image in {counted(len(found), "file")} '
      f'(looked for {", ".join(s[1:].upper() for s in SUFFIXES)}, also in its subfolders)'
    )
  others = [p for p in found if p.suffix.lower() not in SUFFIXES]
  if others:
    print(
      f'{folder}: passed over {counted(len(others), "file")} without the suffix of an image, e.g. '
      f'{printable(others[0].name)}',
      flush=True,
    )
  report_unreadable([*closed, *(str(p) for p, ok in zip(candidates, readable) if not ok)])
  return Folder(paths, fit)


def _files(folder: Path) -> tuple[list[Path], list[str]]:
  """Returns the sorted files below a folder, and the names of folders and images that cannot be opened.

  The latter are folders without read permission, dangling links and pipes.
  """
  found: list[Path] = []
  closed: list[str] = []
  for root, _, names in os.walk(folder, onerror=lambda error: closed.append(str(error.filename))):
    for name in names:
      path = Path(root, name)
      if name.startswith('.'):
        continue
      if os.path.isfile(path):
        found.append(path)
      elif path.suffix.lower() in SUFFIXES:
        closed.append(str(path))
  return sorted(found), closed


def report_unreadable(names: list[str]) -> None:
  """Prints the number of skipped files and the first twenty names."""
  if names:
    shown = ', '.join(map(printable, names[:20])) + (' ...' if len(names) > 20 else '')
    print(f'skipped {len(names)} unreadable: {shown}', flush=True)


def load(source: Source, title: str, most: int = sys.maxsize) -> tuple[np.ndarray, list[str]]:
  """Decodes a whole source into memory, in threads, with a progress bar on a terminal.

  Unreadable images are left out, and their names are printed.

  Args:
    source: Source of the images.
    title: Name of the source in the progress bar and in errors.
    most: Maximum number of images; the first ones are decoded.

  Returns:
    The images in their stored format, [N, H, W, C], and the names of the unreadable ones.

  Raises:
    InputError: No image can be decoded.
  """
  fit, count = source.fit, 0
  images = np.empty((min(most, len(source)), *fit.image_size, fit.channels), fit.pixels.kept)
  skipped: list[str] = []
  for chunk, unreadable in decoded(source, title, most):
    images[count : count + len(chunk)] = chunk
    count += len(chunk)
    skipped += unreadable
  report_unreadable(skipped)
  return images[:count], skipped


def decoded(
  source: Source, title: str, most: int = sys.maxsize
) -> Generator[tuple[np.ndarray, list[str]], None, None]:
  """Decodes a whole source as `load` does, chunk by chunk, to bound memory.

  Yields:
    The next images, [n, H, W, C], and the names of the unreadable ones among them, which are left out.

  Raises:
    InputError: No image can be decoded; raised after the last chunk.
  """
  from tqdm import tqdm

  count, fit, found = min(most, len(source)), source.fit, 0
  each = min(256, max(1, CHUNK // math.prod((*fit.image_size, fit.channels))))
  chunks = (range(start, min(start + each, count)) for start in range(0, count, each))
  workers = min(32, (os.cpu_count() or 1) + 4)
  made = threads.map_ahead(functools.partial(_decode, source), chunks, workers, 2 * workers)
  with contextlib.closing(made), tqdm(total=count, desc=title, unit='image', disable=None) as bar:
    for images, unreadable in made:
      found += len(images)
      bar.update(len(images) + len(unreadable))
      yield images, unreadable
  if not found:
    raise InputError(f'data.source={title}: none of {count} images can be decoded, e.g. {source.name(0)}')


def _decode(source: Source, indices: Sequence[int]) -> tuple[np.ndarray, list[str]]:
  """Returns the images at these indices, and the names of the unreadable ones."""
  images = source.read(indices)
  made = np.empty((len(images), *source.fit.image_size, source.fit.channels), source.fit.pixels.kept)
  readable = [image for image in images if image is not None]
  for row, image in zip(made, readable):
    row[...] = image
  return made[: len(readable)], [source.name(i) for i, image in zip(indices, images) if image is None]


def open_source(source: str, split: str, fit: Fit) -> Source:
  """Opens a source; downloads and prepares a tfds data set first if necessary.

  Args:
    source: 'digits' | 'tfds:NAME' | 'folder:PATH' | 'npy:PATH' | 'stacked:' and one of these.
    split: Split of a tfds data set in tfds notation ('train', 'train[:10%]').
    fit: How images are converted to the training size.

  Raises:
    InputError: The source does not exist or has no usable images.
  """
  kind, _, name = source.partition(':')
  if kind not in SOURCES or (kind == 'digits') != (name == ''):
    raise InputError(f'data.source={source!r}: choose digits, tfds:NAME, folder:PATH or npy:PATH')
  return SOURCES[kind](name, split, fit)


def _open_digits(name: str, split: str, fit: Fit) -> Digits:
  """Opens scikit-learn's digits."""
  if fit.channels != 1:
    raise InputError(f'data.channels={fit.channels}: the digits are gray; set it to 1')
  return Digits(fit)


def _open_stacked(name: str, split: str, fit: Fit) -> Stacked:
  """Opens a source of gray images to stack."""
  if fit.channels != 3:
    raise InputError(
      f'data.channels={fit.channels}: stacked images have a channel for each of three; set it to 3'
    )
  return Stacked(open_source(name, split, dataclasses.replace(fit, channels=1)))


def _open_tfds(name: str, split: str, fit: Fit) -> Source:
  """Opens a tfds data set."""
  from dcgan_jax.data import tfds  # slow to import

  decode.check(f'data.source=tfds:{name}', fit)
  return tfds.open_tfds(name, split, fit)


# Kinds of `data.source` by the part before the colon: (part after the colon, split, fit) -> Source.
SOURCES: dict[str, Callable[[str, str, Fit], Source]] = {
  'digits': _open_digits,
  'folder': lambda name, split, fit: open_folder(files.named('data.source', name), fit),
  'npy': lambda name, split, fit: array_file.open_file(name, fit),
  'stacked': _open_stacked,
  'tfds': _open_tfds,
}
