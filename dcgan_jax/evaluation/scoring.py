"""Compares images with the data of a run, and scores a generator during training.

Scores taken during training rank the checkpoints, and show whether the generator has collapsed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dcgan_jax import files
from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache, order, sources
from dcgan_jax.data.labels import Labels
from dcgan_jax.data.sources import Stacked
from dcgan_jax.devices import programs
from dcgan_jax.errors import InputError, counted
from dcgan_jax.evaluation import extractors, membership, scores
from dcgan_jax.runs import sampling
from dcgan_jax.runs.experiment import Experiment

MOST_WITHOUT_ROOM = 10_000  # images of a data set that fits neither on the disk nor into memory
LEAST = 10  # images, for the ten splits of an Inception score, and for neighbourhoods


@dataclass(frozen=True)
class Comparison:
  """Looks at images so that they can be scored against the data of a run.

  Attributes:
    extractor: Network whose features are compared.
    labels: Classes of the real images; None with Inception and rotations.
    real: The real images.
    split: Split of the data.
  """

  extractor: extractors.Extractor
  labels: Labels | None
  real: scores.Real
  split: str

  def look(
    self, images: np.ndarray, asked: np.ndarray | None = None, judged: scores.Judged | None = None
  ) -> scores.Seen:
    """Extracts the features of images.

    Args:
      images: Images in the pixel format of the run, [N, H, W, C].
      asked: Classes that G was asked for, integers [N]; None for none.
      judged: Logits of D, see `scores.Seen`.
    """
    found = self.extractor.look(images)
    return scores.Seen(
      self.extractor.kind, images, found['features'], found['probabilities'], self.real, asked, judged
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
  labels = None if extractor.of_rotations else labels
  reference = extractors.reference(source, images, extractor)
  features = reference['features']
  divided, held_out = None, order.held_out(len(images), experiment.settings.data.held_out)
  if len(held_out):
    trained = ~np.isin(extractors.kept_images(len(images)), held_out)
    divided = scores.Divided(features[trained], extractor.look(images[held_out])['features'])
  if most < len(features):
    features = features[np.linspace(0, len(features) - 1, most).astype(int)]
  real = scores.Real(
    scores.Moments(reference['mean'], reference['covariance']),
    features,
    load,
    None if labels is None else labels.shares,
    stacked=labels is not None and isinstance(source, Stacked),
    divided=divided,
  )
  return Comparison(extractor, labels, real, experiment.settings.data.split)


def load_real(experiment: Experiment) -> np.ndarray:
  """Loads all images of a run's data, [L, H, W, C] in the pixel format of the run.

  If neither disk nor memory has room for all, the first `MOST_WITHOUT_ROOM` are loaded, and a line says so.

  Raises:
    InputError: There are fewer than `LEAST`.
  """
  source, name = experiment.source, experiment.settings.data.source
  if cache.size(source) < files.free_memory():
    real = cache.load(source, name)
  else:
    loaded = cache.load_large(source, name)
    if loaded is None:
      print(
        f'{name}: scores compare with the first {MOST_WITHOUT_ROOM:,} images, for want of room', flush=True
      )
      loaded = sources.load(source, name, MOST_WITHOUT_ROOM)
    real = loaded[0]
  if len(real) < LEAST:
    raise InputError(f'data.source={name}: has {counted(len(real), "image")}; scores take {LEAST} or more')
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
    InputError: The classifier is not accurate enough, there are too few images, or Inception's weights are
      missing.
  """
  chosen, statistics = experiment.settings.eval, experiment.settings.sample.statistics
  try:
    wanted = extractors.Chosen(chosen.features, chosen.weights or None)
    prepared = extractors.prepare(wanted, experiment, folder)
    # The images are loaded again if a score needs them, so that training does not hold them twice.
    load = functools.partial(load_real, experiment)
    comparison = compare_with_data(experiment, prepared, load, chosen.num)
  except InputError as error:
    raise InputError(f'{error}; or train without scores: --config.eval.every_steps=0') from error
  judge = membership.make_judge(experiment, mesh, load)

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
    images = generate(variables, z, sampling.BATCH_SIZE)
    return scores.take(comparison.look(images, asked, judge and judge(state)))

  return Scorer(score_state, comparison.protocol(chosen.num, statistics))


def classes_like_data(experiment: Experiment, num: int, seed: int) -> np.ndarray | None:
  """Draws classes with the frequencies of the data, int32 [num]; None for an unconditional generator."""
  if experiment.labels is None:
    return None
  shares = experiment.labels.shares
  return np.random.default_rng(seed).choice(len(shares), num, p=shares).astype(np.int32)
