"""Linear support vector machines against liblinear."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from dcgan_jax.trained.analysis import svm

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope='module')
def points():
  """Three classes of points that overlap."""
  labels = RANDOM.integers(0, 3, 300)
  centres = RANDOM.standard_normal((3, 12))
  features = centres[labels] + 1.5 * RANDOM.standard_normal((300, 12))
  return features.astype(np.float16), labels


def _liblinear(features, labels, cost):
  machine = LinearSVC(C=cost, tol=1e-8, max_iter=100_000, random_state=0).fit(features.astype(float), labels)
  return np.concatenate([machine.coef_, machine.intercept_[:, None]], 1)


def test_many_images_have_the_machine_of_liblinear(points, tmp_path, monkeypatch):
  """Fits all costs at once, to features in a file, part by part."""
  features, labels = points
  monkeypatch.setattr(svm, 'ROWS', 128)
  features.tofile(tmp_path / 'features')
  mapped = np.memmap(tmp_path / 'features', np.float16, 'r', shape=features.shape)
  costs = (1e-3, 0.1, 1.0)
  got = svm.fit(mapped, labels, 3, costs, iterations=200, tolerance=1e-5)
  want = np.stack([_liblinear(features, labels, cost) for cost in costs])
  np.testing.assert_allclose(got, want, atol=2e-3)
  early = svm.fit(mapped, labels, 3, costs, iterations=2)
  assert np.abs(early - want).max() > 0.01


def test_few_images_have_the_machine_of_liblinear(points):
  features, _ = points
  wide = np.concatenate([features[:8], features[:8] ** 2], 1)  # There are fewer images than features.
  labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
  (got,) = svm.fit(wide, labels, 3, (0.1,), iterations=600, tolerance=1e-5)
  np.testing.assert_allclose(got, _liblinear(wide, labels, 0.1), atol=1e-2)


def test_classes_without_images_are_never_chosen(points):
  features, labels = points
  two = labels != 1
  (model,) = svm.fit(features[two], labels[two], 3, (0.1,))
  want = _liblinear(features[two], labels[two], 0.1)
  np.testing.assert_allclose(model, [-want[0], [0] * 12 + [-1], want[0]], atol=1e-2)
  machine = LinearSVC(C=0.1, random_state=0).fit(features[two].astype(float), labels[two])
  score = machine.score(features[two].astype(float), labels[two])
  assert svm.accuracies(features[two], labels[two], model[None])[0] == pytest.approx(score, abs=0.02)


def test_accuracies_of_several_models():
  features, labels = np.array([[1.0], [2.0], [-1.0], [-3.0]], np.float16), np.array([1, 1, 0, 1])
  models = np.array([[[0, 0], [1, 0]], [[0, 0], [-1, 0]], [[0, 0], [0, 1]]], np.float32)
  np.testing.assert_array_equal(svm.accuracies(features, labels, models), [0.75, 0.25, 0.75])


def test_draws_are_balanced():
  labels = np.repeat([0, 1, 2], [50, 4, 30])
  random = np.random.default_rng(0)
  first, second = svm.draw(labels, 24, random), svm.draw(labels, 24, random)
  assert len(set(first)) == 24 and np.bincount(labels[first]).tolist() == [10, 4, 10]
  assert set(first) != set(second)
  assert sorted(svm.draw(labels, 84, random)) == list(range(84))
