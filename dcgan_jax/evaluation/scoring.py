"""Compares images with the data of a run, and scores a generator during training.

Scores taken during training rank the checkpoints, and show whether the generator has collapsed.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.data.sources import Stacked
from dcgan_jax.devices import programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors, scores
from dcgan_jax.runs import sampling
from dcgan_jax.runs.experiment import Experiment

LEAST = 10  # images, for the ten splits of an Inception score, and for neighbourhoods


@dataclass(frozen=True)
class Comparison:
  """Looks at images so that they can be scored against the data of a run.

  Attributes:
    extractor: Network whose features are compared.
    labels: Classes of the real images; None with Inception.
    real: The real images.
    split: Split of the data.
  """

  extractor: extractors.Extractor
  labels: Labels | None
  real: scores.Real
  split: str

  def look(self, images: np.ndarray, asked: np.ndarray | None = None) -> scores.Seen:
    """Extracts the features of images.

    Args:
      images: Images in the pixel format of the run, [N, H, W, C].
      asked: Classes that G was asked for, integers [N]; None for none.
    """
    found = self.extractor.look(images)
    return scores.Seen(
      self.extractor.kind, images, found['features'], found['probabilities'], self.real, asked
    )

  def protocol(self, samples: int, statistics: str) -> str:
    """Returns a line that says how scores are taken: only scores with the same line can be compared.

    Args:
      samples: Number of generated images.
      statistics: Batch-norm statistics of the generator, 'stored' | 'batch' | 'population'; 'unknown' for
        images from elsewhere.
    """
    neighbours = len(self.real.features)
    how = f'samples={samples} neighbours={neighbours} split={self.split} statistics={statistics}'
    return f'{self.extractor.protocol} {how}'


def compare_with_data(
  experiment: Experiment,
  prepared: extractors.Prepared,
  load: Callable[[], np.ndarray],
  most: int = scores.MOST_NEIGHBOURS,
) -> Comparison:
  """Makes the extractor, and takes the features of the real images or reads them from the cache.

  Args:
    experiment: Run whose data it is.
    prepared: Result of `extractors.prepare`.
    load: Loads all real images, [L, H, W, C].
    most: Maximum number of real images whose neighbourhoods are taken.

  Raises:
    InputError: The classifier is not accurate enough.
  """
  labels, make_extractor = prepared
  source, images = experiment.source, load()
  extractor = make_extractor(images)
  reference = extractors.reference(source, images, extractor)
  features = reference['features']
  if most < len(features):
    features = features[np.linspace(0, len(features) - 1, most).astype(int)]
  real = scores.Real(
    scores.Moments(reference['mean'], reference['covariance']),
    features,
    load,
    None if labels is None else labels.shares,
    stacked=labels is not None and isinstance(source, Stacked),
  )
  return Comparison(extractor, labels, real, experiment.settings.data.split)


def load_real(experiment: Experiment) -> np.ndarray:
  """Loads all images of a run's data, [L, H, W, C] in the pixel format of the run.

  Raises:
    InputError: There are fewer than `LEAST`.
  """
  name = experiment.settings.data.source
  real = cache.load(experiment.source, name)
  if len(real) < LEAST:
    raise InputError(f'data.source={name}: has {len(real)} images; scores take {LEAST} or more')
  return real


@dataclass(frozen=True)
class Scorer:
  """Scores the generator of a state.

  Attributes:
    score: Function from a state to the scores by name.
    protocol: Line that says how they are taken, see `Comparison.protocol`.
  """

  score: Callable[[GanState], dict[str, float]]
  protocol: str

  def __call__(self, state: GanState) -> dict[str, float]:
    """Returns the scores of the generator by name."""
    return self.score(state)


def require_labels(experiment: Experiment) -> None:
  """Checks that the data has the classes that scores in training need, before anything is compiled.

  Raises:
    InputError: Some images have no class.
  """
  chosen = experiment.settings.eval
  if chosen.happens and chosen.features == 'classifier':
    with _or_without_scores():
      experiment.source.labels()


@contextlib.contextmanager
def _or_without_scores() -> Iterator[None]:
  """Adds to an error that the run can be trained without scores."""
  try:
    yield
  except InputError as error:
    raise InputError(f'{error}; or train without scores: --config.eval.every_steps=0') from error


def make_scorer(experiment: Experiment, mesh: Mesh, folder: Path | None = None) -> Scorer:
  """Makes the function that scores a run's generator during training.

  Scores are those of `--mode=evaluate`, always of the same latents. Only the neighbourhoods differ: they are
  those of `eval.num` real images, where `--mode=evaluate` takes more. So coverage can be compared over a run,
  but not with that of `--mode=evaluate`.

  Args:
    experiment: Run whose generator is scored.
    mesh: Devices that generate the images.
    folder: Workdir, which keeps the classifier; None for none.

  Raises:
    InputError: The data has no classes, or Inception's weights are missing.
  """
  chosen, statistics = experiment.settings.eval, experiment.settings.sample.statistics
  with _or_without_scores():
    wanted = extractors.Chosen(chosen.features, chosen.weights or None)
    prepared = extractors.prepare(wanted, experiment, folder)
    # The images are loaded again if a score needs them, so that training does not hold them twice.
    load = functools.partial(load_real, experiment)
    comparison = compare_with_data(experiment, prepared, load, chosen.num)

  make_images = sampling.make_images(experiment.gan.generator, 'stored', experiment.gan.pixels)
  generate = programs.map_rows(make_images, mesh)
  seed, latents = experiment.settings.seed, experiment.latents
  asked = classes_like_data(experiment, chosen.num, seed)
  z = latents.draw(seed, chosen.num)
  if asked is not None:
    z = np.asarray(latents.of_classes(jnp.asarray(z), jnp.asarray(asked)))

  def score_state(state: GanState) -> dict[str, float]:
    variables = state.sampling_variables
    if statistics == 'population':
      variables = sampling.with_population(experiment.gan.generator, latents, variables)
    return scores.take(comparison.look(generate(variables, z, sampling.BATCH_SIZE), asked))

  return Scorer(score_state, comparison.protocol(chosen.num, statistics))


def classes_like_data(experiment: Experiment, num: int, seed: int) -> np.ndarray | None:
  """Draws classes with the frequencies of the data, int32 [num]; None for an unconditional generator."""
  if experiment.labels is None:
    return None
  shares = experiment.labels.shares
  return np.random.default_rng(seed).choice(len(shares), num, p=shares).astype(np.int32)
