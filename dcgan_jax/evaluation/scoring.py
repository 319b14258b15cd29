"""Scores of a generator's images, and the function that takes them during training.

Scores taken during training decide which checkpoint is the best, and show whether the generator has
collapsed.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.data.sources import Stacked
from dcgan_jax.devices import programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors, neighbourhoods, scores
from dcgan_jax.runs import sampling
from dcgan_jax.runs.experiment import Experiment

LEAST = 10  # images, for the ten splits of an Inception score, and for neighbourhoods
# The score that ranks checkpoints, by kind of extractor; the lower the better.
DISTANCE = {'classifier': 'classifier_frechet_distance', 'inception': 'fid'}


@dataclass(frozen=True)
class Scorer:
  """The function from a state to the scores of its generator, and how they are taken.

  Attributes:
    score: the function; the scores by name.
    protocol: see the function `protocol`.
  """

  score: Callable[[GanState], dict[str, float]]
  protocol: str

  def __call__(self, state: GanState) -> dict[str, float]:
    """Returns the scores of a state's generator."""
    return self.score(state)


def protocol(
  extractor: extractors.Extractor, samples: int, neighbours: int, split: str, statistics: str
) -> str:
  """Returns a line that says how scores are taken: those of different lines cannot be compared.

  Args:
    extractor: of the features; with a short hash of its weights and, for Inception, the resizer.
    samples: generated images.
    neighbours: real images whose neighbourhoods are taken, for precision, recall, density and coverage.
    split: of the data.
    statistics: of the generator's batch norm, 'stored' | 'batch' | 'population'; 'unknown' for images from
      elsewhere.
  """
  how = f'samples={samples} neighbours={neighbours} split={split} statistics={statistics}'
  return f'{extractor.protocol} {how}'


def check(experiment: Experiment) -> None:
  """Refuses data without the classes that scores in training take, before anything is compiled.

  Raises:
    InputError: in one line; the data has no classes, or some of its images have none.
  """
  chosen = experiment.settings.eval
  if chosen.happens and chosen.features == 'classifier':
    with _or_without_scores():
      experiment.source.labels()


@contextlib.contextmanager
def _or_without_scores() -> Iterator[None]:
  """Says beside what is wrong that a run can do without scores."""
  try:
    yield
  except InputError as error:
    raise InputError(f'{error}; or train without scores: --config.eval.every_steps=0') from error


def make(experiment: Experiment, mesh: Mesh, folder: Path | None = None) -> Scorer:
  """Makes the function from a state to the scores of its generator.

  They are computed as `--mode=evaluate` does, always of the same latents. Only the neighbourhoods differ:
  they are those of `eval.num` real images, and `--mode=evaluate` takes more. So coverage can be compared over
  a run, but not with that of `--mode=evaluate`.

  Args:
    experiment: the one whose generator is scored.
    mesh: the devices that generate the images.
    folder: the workdir, which keeps a classifier; None for none.

  Raises:
    InputError: in one line; the data has no classes, or Inception's weights are not there.
  """
  num, statistics = experiment.settings.eval.num, experiment.settings.sample.statistics
  with _or_without_scores():
    extractor, labels, reference = _prepare(experiment, folder)
  kept = reference['features']
  reference['features'] = kept[np.linspace(0, len(kept) - 1, min(num, len(kept))).astype(int)]

  make_images = sampling.make_images(experiment.gan.generator, 'stored', experiment.gan.pixels)
  generate = programs.map_rows(make_images, mesh)
  seed, latents = experiment.settings.seed, experiment.latents
  asked = classes_like_data(experiment, num, seed)
  z = latents.draw(seed, num)
  if asked is not None:
    z = np.asarray(latents.of_classes(jnp.asarray(z), jnp.asarray(asked)))

  def score_state(state: GanState) -> dict[str, float]:
    variables = state.sampling_variables
    if statistics == 'population':
      variables = sampling.with_population(experiment.gan.generator, latents, variables)
    found = extractor.look(generate(variables, z, sampling.BATCH_SIZE))
    values = score(found, reference, extractor.kind)
    if labels is not None and asked is not None:
      values['agreement'] = float((found['probabilities'].argmax(1) == asked).mean())
    if labels is not None and isinstance(experiment.source, Stacked):
      values |= scores.modes(found['probabilities'])._asdict()
    elif labels is not None:
      values['missing_classes'] = len(classes(found['probabilities'], labels)['missing'])
    return values

  split, neighbours = experiment.settings.data.split, len(reference['features'])
  return Scorer(score_state, protocol(extractor, num, neighbours, split, statistics))


