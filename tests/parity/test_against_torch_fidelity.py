"""Scores and Inception-v3 against torch-fidelity and pytorch-fid, on the same features and weights."""

import jax
import numpy as np
import pytest
from conftest import import_torchvision

from benchmarks import inception_parity
from dcgan_jax.evaluation import inception, scores

torch = pytest.importorskip('torch')
pytestmark = pytest.mark.slow


def _features(count, size, seed=0, shift=0.0):
  return np.random.default_rng(seed).standard_normal((count, size)) + shift


def test_scores_are_torch_fidelitys():
  import_torchvision()
  kid = pytest.importorskip('torch_fidelity.metric_kid')
  from torch_fidelity import metric_fid, metric_isc, metric_prc

  fake, real = _features(900, 12, shift=0.2), _features(1300, 12, seed=1)
  a, b = torch.from_numpy(fake), torch.from_numpy(real)
  verbose = {'verbose': False}

  statistics = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
  theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)['frechet_inception_distance']
  np.testing.assert_allclose(
    scores.frechet_distance(scores.moments(fake), scores.moments(real)), theirs, rtol=1e-6
  )
  theirs = kid.kid_features_to_metric(a, b, kid_subsets=20, kid_subset_size=300, **verbose)
  ours = scores.kernel_distance(fake, real, 20, 300)
  np.testing.assert_allclose(ours.value, theirs['kernel_inception_distance_mean'], rtol=1e-9)
  np.testing.assert_allclose(ours.spread * np.sqrt(20), theirs['kernel_inception_distance_std'], rtol=1e-9)
  theirs = metric_isc.isc_features_to_metric(a)
  ours = scores.inception_score(torch.softmax(a, 1).numpy())
  np.testing.assert_allclose(ours, list(theirs.values()), rtol=1e-9)
  theirs = metric_prc.prc_features_to_metric(a, b, **verbose)
  ours = scores.manifold(fake, real)
  assert (ours.precision, ours.recall) == pytest.approx((theirs['precision'], theirs['recall']), abs=1e-6)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  path = tmp_path_factory.mktemp('inception') / inception.WEIGHTS
  inception_parity.save(inception_parity.random_tensors(), path)
  return path


@pytest.fixture(scope='module')
def images():
  """Images, uint8 [4, 32, 32, 3], with structure at all scales."""
  rng = np.random.default_rng(1)
  noise = sum(
    np.kron(rng.uniform(0, 60, (4, n, n, 3)), np.ones((1, 32 // n, 32 // n, 1))) for n in (2, 4, 8, 32)
  )
  return noise.astype(np.uint8)


def _ours(weights, images, resizer):
  apply = jax.jit(lambda v, x: inception.Inception().apply(v, inception.preprocess(x, resizer)))
  with jax.numpy_dtype_promotion('standard'):
    return [np.asarray(x) for x in apply(inception.read_weights(weights), images)]


def _assert_near(got, want):
  """Compares to 1e-3 of the features' own spread over the images, which is what a distance sees."""
  assert want.std(0).mean() > 1e-3
  assert np.abs(got - want).max() < 1e-3 * want.std(0).mean()


def test_features_and_logits_are_torch_fidelitys(weights, images):
  import_torchvision()
  pytest.importorskip('torch_fidelity.feature_extractor_inceptionv3')
  features, logits = inception_parity.torch_fidelity(weights, images)
  ours = _ours(weights, images, 'tf1')
  _assert_near(ours[0], features)
  _assert_near(ours[1], logits)


def test_features_are_pytorch_fids(weights, images):
  import_torchvision()
  pytest.importorskip('pytorch_fid.inception')
  _assert_near(_ours(weights, images, 'pytorch')[0], inception_parity.pytorch_fid(weights, images))
