import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_full_precision

from benchmarks import inception_parity
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import inception


@pytest.mark.parametrize('resizer', inception.RESIZERS)
def test_prepared_images_are_in_range_and_gray_is_rgb(resizer):
  gray = np.random.default_rng(0).integers(0, 256, (2, 28, 20, 1), np.uint8)
  prepared = inception.preprocess(gray, resizer)
  assert prepared.shape == (2, 299, 299, 3) and prepared.dtype == jnp.float32
  assert -1 <= prepared.min() < -0.9 and 0.9 < prepared.max() <= 1
  np.testing.assert_array_equal(prepared[..., 0], prepared[..., 2])
  flat = inception.preprocess(np.full((1, 7, 9, 3), 200, np.uint8), resizer)
  np.testing.assert_allclose(flat, 72 / 128 if resizer == 'tf1' else 2 * 200 / 255 - 1, rtol=1e-5)


@pytest.mark.slow(2)
def test_it_computes_in_full_float32():
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.uint8)
  module = inception.Inception()
  variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
  assert_full_precision(lambda v, x: module.apply(v, inception.preprocess(x)), variables, images)


@pytest.mark.slow
def test_other_weights_are_refused(tmp_path):
  pytest.importorskip('torch')
  tensors = inception_parity.random_tensors()
  path = tmp_path / 'other.pth'
  inception_parity.save({**tensors, 'fc.weight': np.zeros((1000, 2048))}, path)
  with pytest.raises(InputError, match=r'fc\.weight has shape \(1000, 2048\) and should have \(1008, 2048\)'):
    inception.read_weights(path)
  del tensors['Mixed_6b.branch1x1.bn.running_var']
  inception_parity.save(tensors, path)
  with pytest.raises(InputError, match=r'Mixed_6b\.branch1x1\.bn\.running_var is missing'):
    inception.read_weights(path)


def test_downloads_are_checked(monkeypatch, tmp_path):
  """Refuses a file of another SHA-256 before it gets its name."""
  (tmp_path / 'server').write_bytes(b'not the weights')
  monkeypatch.setattr(inception, 'URL', (tmp_path / 'server').as_uri())
  with pytest.raises(InputError, match='SHA-256'):
    inception.download(tmp_path / 'cache' / 'weights.pth')
  assert not (tmp_path / 'cache' / 'weights.pth').exists()
  monkeypatch.setattr(inception, 'URL', 'file:///nonexistent')
  with pytest.raises(InputError, match='cannot be downloaded'):
    inception.download(tmp_path / 'cache' / 'weights.pth')
