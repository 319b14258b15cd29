"""How scores are taken during training, with a stand-in for the classifier."""

import numpy as np
import pytest
from conftest import narrow

from configs import digits
from dcgan_jax import settings
from dcgan_jax.devices import placement
from dcgan_jax.evaluation import extractors, scoring
from dcgan_jax.evaluation.extractors import Extractor
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.training import loop


@pytest.fixture
def by_pixels(monkeypatch, tmp_path):
  """A stand-in for the classifier, whose features are the pixels."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))

  def look(images):
    flat = images.reshape(len(images), -1)[:, ::8].astype(np.float32)
    return {'features': flat, 'probabilities': np.eye(10)[np.arange(len(images)) % 10]}

  extractor = Extractor('classifier', 'features=pixels weights=none', look)
  monkeypatch.setattr(extractors, 'classifier_extractor', lambda *_: extractor)


@pytest.mark.parametrize(
  ('num', 'statistics', 'split', 'said'),
  [
    (100, 'stored', 'train', 'samples=100 neighbours=100 split=train statistics=stored'),
    (2000, 'population', 'test', 'samples=2000 neighbours=1797 split=test statistics=population'),
  ],
)
def test_a_scorer_says_how_it_scores(by_pixels, num, statistics, split, said):
  config = digits.get_config()
  config.data.image_size, config.data.split = (8, 8), split
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.eval.num, config.sample.statistics = num, statistics
  parts = experiment.build(settings.check(config))
  scorer = scoring.make_scorer(parts, placement.mesh())
  assert scorer.protocol == f'features=pixels weights=none {said}'
  if statistics == 'stored':
    found = scorer(parts.first_state())
    assert found['missing_classes'] == 0 and found['classifier_frechet_distance'] > 0


def test_the_protocol_of_inception_has_its_file_and_the_resizer():
  protocol = extractors.inception_extractor({}, 'pytorch').protocol
  assert protocol == 'features=inception weights=6726825d resizer=pytorch'


@pytest.mark.slow(2)
def test_scores_and_pictures_take_the_population_of_the_data(by_pixels, monkeypatch):
  """Both measure the statistics of G with classes that are as frequent as in the data."""
  parts = experiment.build(narrow('digits', {'data.classes': 10, 'sample.statistics': 'population'}))
  seen = []

  def with_population(generator, latents, variables):
    seen.append(latents.counts)
    return variables

  monkeypatch.setattr(sampling, 'with_population', with_population)
  state = parts.first_state(placement.replicated(placement.mesh()))
  scoring.make_scorer(parts, placement.mesh())(state)
  loop._make_draw(parts)(state)
  assert seen == [(178, 182, 177, 183, 181, 182, 181, 179, 174, 180)] * 2
