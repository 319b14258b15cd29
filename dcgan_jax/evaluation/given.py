"""Images given by the user, as a folder, a picture, an array or a data set, made to fit those of a run."""

from typing import NamedTuple

import numpy as np

from dcgan_jax import data, files
from dcgan_jax.data import array_file, arrays, sources
from dcgan_jax.errors import InputError, counted


class Given(NamedTuple):
  """Images and their names.

  Attributes:
    images: Images in the pixel format of the run, [N, H, W, C].
    names: Name of each: of its file, or of its place in an array or a data set.
  """

  images: np.ndarray
  names: list[str]


def read(origin: str, fit: data.Fit, num: int, least: int = 1) -> Given:
  """Reads the first images of a folder, a picture, an array or a data set.

  Args:
    origin: Path of a folder or a picture, which are made to fit; path of an .npy or .npz of images that fit;
      or tfds:NAME or tfds:NAME:SPLIT, with the split test by default.
    fit: Conversion of pictures to images.
    num: Maximum number of images.
    least: Minimum number of images.

  Raises:
    InputError: There are too few, or they have another shape.
  """
  try:
    source = _source(origin, fit)
    given = _of_array(origin, fit, num) if source is None else _of_source(source, origin, num)
  except InputError as error:
    if str(error).startswith('images='):
      raise
    # Errors of reading training images begin with the key of the config.
    raise InputError(f'images={origin}: {str(error).partition(": ")[2]}') from error
  if len(given.images) < least:
    raise InputError(
      f'images={origin}: has {counted(len(given.images), "image")}; {least} or more are needed'
    )
  return given


def _source(origin: str, fit: data.Fit) -> data.Source | None:
  """Returns the source with this name; None for an array.

  Raises:
    InputError: There is none.
  """
  if origin.startswith('tfds:'):
    name, _, split = origin.removeprefix('tfds:').partition(':')
    return data.open_source(f'tfds:{name}', split or 'test', fit)
  path = files.named('images', origin)
  if not path.exists():
    raise InputError(
      f'images={origin}: no such file or folder; give a folder, a picture, an .npy, an .npz or tfds:NAME'
    )
  if path.is_dir():
    return sources.open_folder(path, fit)
  return sources.Folder((path,), fit) if path.suffix.lower() in sources.SUFFIXES else None


def _of_source(source: data.Source, title: str, num: int) -> Given:
  """Reads the first images of a source, and prints the names of those that it skips.

  Raises:
    InputError: None of them can be decoded.
  """
  images, skipped = sources.load(source, title, num)
  names = [source.name(i) for i in range(min(num, len(source)))]
  return Given(images, [name for name in names if name not in skipped])


def _of_array(origin: str, fit: data.Fit, num: int) -> Given:
  """Reads the first images of an .npy or .npz.

  Raises:
    InputError: The file is neither, or its images do not fit.
  """
  path = files.named('images', origin)
  try:
    names = array_file.IMAGES  # in an .npz, as of the images that runs learn from
    with arrays.opened_npy(path) if path.suffix == '.npy' else arrays.opened_npz(path, *names) as array:
      check_shape(origin, array.dtype, array.shape, fit)
      images = array.read(num)
  except InputError as error:
    if str(error).startswith('images='):
      raise
    raise InputError(
      f'images={origin}: is not a folder, a picture, or an .npy or .npz of images: {error}'
    ) from error
  check_range(origin, images, fit)
  return Given(fit.pixels.keep(images), [f'{path.name}[{i}]' for i in range(len(images))])


def check_shape(origin: str, dtype: np.dtype, shape: tuple[int, ...], fit: data.Fit) -> None:
  """Checks the dtype and the shape of an array of images before it is read.

  Raises:
    InputError: The run has another dtype or another shape.
  """
  wanted, kind = (*fit.image_size, fit.channels), fit.pixels.dtype
  if dtype != kind or shape[1:] != wanted:
    raise InputError(f'images={origin}: {dtype} {shape}; this run has {kind} (N, *{wanted})')


def check_range(origin: str, images: np.ndarray, fit: data.Fit) -> None:
  """Checks that the numbers of images are in the range of the run's.

  Raises:
    InputError: Some are not, or are NaN.
  """
  low, high = fit.pixels.low, fit.pixels.high
  if not (images >= low).all() or not (images <= high).all():
    raise InputError(f'images={origin}: has numbers that are not from {low:g} to {high:g}, data.value_range')
