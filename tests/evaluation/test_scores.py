import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.evaluation import scores
from dcgan_jax.records import collapse


def _features(count, size, seed=0, shift=0.0, scale=1.0):
  return np.random.default_rng(seed).standard_normal((count, size)) * scale + shift


@given(size=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_frechet_distance_has_a_closed_form_for_covariances_that_commute(size, seed):
  rng = np.random.default_rng(seed)
  rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
  means, variances = rng.standard_normal((2, size)), rng.uniform(0, 4, (2, size))
  a, b = (scores.Moments(m, rotation @ np.diag(v) @ rotation.T) for m, v in zip(means, variances))
  want = np.square(means[0] - means[1]).sum() + np.square(np.sqrt(variances[0]) - np.sqrt(variances[1])).sum()
  np.testing.assert_allclose(scores.frechet_distance(a, b), want, rtol=1e-9, atol=1e-7)


def test_frechet_distance_of_any_gaussians_is_the_textbooks():
  """Compares with the matrix root of SciPy."""
  from scipy import linalg

  a, b = (scores.moments(_features(50, 8, seed) @ _features(8, 8, seed + 10)) for seed in (0, 1))
  root = linalg.sqrtm(a.covariance @ b.covariance).real
  want = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
  np.testing.assert_allclose(scores.frechet_distance(a, b), want, rtol=1e-9)


def test_frechet_distance_with_fewer_samples_than_features():
  """Compares with the singular values of the product of the centred features."""
  x, y = _features(20, 200), _features(30, 200, seed=1, shift=0.1)
  a, b = scores.moments(x), scores.moments(y)
  scale = np.trace(a.covariance)
  assert abs(scores.frechet_distance(a, a)) < 1e-6 * scale
  centred = (x - x.mean(0)) @ (y - y.mean(0)).T / np.sqrt(19 * 29)
  cross = np.linalg.svd(centred, compute_uv=False).sum()
  want = np.square(a.mean - b.mean).sum() + scale + np.trace(b.covariance) - 2 * cross
  np.testing.assert_allclose(scores.frechet_distance(a, b), want, rtol=1e-6)
  np.testing.assert_allclose(scores.frechet_distance(b, a), want, rtol=1e-6)


def test_moments_are_unbiased():
  found = scores.moments(np.array([[1.0, 0.0], [3.0, 4.0]]))
  np.testing.assert_array_equal(found.mean, [2, 2])
  np.testing.assert_array_equal(found.covariance, [[2, 4], [4, 8]])


def test_kernel_distance_is_its_definition():
  """Compares with loops over the one subset that is everything."""
  x, y = _features(7, 3), _features(7, 3, seed=1, shift=0.5)

  def kernel(a, b):
    return (a @ b / 3 + 1) ** 3

  pairs = [(i, j) for i in range(7) for j in range(7)]
  within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (7 * 6)
  want = within - 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / 49
  found = scores.kernel_distance(x, y, subsets=3)
  np.testing.assert_allclose(found.value, want, rtol=1e-12)
  assert found.spread < 1e-12  # Every subset is all of them.


@pytest.mark.slow
def test_kernel_distance_is_unbiased_and_its_error_is_that_of_a_mean():
  x, y = _features(2000, 4), _features(2000, 4, seed=1)
  found = scores.kernel_distance(x, y, subsets=100, subset_size=100)
  assert abs(found.value) < 5 * found.spread
  more = scores.kernel_distance(x, y, subsets=400, subset_size=100)
  assert 0.4 < more.spread / found.spread < 0.6
  assert scores.kernel_distance(x + 0.5, y).value > 20 * abs(found.value)
  with pytest.raises(ValueError, match='2 or more'):
    scores.kernel_distance(x[:1], y)


def test_inception_score_of_certain_and_of_undecided_predictions():
  certain = np.eye(8)[np.arange(8000) % 8]
  found = scores.inception_score(certain, splits=1)
  np.testing.assert_allclose(found, (8.0, 0.0), rtol=1e-12)
  np.testing.assert_allclose(scores.inception_score(np.full((50, 8), 1 / 8)), (1.0, 0.0), atol=1e-12)
  split = scores.inception_score(certain)
  assert 7.9 < split.value < 8 and 0 < split.spread < 0.05
  with pytest.raises(ValueError, match='10 or more'):
    scores.inception_score(certain[:9])


def test_class_coverage():
  shares = np.array([0.5, 0.25, 0.25])
  found = scores.class_coverage(np.array([0, 0, 1, 1]), shares)
  np.testing.assert_array_equal(found.histogram, [0.5, 0.5, 0])
  assert found.missing == [2]
  np.testing.assert_allclose(found.divergence, 0.5 * np.log(2))
  balanced = scores.class_coverage(np.array([0, 1, 0, 2]), shares)
  assert balanced.missing == [] and balanced.divergence == 0
  without = scores.class_coverage(np.array([0, 1, 0, 2]), np.array([0.5, 0.5, 0]))
  assert without.missing == [] and without.divergence == np.inf


def test_modes_and_their_divergence_have_closed_forms():
  """Of 8 classes, 2 have an image half of the time each: log 4 from uniform. Of all alike it is 0."""
  two = scores.modes(np.eye(8)[[1, 5, 1, 5]])
  assert two.modes == 2 and two.kl_to_uniform == pytest.approx(np.log(4))
  assert scores.modes(np.eye(8)) == (8, pytest.approx(0))


def _seen(kind, stacked=False, asked=None, load=lambda: pytest.fail('loaded'), held_out=False):
  features = _features(30, 4)
  shares = np.full(3, 1 / 3) if kind == 'classifier' else None
  divided = scores.Divided(features[:25], features[25:]) if held_out else None
  judged = scores.Judged(np.array([2.0, 3.0, 1.0]), np.array([0.0, 2.0])) if held_out else None
  real = scores.Real(scores.moments(features), features, load, shares, stacked, divided)
  probabilities = np.eye(3)[np.arange(20) % 2]
  return scores.Seen(kind, np.zeros((20, 8, 8, 1)), _features(20, 4, 1), probabilities, real, asked, judged)


NEAR = ['precision', 'recall', 'density', 'coverage']
OF_HELD_OUT = ['copied', 'copied_real', 'd_training', 'd_held_out', 'd_prefers_training']
INCEPTION = ['fid', 'kid', 'kid_error', 'inception_score', 'inception_score_deviation']


@pytest.mark.parametrize(
  ('seen', 'names'),
  [
    (_seen('classifier'), ['classifier_frechet_distance', *NEAR, 'missing_classes']),
    (
      _seen('classifier', asked=np.arange(20) % 4),
      ['classifier_frechet_distance', *NEAR, 'agreement', 'missing_classes'],
    ),
    (_seen('classifier', stacked=True), ['classifier_frechet_distance', *NEAR, 'modes', 'kl_to_uniform']),
    (_seen('inception', asked=np.arange(20)), [*INCEPTION, *NEAR]),
    (_seen('inception', held_out=True), [*INCEPTION, *NEAR, *OF_HELD_OUT]),
  ],
)
def test_scores_are_those_that_apply_and_load_no_pixels(seen, names):
  """The names and their order are those of metrics.jsonl and evaluation.json, which others read."""
  found = scores.take(seen)
  assert list(found) == names
  if 'agreement' in found:
    assert (found['agreement'], found['missing_classes']) == (0.5, 1)
  if 'modes' in found:
    assert found['modes'] == 2


def test_scores_of_held_out_images():
  """Of the pairs of logits, D prefers the training image in 4 and has no preference in 1."""
  seen = _seen('classifier', held_out=True)
  found = scores.take(seen)
  assert (found['d_training'], found['d_held_out'], found['d_prefers_training']) == (2, 1, 4.5 / 6)
  for name, features in (('copied', seen.features), ('copied_real', seen.real.features[25:])):
    assert found[name] == seen.real.divided.copies(features)
  seen = dataclasses.replace(seen, features=seen.real.features[:25] + 1e-4)
  assert scores.take(seen)['copied'] == 1 > found['copied']


def test_the_preference_of_d_is_the_area_under_the_roc_curve():
  from sklearn.metrics import roc_auc_score

  training, held_out = np.rint(2 * _features(300, 1)[:, 0] + 1), np.rint(2 * _features(40, 1, seed=1)[:, 0])
  want = roc_auc_score([1] * 300 + [0] * 40, [*training, *held_out])
  for scale in (1, 1e-6, 1e6):
    assert scores.Judged(scale * training, scale * held_out).preferred == pytest.approx(want, abs=1e-12)


def test_a_new_score_is_one_entry(monkeypatch):
  """Takes a score of pixels, which are loaded once."""
  axis, loaded = scores.Axis('Brightness', 'log', 'lower'), []
  entry = scores.Score(
    'brightness', 'brightness', lambda seen: abs(seen.pixels.mean() - seen.real.pixels.mean()), axis
  )
  monkeypatch.setattr(scores, 'SCORES', (*scores.SCORES, entry))
  seen = _seen('classifier', load=lambda: loaded.append(1) or np.ones((5, 8, 8, 1)))
  assert scores.take(seen)['brightness'] == scores.take(seen)['brightness'] == 1.0 and loaded == [1]
  assert scores.charts()[axis] == {'brightness': 'brightness'}


def test_the_table_is_sound():
  """Names are unique, scores of an axis share no label, and lower distances are better."""
  table = {score.name: score for score in scores.SCORES}
  assert len(table) == len(scores.SCORES)
  drawn = scores.charts()
  assert sum(map(len, drawn.values())) == len([score for score in scores.SCORES if score.axis])
  assert all(axis.better in ('lower', 'higher') for axis in drawn)
  assert {axis.scale for axis in drawn} <= {'linear', 'log', 'share', 'count'}
  for kind, name in scores.DISTANCE.items():
    assert table[name].kind == kind and table[name].axis.better == 'lower'
    watch = collapse.Watch(name, [{'step': 1, **scores.take(_seen(kind))}])
    assert watch.signs == {}


def test_labels():
  assert scores.label('classifier_frechet_distance') == 'Fréchet distance'
  assert scores.label('of_another_version') == 'of another version'


def test_the_table_needs_no_jax():
  code = 'import sys; from dcgan_jax.evaluation import scores; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0
