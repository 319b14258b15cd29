"""The neighbourhoods of an accelerator, against NumPy's."""

import jax
import numpy as np
import pytest

from dcgan_jax.evaluation import neighbourhoods, scores, scoring


@pytest.mark.parametrize(('fakes', 'reals', 'size'), [(1100, 1500, 5), (40, 2049, 3), (7, 6, 64)])
def test_whole_numbers_have_the_same_neighbourhoods_as_in_numpy(fakes, reals, size):
  """Small whole numbers, with many ties and equal points: float32 has no error there."""
  draw = np.random.default_rng(size)
  fake, real = (draw.integers(-8, 9, (count, size)).astype(np.float32) for count in (fakes, reals))
  real[-1] -= real.sum(0)  # so that their mean, which is taken off, is 0
  assert neighbourhoods.manifold(fake, real) == pytest.approx(scores.manifold(fake, real), abs=1e-6)


def test_features_far_from_zero_have_the_same_neighbourhoods():
  draw = np.random.default_rng(0)
  fake, real = (np.float32(100 + draw.normal(size=(count, 16))) for count in (900, 1200))
  found, expected = neighbourhoods.manifold(fake, real), scores.manifold(fake, real)
  np.testing.assert_allclose(found, expected, atol=2 / 900)  # one or two pairs at the edge
  with pytest.raises(ValueError, match='6 or more'):
    neighbourhoods.manifold(real[:5], real)


@pytest.mark.parametrize(
  ('backend', 'used'), [('cpu', scores), ('gpu', neighbourhoods), ('tpu', neighbourhoods)]
)
def test_scores_take_the_neighbourhoods_of_the_device(monkeypatch, backend, used):
  features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
  reference = {'features': features, 'mean': features.mean(0), 'covariance': np.cov(features, rowvar=False)}
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(used, 'manifold', lambda *_: scores.Manifold(0.5, 0.25, 2.0, 0.125))
  found = scoring.score({'features': features, 'probabilities': np.eye(3)}, reference, 'classifier')
  assert (found['precision'], found['density']) == (0.5, 2.0)
