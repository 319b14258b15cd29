"""Labelled images, split into training, validation and test images."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import data
from dcgan_jax.core.models import normalize
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.runs.experiment import Experiment

HELD_OUT, MOST_HELD_OUT = 5, 10_000  # a fifth is held out for validation, at most the paper's number


class Part(NamedTuple):
  """Some images of a data set, in an order of their own.

  Attributes:
    images: All images of the data set as they are kept, [M, H, W, C], maybe memory-mapped.
    indices: Indices of the images of this part, [N].
    classes: Classes of the images of this part, [N].
    pixels: Pixel format of the images.
  """

  images: np.ndarray
  indices: np.ndarray
  classes: np.ndarray
  pixels: Pixels = BYTES

  def __len__(self) -> int:
    return len(self.indices)

  def batches(self, size: int) -> Iterator[np.ndarray]:
    """Yields the images, [B, H, W, C], `size` at a time."""
    return (self.images[self.indices[i : i + size]] for i in range(0, len(self), size))

  def inputs(self, size: int) -> Iterator[Array]:
    """Yields the images as input of a network, float32 [B, H, W, C] in [-1, 1], `size` at a time."""
    return (normalize(jnp.asarray(batch), self.pixels) for batch in self.batches(size))


class Split(NamedTuple):
  """The parts of a data set.

  Attributes:
    train: Images that models learn from.
    validation: Images that choose the hyper-parameters.
    test: Images that accuracies are reported for.
    classes: Number of classes.
  """

  train: Part
  validation: Part
  test: Part
  classes: int


def divide(experiment: Experiment, data_name: str | None, num: int | None, least: int) -> Split:
  """Splits labelled images, which are always shuffled in the same way.

  The test images are the test split of a tfds data set, and otherwise a fifth of the images.

  Args:
    experiment: The run whose images are divided, or that other images are made to fit.
    data_name: Another labelled source; None for the run's own.
    num: Largest number of images, and of images of a test split; None for all.
    least: Smallest number of training images.

  Raises:
    InputError: the images have no labels, or are too few.
  """
  settings = experiment.settings.data
  source, field = data_name or settings.source, 'data' if data_name else 'data.source'
  split = 'train' if data_name else settings.split
  try:
    known = data.open_source(source, split, experiment.fit)
    names, real, classes = _load(known, source)
  except InputError as error:
    raise InputError(str(error).replace('data.source', field)) from None
  order = np.random.default_rng(0).permutation(len(real))[:num]
  held_out = min(MOST_HELD_OUT, len(order) // HELD_OUT)
  test = _test(source, known.fit, num) if is_of_train(split) else None
  if test is None:
    chosen, order = np.split(order, [held_out])
    test = Part(real, chosen, classes[chosen], known.fit.pixels)
  validation, train = np.split(order, [held_out])
  found = len(np.unique(classes[train]))
  if len(train) < least or found < 2:
    raise InputError(
      f'{field}={source}: {len(train)} images of {found} classes to learn from, beside those for validation '
      f'and test; a probe takes {least} or more of 2 or more'
    )
  learned, checked = (Part(real, part, classes[part], known.fit.pixels) for part in (train, validation))
  return Split(learned, checked, test, len(names))


def is_of_train(split: str) -> bool:
  """Returns whether a split, in the notation of tfds, contains no test images."""
  return all(part.strip().startswith('train') for part in split.split('+'))


def _load(source: data.Source, title: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
  """Returns the names of the classes, the images [N, H, W, C], and the class of each [N].

  Raises:
    InputError: some images have no label, or cannot be decoded.
  """
  classes, names = source.labels()
  real = cache.load(source, title)
  if len(real) != len(classes):
    raise InputError(f'data.source={title}: images that cannot be decoded have labels; remove them')
  return names, real, classes


def _test(source: str, fit: data.Fit, num: int | None) -> Part | None:
  """Returns the first `num` images of the test split, None if there is no labelled one."""
  if not source.startswith('tfds:'):
    return None
  try:
    _, real, classes = _load(data.open_source(source, 'test', fit), source)
  except InputError:
    return None
  return Part(real, np.arange(len(real))[:num], classes[:num], fit.pixels)
