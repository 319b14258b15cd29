"""Scores of the generator during training: which checkpoint is the best, and whether it has collapsed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dcgan_jax import cache, data, latents, programs
from dcgan_jax.commands import build, evaluate, extractors, sample
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import inception
from dcgan_jax.state import GanState

DISTANCE = {'classifier': 'classifier_frechet_distance', 'inception': 'fid'}  # that the best one is chosen by

Scorer = Callable[[GanState], dict[str, float]]


def make(config: ConfigDict, source: data.Source, mesh: Mesh) -> Scorer:
  """Makes the function from a state to the scores of its generator, as `--mode=evaluate` computes them.

  Always of the same latents. Neighbourhoods are of `eval.num` real images, so that coverage can be compared
  over a run, and not with that of `--mode=evaluate`, which takes more.

  Raises:
    InputError: in one line; the data has no classes, or Inception's weights are not there.
  """
  num = config.eval.num
  try:
    extractor, labels, reference = _prepare(config, source)
  except InputError as error:
    raise InputError(f'{error}; or train without scores: --config.eval.every_steps=0') from error
  kept = reference['features']
  reference['features'] = kept[np.linspace(0, len(kept) - 1, min(num, len(kept))).astype(int)]

  generator, _ = build.networks(config)
  generate = programs.map_rows(sample.make_images(generator, 'stored'), mesh)
  indices = jnp.arange(-(-num // sample.BATCH_SIZE) * sample.BATCH_SIZE)
  drawn = latents.sample(jax.random.key(config.seed), indices, config.latent.size, config.latent.prior)
  z = np.asarray(drawn)[:num]

  def score(state: GanState) -> dict[str, float]:
    found = extractor.look(generate(state.sampling_variables, z, sample.BATCH_SIZE))
    values = evaluate.score(found, reference, extractor.kind)
    if labels is not None:
      values['missing_classes'] = len(evaluate.classes(found['probabilities'], labels)['missing'])
    return values

  return score


def _prepare(
  config: ConfigDict, source: data.Source
) -> tuple[extractors.Extractor, extractors.Labels | None, dict[str, np.ndarray]]:
  """The network that looks, labels if it is of the data's own classes, and what it sees in real images."""
  if config.eval.features == 'inception':
    labels = None
    weights = inception.read_weights(evaluate.find_weights(config.eval.weights or None, download=False))
    extractor = extractors.of_inception(weights, 'tf1')
  else:
    labels = extractors.Labels(*source.labels())
  real = cache.load(source, config.data.source)
  evaluate.check_enough(config, real)
  if labels is not None:
    extractor = extractors.of_classifier(source, real, labels)
  return extractor, labels, extractors.reference(source, real, extractor)
