"""Inception-v3 against its two PyTorch ports, with one file of random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import import_torchvision

from benchmarks import inception_parity
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import inception

pytest.importorskip('torch')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  path = tmp_path_factory.mktemp('inception') / inception.WEIGHTS
  inception_parity.save(inception_parity.random_tensors(), path)
  return path


@pytest.fixture(scope='module')
def images():
  """uint8 [4, 32, 32, 3], with structure at all scales."""
  rng = np.random.default_rng(1)
  noise = sum(
    np.kron(rng.uniform(0, 60, (4, n, n, 3)), np.ones((1, 32 // n, 32 // n, 1))) for n in (2, 4, 8, 32)
  )
  return noise.astype(np.uint8)


def _ours(weights, images, resizer):
  apply = jax.jit(lambda v, x: inception.Inception().apply(v, inception.prepare(x, resizer)))
  with jax.numpy_dtype_promotion('standard'):
    return [np.asarray(x) for x in apply(inception.read_weights(weights), images)]


def _assert_near(got, want):
  """To 1e-3 of the features' own spread over the images, which is what a distance sees."""
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


@pytest.mark.parametrize('resizer', inception.RESIZERS)
def test_prepared_images_are_in_range_and_gray_is_rgb(resizer):
  gray = np.random.default_rng(0).integers(0, 256, (2, 28, 20, 1), np.uint8)
  prepared = inception.prepare(gray, resizer)
  assert prepared.shape == (2, 299, 299, 3) and prepared.dtype == jnp.float32
  assert -1 <= prepared.min() < -0.9 and 0.9 < prepared.max() <= 1
  np.testing.assert_array_equal(prepared[..., 0], prepared[..., 2])
  flat = inception.prepare(np.full((1, 7, 9, 3), 200, np.uint8), resizer)
  np.testing.assert_allclose(flat, 72 / 128 if resizer == 'tf1' else 2 * 200 / 255 - 1, rtol=1e-5)


def test_other_weights_are_refused(tmp_path):
  tensors = inception_parity.random_tensors()
  path = tmp_path / 'other.pth'
  inception_parity.save({**tensors, 'fc.weight': np.zeros((1000, 2048))}, path)
  with pytest.raises(InputError, match=r'fc\.weight has shape \(1000, 2048\) and should have \(1008, 2048\)'):
    inception.read_weights(path)
  del tensors['Mixed_6b.branch1x1.bn.running_var']
  inception_parity.save(tensors, path)
  with pytest.raises(InputError, match=r'Mixed_6b\.branch1x1\.bn\.running_var is missing'):
    inception.read_weights(path)
