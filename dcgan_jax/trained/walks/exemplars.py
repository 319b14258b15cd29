"""Images of a seed that a user names: by number, or by a class, for which a classifier chooses some."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.runs.sampling import Sampler

MOST = 2**31 - 1  # the largest number of an image


class Exemplars(NamedTuple):
  """Some images of a seed.

  Attributes:
    indices: Numbers of the images; () for a class whose exemplars are yet to be chosen.
    name: Name of their class, if they were named by it.
  """

  indices: tuple[int, ...]
  name: str | None = None


def parse(flag: str, text: str) -> Exemplars:
  """Parses numbers of images; anything else, with or without `class:`, is the name of a class.

  Args:
    flag: Flag with the text, for the error message.
    text: '3,8,21', 'ankle boot' or 'class:7'.

  Returns:
    Exemplars; those of a class have no indices yet, and the name as written.

  Raises:
    InputError: the text is neither.
  """
  kind, _, name = text.partition(':')
  if kind.strip() == 'class':
    return Exemplars((), name.strip())
  if re.search(r'[^-\d\s,.]', text):
    return Exemplars((), text.strip())
  if not re.fullmatch(r'\s*[0-9]+\s*(,\s*[0-9]+\s*)*', text):
    raise InputError(f'{flag}={text}: give numbers of images, like 3,8,21, from 0, or a class')
  # Python does not turn thousands of digits into a number.
  indices = tuple(int(part) if len(part) < 99 else MOST + 1 for part in text.split(','))
  if max(indices) > MOST:
    raise InputError(f'{flag}={text}: images are numbered from 0 to {MOST}')
  return Exemplars(indices)


def choose(
  named: Mapping[str, Exemplars],
  counts: Mapping[str, int],
  folder: Path,
  sampler: Sampler,
  num: int,
  seed: int,
) -> dict[str, Exemplars]:
  """Finds exemplars of the classes: the images of the seed that the classifier is surest of.

  Args:
    named: Exemplars by flag; those with indices are left alone.
    counts: Number of exemplars to choose, by flag; of a rare class there may be fewer.
    folder: Workdir of the run, which keeps the classifier; it learns the run's data at its first use.
    sampler: The run's generator.
    num: Number of images to choose from.
    seed: Seed of their latents.

  Raises:
    InputError: the data has no classes, a class is unknown, or none of the images is of it.
  """
  if all(one.indices for one in named.values()):
    return dict(named)
  parts = experiment.build(workdir.read_settings(folder))
  labels = parts.source.labels()
  numbers = {
    flag: sampling.find_class(flag, one.name, labels.names)
    for flag, one in named.items()
    if one.name is not None
  }
  real = cache.load(parts.source, parts.settings.data.source)
  extractor = extractors.learned_extractor(parts.source, real, labels, workdir.keeping(folder))
  probabilities = extractor.look(sampler.pixels.keep(sampler.sample(num, seed)))['probabilities']
  found = {}
  for flag, number in numbers.items():
    name, indices = labels.names[number], surest(probabilities, number, counts[flag])
    if not indices:
      raise InputError(
        f'{flag}={name}: the classifier sees it in none of the first {num} images of seed {seed}; '
        'try a larger --num or another --seed'
      )
    found[flag] = Exemplars(indices, name)
  return dict(named) | found


def surest(probabilities: np.ndarray, number: int, count: int) -> tuple[int, ...]:
  """Returns the images of a class that have the highest probabilities of it, the highest first.

  Args:
    probabilities: Class probabilities, float [N, K]. An image is of its likeliest class.
    number: Number of the class.
    count: Largest number of images.

  Returns:
    Indices in [0, N); () if no image is of the class.
  """
  order = np.argsort(-probabilities[:, number], kind='stable')
  of_class = order[probabilities[order].argmax(1) == number]
  return tuple(int(i) for i in of_class[:count])