def _prepare(
  experiment: Experiment, folder: Path | None
) -> tuple[extractors.Extractor, Labels | None, dict[str, np.ndarray]]:
  """Returns the extractor, the labels if it is a classifier, and the reference that it gives."""
  settings = experiment.settings
  chosen = extractors.Chosen(settings.eval.features, settings.eval.weights or None)
  labels, make_extractor = extractors.prepare(chosen, experiment, folder)
  real = cache.load(experiment.source, settings.data.source)
  check_enough(settings.data.source, real)
  extractor = make_extractor(real)
  return extractor, labels, extractors.reference(experiment.source, real, extractor)


def classes_like_data(experiment: Experiment, num: int, seed: int) -> np.ndarray | None:
  """Draws a class for each of `num` images with the shares of the data, int32 [num]; None without classes."""
  if experiment.labels is None:
    return None
  shares = experiment.labels.shares
  return np.random.default_rng(seed).choice(len(shares), num, p=shares).astype(np.int32)


def by_class(
  found: extractors.Features, asked: np.ndarray, real: dict[str, np.ndarray], labels: Labels
) -> dict[str, Any]:
  """Returns how well images are of the classes that G was asked for.

  Args:
    found: features and probabilities of the images.
    asked: their classes, integers [N].
    real: of the real images, see `extractors.class_moments`.
    labels: of the real images.

  Returns:
    'names'; 'agreement', the share of the images that the classifier puts in the asked class; 'agreements',
    the same for each class, None for one without images; 'distances', for each class, the Frechet distance
    between its images and the real ones of it, None where either are too few for a covariance; and
    'left_out', the names of the latter, with how many images are 'made' and 'real'.
  """
  right = found['probabilities'].argmax(1) == asked
  agreements: list[float | None] = []
  distances: list[float | None] = []
  left_out = {}
  for number, (name, count) in enumerate(zip(labels.names, labels.counts)):
    of_class = asked == number
    made = int(of_class.sum())
    agreements.append(float(right[of_class].mean()) if made else None)
    if min(made, count) < scores.LEAST_OF_MOMENTS:
      distances.append(None)
      left_out[name] = {'made': made, 'real': int(count)}
    else:
      ours = scores.moments(found['features'][of_class])
      theirs = scores.Moments(real['mean'][number], real['covariance'][number])
      distances.append(scores.frechet_distance(ours, theirs))
  return {
    'names': list(labels.names),
    'agreement': float(right.mean()),
    'agreements': agreements,
    'distances': distances,
    'left_out': left_out,
  }


def check_enough(source: str, real: np.ndarray) -> None:
  """Refuses real images that are too few for scores.

  Args:
    source: what the setting `data.source` calls them.
    real: the images, [N, ...].

  Raises:
    InputError: there are fewer than `LEAST`.
  """
  if len(real) < LEAST:
    raise InputError(f'data.source={source}: has {len(real)} images; scores take {LEAST} or more')


def score(found: extractors.Features, reference: dict[str, np.ndarray], kind: str) -> dict[str, float]:
  """Scores images by their features.

  Args:
    found: features and probabilities of the images.
    reference: of the real images, see `extractors.reference`.
    kind: of the extractor, 'classifier' | 'inception'.

  Returns:
    The scores by name. Only those of Inception's features have the names that the literature uses.
  """
  ours = scores.moments(found['features'])
  distance = scores.frechet_distance(ours, scores.Moments(reference['mean'], reference['covariance']))
  # A GPU would otherwise wait seconds for its host; on a CPU NumPy is the faster one.
  manifold = scores.manifold if jax.default_backend() == 'cpu' else neighbourhoods.manifold
  near = manifold(found['features'][: extractors.KEPT], reference['features'])._asdict()
  if kind == 'classifier':
    return {DISTANCE[kind]: distance} | near
  kernel = scores.kernel_distance(found['features'], reference['features'])
  value = scores.inception_score(found['probabilities'])
  return {
    DISTANCE[kind]: distance,
    'kid': kernel.value,
    'kid_error': kernel.spread,
    'inception_score': value.value,
    'inception_score_deviation': value.spread,
  } | near


def classes(probabilities: np.ndarray, labels: Labels) -> dict[str, Any]:
  """Returns how images are spread over the classes of the data.

  Args:
    probabilities: of the K classes for each image, [N, K].
    labels: of the real images.

  Returns:
    'names' of the classes; 'generated' and 'data', the share of each; 'missing', the names of those that have
    less than a tenth of their share; and 'divergence', KL(generated || data) in nats, None if it is infinite.
  """
  names, shares = labels.names, labels.shares
  found = scores.class_coverage(probabilities.argmax(1), shares)
  return {
    'names': list(names),
    'generated': [float(x) for x in found.histogram],
    'data': [float(x) for x in shares],
    'missing': [names[i] for i in found.missing],
    'divergence': found.divergence if math.isfinite(found.divergence) else None,  # JSON has no infinity.
  }
