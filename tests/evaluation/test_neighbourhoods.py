"""Neighbourhoods by NumPy and by JAX."""

import jax
import numpy as np
import pytest

from dcgan_jax.evaluation import neighbourhoods, scores
from dcgan_jax.evaluation.neighbourhoods import Manifold, distances_to_others, manifold, share_of_copies


def _features(count, size, seed=0, scale=1.0):
  return np.random.default_rng(seed).standard_normal((count, size)) * scale


@pytest.mark.parametrize('on_device', [False, True])
def test_manifold_of_points_that_can_be_counted(on_device):
  """Puts real points at 0, 1, 2, ..., 9 on a line: with k = 1 each ball has radius 1."""
  real, fake = np.arange(10.0)[:, None], np.array([0.5, 0.6, 20.0, 30.0])[:, None]
  found = manifold(fake, real, k=1, k_density=2, on_device=on_device)
  assert found.precision == 0.5
  # The balls of the fakes, with radii 0.1, 0.1, 10, 10, hold none of the real ones but those from 10 on.
  assert found.recall == 0.0
  # To the second neighbour the radius is 2 for 0 and 9, else 1; 0.5 and 0.6 lie in the balls of 0 and 1.
  assert found.density == 4 / (2 * 4)
  assert found.coverage == 2 / 10


def test_manifold_of_the_same_distribution_and_of_others():
  real = _features(1500, 5)
  same = manifold(_features(1100, 5, seed=1), real)
  assert min(same) > 0.75
  narrow = manifold(_features(1100, 5, seed=1, scale=0.3), real)
  assert narrow.precision > 0.95 and narrow.recall < 0.3 < same.coverage - narrow.coverage
  wide = manifold(_features(1100, 5, seed=1, scale=3.0), real)
  assert wide.precision < 0.5 and wide.recall > 0.95
  with pytest.raises(ValueError, match='6 or more'):
    manifold(real[:5], real)


def test_manifold_does_not_depend_on_its_chunks(monkeypatch):
  fake, real = _features(130, 4), _features(90, 4, seed=1)
  whole = manifold(fake, real)
  monkeypatch.setattr(neighbourhoods, 'ROWS', 17)
  assert manifold(fake, real) == whole


@pytest.mark.parametrize(('fakes', 'reals', 'size'), [(1100, 1500, 5), (40, 2049, 3), (7, 6, 64)])
def test_whole_numbers_have_the_same_neighbourhoods_by_both(fakes, reals, size):
  """Small whole numbers, with many ties and equal points: float32 has no error there."""
  draw = np.random.default_rng(size)
  fake, real = (draw.integers(-8, 9, (count, size)).astype(np.float32) for count in (fakes, reals))
  real[-1] -= real.sum(0)  # so that their mean, which becomes the origin, is 0
  assert manifold(fake, real, on_device=True) == manifold(fake, real)


def test_features_far_from_zero_have_the_same_neighbourhoods():
  draw = np.random.default_rng(0)
  fake, real = (np.float32(100 + draw.normal(size=(count, 16))) for count in (900, 1200))
  found, expected = manifold(fake, real, on_device=True), manifold(fake, real)
  np.testing.assert_allclose(found, expected, atol=2 / 900)  # one or two pairs at the edge
  with pytest.raises(ValueError, match='6 or more'):
    manifold(real[:5], real, on_device=True)


@pytest.mark.parametrize('backend', ['cpu', 'gpu', 'tpu'])
def test_scores_use_the_device_unless_it_is_the_host(monkeypatch, backend):
  features = _features(20, 3)
  real = scores.Real(scores.moments(features), features, lambda: features, None, False)
  used = []

  def stand_in(fake, real, on_device):
    used.append(on_device)
    return Manifold(0.5, 0.25, 2.0, 0.125)

  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(scores, 'manifold', stand_in)
  found = scores.take(scores.Seen('classifier', features, features, np.eye(3), real))
  assert (found['precision'], found['density']) == (0.5, 2.0) and used == [backend != 'cpu']


@pytest.mark.parametrize('on_device', [False, True])
def test_copies_are_those_of_their_definition(on_device):
  """Compares with loops over all pairs. Every third known image is there twice."""
  known, images = _features(60, 6), _features(40, 6, seed=1)
  images[:10] = known[:10] + 0.01
  known = np.float32([*known, *known[::3]])
  distances = distances_to_others(known, on_device)
  gaps = np.linalg.norm(known[:, None] - known, axis=-1)
  gaps[gaps < 1e-5] = np.inf  # itself, and the same again
  np.testing.assert_allclose(distances, gaps.min(1) ** 2, rtol=1e-5)
  copies = 0
  for image in images:
    found = np.linalg.norm(known - image, axis=-1)
    copies += found.min() < gaps[found.argmin()].min()
  assert 10 < copies < 40
  assert share_of_copies(images, known, distances, on_device) == copies / 40
  assert share_of_copies(known, known, distances, on_device) == 1


def test_of_new_images_of_a_plane_as_many_are_as_near_as_copies_as_theory_says():
  """Compares with 1 / (2 - the common part of two unit discs a radius apart), 0.6215 (Henze 1987)."""
  known, images = np.random.default_rng(0).random((2, 3000, 2))
  distances = distances_to_others(known)
  want = 1 / (2 - (2 * np.pi / 3 - np.sqrt(3) / 2) / np.pi)
  assert abs(share_of_copies(images, known, distances) - want) < 3 * np.sqrt(want * (1 - want) / 3000)


def test_where_all_images_are_the_same_all_are_copies():
  known = np.ones((4, 2))
  assert distances_to_others(known).tolist() == [np.inf] * 4
  assert share_of_copies(known, known, distances_to_others(known)) == 1
