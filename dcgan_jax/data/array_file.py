"""Arrays of images in files: .npy, which is memory-mapped, and .npz, which is read into memory."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax import files
from dcgan_jax.data import arrays
from dcgan_jax.data.decode import Fit
from dcgan_jax.data.labels import Labels
from dcgan_jax.errors import InputError
from dcgan_jax.settings.rules import DTYPES

IMAGES, LABELS = ('x', 'images'), ('y', 'labels')  # names of arrays in an .npz
PART = 2**26  # bytes checked at a time


@dataclass(frozen=True)
class ArrayFile:
  """The images of a NumPy file.

  Attributes:
    path: Path of the .npy or .npz.
    stamp: Size of the file in bytes, and modification time in nanoseconds.
    shape: Shape of the images in the file, (N, H, W, C).
    fit: How images are converted to the training size.
  """

  path: Path
  stamp: tuple[int, int]
  shape: tuple[int, int, int, int]
  fit: Fit

  def __len__(self) -> int:
    return self.shape[0]

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    """Returns images, resized channel by channel if necessary."""
    return [self._fitted(self.images[int(i)]) for i in indices]

  def name(self, index: int) -> str:
    return f'image {index}'

  def identity(self) -> str:
    return f'array {self.path.resolve()} {self.stamp} {self.fit.pixels}'

  def labels(self) -> Labels:
    """Takes the array 'y' or 'labels' of an .npz, integers [N].

    Raises:
      InputError: The array is missing, or has another shape or kind.
    """
    field = f'data.source=npy:{self.path}'
    try:
      known = arrays.names_npz(self.path) if self.path.suffix == '.npz' else []
      names = [name for name in LABELS if name in known]
      if not names:
        raise InputError(
          'its images have no classes; give an .npz with them as integers [N], under the name y'
        )
      with arrays.opened_npz(self.path, *names) as array:
        found = array.read()
    except InputError as error:
      raise InputError(f'{field}: {error}') from error
    if found.shape != (len(self),) or found.dtype.kind not in 'iu':
      raise InputError(
        f'{field}: the classes are {found.dtype} {found.shape}; they should be integers ({len(self)},)'
      )
    values, classes = np.unique(found, return_inverse=True)
    return Labels(classes.astype(np.int32), tuple(map(str, values)))

  @property
  def images(self) -> np.ndarray:
    """All images in the file, unconverted, [N, H, W, C]."""
    return _read(self.path, self.stamp).reshape(self.shape)

  def ready(self) -> np.ndarray | None:
    """Returns all images, mapped or in memory, if they need no conversion; None otherwise."""
    images, pixels = self.images, self.fit.pixels
    fits = self.shape[1:3] == self.fit.image_size and images.dtype == pixels.kept and not pixels.transparent
    return images if fits else None

  @property
  def is_bound(self) -> bool:
    """Whether `fit.pixels` allows every value of the dtype."""
    pixels = self.fit.pixels
    limits = np.iinfo(pixels.dtype) if pixels.whole else None
    return limits is not None and (pixels.low, pixels.high) == (limits.min, limits.max)

  def check(self) -> dict[str, np.ndarray]:
    """Checks the values of all images; returns the number of images as `count`.

    Raises:
      InputError: A value is NaN or outside the range of `fit.pixels`.
    """
    from tqdm import tqdm

    low, high = self.fit.pixels.low, self.fit.pixels.high
    each = max(1, PART // (math.prod(self.shape[1:]) * self.images.itemsize))
    for start in tqdm(range(0, len(self), each), desc=f'checking {self.path.name}', disable=None):
      part = np.asarray(self.images[start : start + each])
      inside = (part >= low) & (part <= high)  # False for NaN
      if not inside.all():
        image, *place = (int(i) for i in np.unravel_index(inside.argmin(), part.shape))
        raise InputError(
          f'data.source=npy:{self.path}: image {start + image} has {part[image, *place]} at row, column, '
          f'channel {tuple(place)}; all numbers must be from {low:g} to {high:g}, see data.value_range'
        )
    return {'count': np.array(len(self))}

  def _fitted(self, image: np.ndarray) -> np.ndarray:
    """Converts an image [H, W, C] to the stored format and the training size."""
    pixels = self.fit.pixels
    image = pixels.keep(image)
    if image.shape[:2] == self.fit.image_size:
      return np.array(image)
    planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in np.moveaxis(image, -1, 0)]
    resized = np.stack([np.asarray(self.fit.resized(plane)) for plane in planes], -1)
    resized = np.rint(resized) if pixels.whole else resized
    return resized.clip(pixels.low, pixels.high).astype(pixels.kept)


def open_file(name: str, fit: Fit) -> ArrayFile:
  """Opens an .npy or .npz of images, reading only its header; prints a line if they will be resized.

  Args:
    name: Path of the file. In an .npz the images are the array 'x' or 'images', or else the first one.
    fit: How images are converted to the training size.

  Raises:
    InputError: The file is missing or broken, or its channels or dtype are not those of `fit`.
  """
  path = files.named('data.source', name)
  field = f'data.source=npy:{name}'
  try:
    status = path.stat()
    opened = arrays.opened_npz(path, *IMAGES) if path.suffix == '.npz' else arrays.opened_npy(path)
    with opened as array:
      found, dtype, in_columns = array.shape, array.dtype, array.in_columns
  except OSError as error:
    raise InputError(f'{field}: {error.strerror}; give the path of an .npy or .npz') from error
  except InputError as error:
    raise InputError(f'{field}: {error}') from error
  if in_columns and len(found) > 1:
    raise InputError(f"{field}: is in Fortran's order; save numpy.ascontiguousarray of it")
  shape = _image_shape(field, found, fit.channels)
  if dtype.name not in DTYPES:
    raise InputError(f'{field}: its numbers are {dtype.name}; save them as one of {", ".join(DTYPES)}')
  if dtype.name != fit.pixels.dtype:
    raise InputError(f'data.dtype={fit.pixels.dtype}: the numbers of {name} are {dtype.name}; set it to that')
  if shape[1:3] != fit.image_size:
    sizes = ' to '.join('x'.join(map(str, size)) for size in (shape[1:3], fit.image_size))
    print(f'{path}: images are resized from {sizes} pixels, by data.fit={fit.mode}', flush=True)
  return ArrayFile(path, (status.st_size, status.st_mtime_ns), shape, fit)


def _image_shape(field: str, shape: tuple[int, ...], channels: int) -> tuple[int, int, int, int]:
  """Returns a shape as (N, H, W, C).

  Raises:
    InputError: The shape is not that of images with `channels` channels.
  """
  if len(shape) not in (3, 4) or not all(shape):
    raise InputError(f'{field}: is of shape {shape}; images are (N, H, W) or (N, H, W, C)')
  count, height, width, found = (*shape, 1)[:4]
  if found == channels:
    return count, height, width, found
  if len(shape) == 4 and height < min(width, found):
    raise InputError(
      f'{field}: is of shape {shape}, which looks like (N, C, H, W); save numpy.moveaxis(x, 1, -1) of it'
    )
  raise InputError(f'data.channels={channels}: the images of {field} have {found}; set it to that')


@functools.lru_cache(maxsize=2)
def _read(path: Path, stamp: tuple[int, int]) -> np.ndarray:
  """Returns the images of a file: an .npy memory-mapped, an .npz in memory.

  They are not a field of the source, so that pickling a source does not copy them.

  Raises:
    InputError: The file is broken, or larger than half of the free memory.
  """
  try:
    if path.suffix != '.npz':
      return arrays.map_npy(path)
    with arrays.opened_npz(path, *IMAGES) as array:
      size, memory = math.prod(array.shape) * array.dtype.itemsize, files.free_memory()
      if memory and size > memory // 2:
        raise InputError(
          f'takes {size / 2**30:.1f} GiB, more than half of the free memory; save it as an .npy, which is '
          'read from the disk as needed'
        )
      return array.read()
  except InputError as error:
    raise InputError(f'data.source=npy:{path}: {error}') from error
