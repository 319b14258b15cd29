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
