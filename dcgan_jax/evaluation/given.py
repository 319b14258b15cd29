"""Images from elsewhere, which a user names one way or another, made to fit those of a run."""

from typing import NamedTuple

import numpy as np

from dcgan_jax import data, files
from dcgan_jax.data import arrays, sources
from dcgan_jax.errors import InputError


class Given(NamedTuple):
  """Some images, and what each is called.

  Attributes:
    images: [N, H, W, C], as they are kept.
    names: N names: of their files, or of their places in an array or a data set.
  """

  images: np.ndarray
  names: list[str]


def read(origin: str, fit: data.Fit, num: int, least: int = 1) -> Given:
  """Reads the first images of a folder, of a picture, of an array or of a data set.

  Args:
    origin: the path of a folder or of a picture, which are made to fit; of an .npy or .npz of images that
      fit; or tfds:NAME or tfds:NAME:SPLIT, whose split is test by default.
    fit: how pictures become images.
    num: how many images to read at most.
    least: how many there must be.

  Raises:
    InputError: in one line; they are too few, or of another shape.
  """
  try:
    source = _source(origin, fit)
    given = _of_array(origin, fit, num) if source is None else _of_source(source, origin, num)
  except InputError as error:
    if str(error).startswith('images='):
      raise
    # What reads training images names the config's key.
    raise InputError(f'images={origin}: {str(error).partition(": ")[2]}') from error
  if len(given.images) < least:
    raise InputError(f'images={origin}: has {len(given.images)} images; {least} or more are needed')
  return given


def _source(origin: str, fit: data.Fit) -> data.Source | None:
  """Returns the source that a user names, or None for an array.

  Raises:
    InputError: there is no such thing.
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
  """Reads the first images of a source, and prints which of them it skips.

  Raises:
    InputError: none of them can be decoded.
  """
  images, skipped = sources.load(source, title, num)
  names = [source.name(i) for i in range(min(num, len(source)))]
  return Given(images, [name for name in names if name not in skipped])


def _of_array(origin: str, fit: data.Fit, num: int) -> Given:
  """Reads the first images of an .npy or .npz.

  Raises:
    InputError: it is neither, or its images do not fit.
  """
  path = files.named('images', origin)
  try:
    with arrays.opened_npy(path) if path.suffix == '.npy' else arrays.opened_npz(path, 'x') as array:
      check_shape(origin, array.dtype, array.shape, fit)
      images = array.read(num)
  except InputError as error:
    if str(error).startswith('images='):
      raise
    raise InputError(
      f'images={origin}: is no folder, no picture and no .npy or .npz of images: {error}'
    ) from error
  check_numbers(origin, images, fit)
  return Given(fit.pixels.keep(images), [f'{path.name}[{i}]' for i in range(len(images))])


def check_shape(origin: str, dtype: np.dtype, shape: tuple[int, ...], fit: data.Fit) -> None:
  """Refuses an array of other images than those of a run, before it is read.

  Raises:
    InputError: they are of another shape or dtype.
  """
  wanted, kind = (*fit.image_size, fit.channels), fit.pixels.dtype
  if dtype != kind or shape[1:] != wanted:
    raise InputError(f'images={origin}: {dtype} {shape}; this run has {kind} (N, *{wanted})')


def check_numbers(origin: str, images: np.ndarray, fit: data.Fit) -> None:
  """Refuses images whose numbers are not in the range of the run's.

  Raises:
    InputError: some are not, or are no numbers (NaN).
  """
  low, high = fit.pixels.low, fit.pixels.high
  if not (images >= low).all() or not (images <= high).all():
    raise InputError(f'images={origin}: has numbers that are not from {low:g} to {high:g}, data.value_range')
