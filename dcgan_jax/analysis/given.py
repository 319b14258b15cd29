"""Reads the images that a user names, one way or another, and makes them fit a run."""

import math
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


def read(origin: str, fit: data.Fit, num: int) -> Given:
  """Reads the first images of a folder, of a picture, of an array or of a data set.

  Args:
    origin: the path of a folder or of a picture, which are made to fit; of an .npz of images that fit; or
      tfds:NAME or tfds:NAME:SPLIT, whose split is test by default.
    fit: how pictures become images.
    num: how many images to read at most.

  Raises:
    InputError: in one line; there are none, or they are of another shape.
  """
  try:
    if origin.startswith('tfds:'):
      name, _, split = origin.removeprefix('tfds:').partition(':')
      return _of_source(data.open_source(f'tfds:{name}', split or 'test', fit), num)
    path = files.named('images', origin)
    if not path.exists():
      raise InputError('images: no such file or folder; give a folder, a picture, an .npz or tfds:NAME')
    if path.is_dir():
      return _of_source(sources.open_folder(path, fit), num)
    if path.suffix.lower() in sources.SUFFIXES:
      return _of_source(sources.Folder((path,), fit), 1)
  except InputError as error:
    # Here it is not the config that names them.
    raise InputError(f'images={origin}: {str(error).partition(": ")[2] or error}') from error
  try:
    with arrays.opened_npz(path, 'x') as array:
      wanted = (*fit.image_size, fit.channels)
      dtype = fit.pixels.dtype
      if array.dtype != np.dtype(dtype) or array.shape[1:] != wanted or not math.prod(array.shape):
        kind = f'{array.dtype} {array.shape}'
        raise InputError(f'has {kind} as its images; this run has {dtype} (N, *{wanted}), N 1 or more')
      images = fit.pixels.keep(array.read(num))
  except InputError as error:
    raise InputError(f'images={origin}: is no folder, no picture and no .npz of images: {error}') from error
  return Given(images, [f'{path.name}[{i}]' for i in range(len(images))])


def _of_source(source: data.Source, num: int) -> Given:
  """Reads the first images of a source, and prints which of them it skips.

  Raises:
    InputError: none of them can be decoded.
  """
  indices = range(min(num, len(source)))
  read = source.read(indices)
  names = [source.name(i) for i in indices]
  sources.report_unreadable([name for name, image in zip(names, read) if image is None])
  whole = [(name, image) for name, image in zip(names, read) if image is not None]
  if not whole:
    raise InputError(f'images: none of the first {len(names)} can be decoded, e.g. {names[0]}')
  return Given(np.stack([image for _, image in whole]), [name for name, _ in whole])
