"""Images of a seed that a user names: by their numbers, or by a class, of which a classifier chooses some."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax import cache
from dcgan_jax.commands import build, extractors, sample, workdir
from dcgan_jax.errors import InputError

MOST = 2**31 - 1  # the largest number of an image


class Exemplars(NamedTuple):
  """The numbers of some images of a seed; and the class that they are of, if they were named by it."""

  indices: tuple[int, ...]
  name: str | None = None


def parse(flag: str, text: str) -> Exemplars:
  """Reads numbers as numbers, and all else, with or without `class:`, as the name of a class.

  Args:
    flag: that the text was given to, for the error.
    text: '3,8,21', 'ankle boot' or 'class:7'.

  Returns:
    Exemplars; of a class without indices yet, its name as it was written.

  Raises:
    InputError: neither.
  """
  kind, _, name = text.partition(':')
  if kind.strip() == 'class':
    return Exemplars((), name.strip())
  if re.search(r'[^-\d\s,.]', text):
    return Exemplars((), text.strip())
  if not re.fullmatch(r'\s*\d+\s*(,\s*\d+\s*)*', text):
    raise InputError(f'{flag}={text}: give numbers of images, like 3,8,21, from 0, or a class')
  indices = tuple(int(part) for part in text.split(','))
  if max(indices) > MOST:
    raise InputError(f'{flag}={text}: images are numbered from 0 to {MOST}')
  return Exemplars(indices)


def choose(
  named: Mapping[str, Exemplars],
  counts: Mapping[str, int],
  folder: Path,
  sampler: sample.Sampler,
  num: int,
  seed: int,
) -> dict[str, Exemplars]:
  """Finds exemplars of the classes, the images of the seed about which the classifier is surest.

  Args:
    named: by flag; those with indices are left as they are.
    counts: by flag, how many exemplars to choose, or fewer if so few are of the class.
    folder: of the run, whose data the classifier learns, the first time, as for `--mode=evaluate`.
    sampler: of the run.
    num: of images to choose among.
    seed: of their latents.

  Raises:
    InputError: data without classes, an unknown class, or one that none of the images is of.
  """
  if all(one.indices for one in named.values()):
    return dict(named)
  config = workdir.read_config(folder)
  source = build.source(config)
  labels = extractors.Labels(*source.labels())
  numbers = {
    flag: find_class(flag, one.name, labels.names) for flag, one in named.items() if one.name is not None
  }
  extractor = extractors.of_classifier(source, cache.load(source, config.data.source), labels)
  probabilities = extractor.look(sampler.sample(num, seed))['probabilities']
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


def find_class(flag: str, name: str, names: tuple[str, ...]) -> int:
  """The number of a class, by its name; capitals matter only where they tell two apart.

  Raises:
    InputError: the flag names none.
  """
  if name in names:
    return names.index(name)
  lower = [known.casefold() for known in names]
  if lower.count(name.casefold()) != 1:
    raise InputError(f'{flag}={name}: no such class; the classes of the data are: {", ".join(names)}')
  return lower.index(name.casefold())


def surest(probabilities: np.ndarray, number: int, count: int) -> tuple[int, ...]:
  """The images of a class that are so with the highest probability, at most `count`, surest first.

  Args:
    probabilities: float [N, K], of N images for K classes.
    number: of the class. An image is of its likeliest class.
    count: how many.

  Returns:
    Indices in [0, N); none if no image is of the class.
  """
  order = np.argsort(-probabilities[:, number], kind='stable')
  of_class = order[probabilities[order].argmax(1) == number]
  return tuple(int(i) for i in of_class[:count])
