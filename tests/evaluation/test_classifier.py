import jax
import numpy as np
import pytest
from conftest import assert_full_precision

from dcgan_jax.evaluation import classifier


@pytest.mark.parametrize('size', [28, 64])
def test_it_computes_and_learns_in_full_float32(size):
  module = classifier.Classifier(10)
  images = jax.ShapeDtypeStruct((2, size, size, 1), np.uint8)
  gradient = jax.grad(lambda variables, images: module.apply(variables, images)[1].sum())
  with jax.numpy_dtype_promotion('standard'):  # Flax's pooling divides by an integer.
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    assert_full_precision(module.apply, variables, images)
    assert_full_precision(gradient, variables, images)


@pytest.mark.parametrize('shape', [(3, 5, 5, 2), (3, 4, 6, 1)])
def test_images_are_turned_in_all_ways(shape):
  images = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  made, turns = classifier.rotated(images)
  assert made.shape == (12, *shape[1:]) and turns.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
  end = shape[1] - 1, shape[2] - 1
  for number in range(3):
    for y, x in np.ndindex(shape[1:3]):
      if shape[1] == shape[2]:  # Quarter turns, anticlockwise.
        places = (y, x), (x, end[0] - y), (end[0] - y, end[1] - x), (end[1] - x, y)
      else:
        places = (y, x), (y, end[1] - x), (end[0] - y, x), (end[0] - y, end[1] - x)
      for turn, place in enumerate(places):
        np.testing.assert_array_equal(made[3 * turn + number, y, x], images[(number, *place)])


@pytest.mark.slow
def test_it_learns_how_images_are_turned(standard_promotion, monkeypatch):
  """Tells the turns of images that are bright at the top left, and guesses those of noise."""
  monkeypatch.setattr(classifier, 'ROTATIONS_STEPS', 10)
  random = np.random.default_rng(0)
  noise = random.integers(0, 100, (60, 8, 8, 1)).astype(np.uint8)
  bright = noise.copy()
  bright[:, :4, :4] += 100
  assert classifier.train(bright, None, classifier.of_rotations(bright)).accuracy == 1
  assert classifier.train(noise, None, classifier.of_rotations(noise)).accuracy < 0.6


def test_whitened_features_are_uncorrelated_and_of_like_variance():
  random = np.random.default_rng(0)
  features = random.normal(size=(5000, 4)) * [100, 10, 1, 0] @ np.linalg.qr(random.normal(size=(4, 4)))[0]
  matrix = classifier.whitening(features)
  np.testing.assert_allclose(matrix, matrix.T, rtol=1e-3, atol=1e-6)
  added = classifier.SHRINKAGE * np.trace(np.cov(features.T)) / 4
  expected = np.sort([v / (v + added) for v in np.linalg.eigvalsh(np.cov(features.T))])
  np.testing.assert_allclose(
    np.linalg.eigvalsh(np.cov((features @ matrix).T)), expected, rtol=1e-3, atol=1e-6
  )
  assert np.isfinite(classifier.whitening(np.zeros((3, 2)))).all()  # Features that never fire.


@pytest.mark.slow
def test_features_of_rotations_are_whitened_by_the_images_learned(standard_promotion, monkeypatch):
  monkeypatch.setattr(classifier, 'ROTATIONS_STEPS', 3)
  images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
  module = classifier.of_rotations(images)
  trained = classifier.train(images, None, module)
  features = np.asarray(module.apply(trained.variables, images[np.arange(300) % 10 != 0])[0])
  matrix = trained.variables['params'][classifier.WHITEN]['kernel']
  raw = features @ np.linalg.inv(matrix.astype(np.float64))
  np.testing.assert_allclose(classifier.whitening(raw), matrix, rtol=0.05, atol=0.05 * np.abs(matrix).max())
  assert np.linalg.eigvalsh(np.cov(features.T))[-1] < 1.001


@pytest.mark.slow
def test_ten_images_are_enough(standard_promotion):
  images = np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3)).astype(np.uint8)
  assert 0 <= classifier.train(images, None, classifier.of_rotations(images)).accuracy <= 1


@pytest.mark.parametrize(('size', 'stride'), [(8, 1), (28, 1), (32, 1), (48, 2), (64, 2), (128, 4), (256, 8)])
def test_large_images_cost_no_more_convolutions(size, stride):
  """Has as many pixels after the first convolution for 256 pixels as for 32."""
  images = np.zeros((1, size, size, 3), np.uint8)
  module = classifier.of_rotations(images)
  assert module.stride == stride
  with jax.numpy_dtype_promotion('standard'):
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)['params']
  assert shapes['Conv_0']['kernel'].shape == (max(3, stride + 1),) * 2 + (3, 32)
  assert size < 28 or shapes['Dense_0']['kernel'].shape[0] in (2 * 2 * 256, 3 * 3 * 256)


def test_plain_layers_would_not():
  with pytest.raises(AssertionError):
    assert_full_precision(lambda x: x @ x, jax.ShapeDtypeStruct((2, 2), np.float32))


@pytest.mark.parametrize('size', [(1, 1), (4, 4), (2, 40)])
def test_small_images_have_features(size):
  """Makes the network for images of which the convolutions leave one pixel a side: pooling left none."""
  images = jax.ShapeDtypeStruct((2, *size, 3), np.uint8)
  with jax.numpy_dtype_promotion('standard'):
    module = classifier.Classifier(5)
    features, logits = jax.eval_shape(module.init_with_output, jax.random.key(0), images)[0]
  assert (features.shape, logits.shape) == ((2, classifier.FEATURES), (2, 5))


@pytest.mark.parametrize('size', [(4, 4), (20, 12), (33, 32)])
def test_features_of_rotations_are_means_of_the_last_maps(size):
  images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
  module = classifier.of_rotations(images)
  with jax.numpy_dtype_promotion('standard'):
    variables = module.init(jax.random.key(0), images)
    (features, _), kept = module.apply(variables, images, capture_intermediates=True)
  maps = np.maximum(kept['intermediates']['Conv_3']['__call__'][0], 0)
  assert maps.shape == (2, -(-size[0] // 8), -(-size[1] // 8), 256)
  np.testing.assert_allclose(features, maps.mean((1, 2)), rtol=1e-5)
