import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.evaluation import scores


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


def test_manifold_of_points_that_can_be_counted():
  """Puts real points at 0, 1, 2, ..., 9 on a line: with k = 1 each ball has radius 1."""
  real, fake = np.arange(10.0)[:, None], np.array([0.5, 0.6, 20.0, 30.0])[:, None]
  found = scores.manifold(fake, real, k=1, k_density=2)
  assert found.precision == 0.5
  # The balls of the fakes, with radii 0.1, 0.1, 10, 10, hold none of the real ones but those from 10 on.
  assert found.recall == 0.0
  # To the second neighbour the radius is 2 for 0 and 9, else 1; 0.5 and 0.6 lie in the balls of 0 and 1.
  assert found.density == 4 / (2 * 4)
  assert found.coverage == 2 / 10


def test_manifold_of_the_same_distribution_and_of_others():
  real = _features(1500, 5)
  same = scores.manifold(_features(1100, 5, seed=1), real)
  assert min(same) > 0.75
  narrow = scores.manifold(_features(1100, 5, seed=1, scale=0.3), real)
  assert narrow.precision > 0.95 and narrow.recall < 0.3 < same.coverage - narrow.coverage
  wide = scores.manifold(_features(1100, 5, seed=1, scale=3.0), real)
  assert wide.precision < 0.5 and wide.recall > 0.95
  with pytest.raises(ValueError, match='6 or more'):
    scores.manifold(real[:5], real)


def test_manifold_does_not_depend_on_its_chunks(monkeypatch):
  fake, real = _features(130, 4), _features(90, 4, seed=1)
  whole = scores.manifold(fake, real)
  chunks = scores._chunks
  monkeypatch.setattr(scores, '_chunks', lambda count: chunks(count, 17))
  assert scores.manifold(fake, real) == whole


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
