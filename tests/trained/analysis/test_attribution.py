"""Guided backpropagation against NumPy; networks without some of their maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.core.models import Discriminator, Generator, normalize
from dcgan_jax.trained.analysis import attribution

RANDOM = np.random.default_rng(0)


def _matrix(kernel, shape):
  """Returns a convolution of stride 2 as a matrix, [outputs, inputs], and its output's shape."""

  def apply(x):
    x = x.reshape(1, *shape)
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  out = jax.eval_shape(apply, jax.ShapeDtypeStruct((np.prod(shape),), np.float32)).shape[1:]
  columns = jax.vmap(apply)(jnp.eye(np.prod(shape), dtype=jnp.float32))
  return np.asarray(columns).reshape(np.prod(shape), -1).T, out


def test_guided_backpropagation():
  discriminator = Discriminator(
    widths=(3, 2),
    strides=(2, 2),
    norm=(False, False),
    kernel_size=3,
    leak=0.2,
    initializer='glorot',
    dropout=0.5,
  )
  images = RANDOM.integers(0, 256, (5, 8, 8, 1), np.uint8)
  variables = jax.jit(discriminator.init)(jax.random.key(0), normalize(jnp.asarray(images)))
  maps = np.array([0, 1, 1, 0, 1])
  got = jax.jit(attribution.make_guided_gradients(discriminator))(variables, images, maps)

  first, shape = _matrix(variables['params']['conv1']['kernel'], (8, 8, 1))
  second, shape = _matrix(variables['params']['conv2']['kernel'], shape)
  for image, index, found in zip(images, maps, np.asarray(got)):
    x1 = first @ (image.ravel() / 127.5 - 1.0)
    x2 = second @ np.where(x1 > 0, x1, 0.2 * x1)
    start = np.zeros(shape)
    y2 = np.where(x2 > 0, x2, 0.2 * x2).reshape(shape)[..., index]
    start[(*np.unravel_index(y2.argmax(), y2.shape), index)] = float(y2.max() > 0)
    back = second.T @ start.ravel()
    back = first.T @ (back * (back > 0) * (x1 > 0))
    np.testing.assert_allclose(found.ravel(), back, atol=1e-5)
  assert np.abs(np.asarray(got)).max() > 0.01


def test_maximal_responses():
  responses = np.array([[1, 5, 0], [3, 2, 0], [2, 4, 1]], np.float32)
  maps, images = attribution.maximal(responses, 2, 2)
  assert maps.tolist() == [1, 0] and images.tolist() == [[0, 2], [1, 2]]


@pytest.fixture(scope='module')
def generator():
  made = Generator(
    widths=(5, 4), strides=(2, 2), norm=(True, False), image_size=(8, 8), channels=1, initializer='glorot'
  )
  z = RANDOM.standard_normal((6, 3)).astype(np.float32)
  return made, jax.jit(made.init)(jax.random.key(1), z), z


@pytest.mark.parametrize(('layer', 'dropped'), [(0, [1, 4]), (1, [0]), (1, [])])
def test_dropped_maps_are_those_that_the_next_layer_does_not_see(generator, layer, dropped):
  module, variables, z = generator
  kept = np.ones(module.widths[layer], np.float32)
  kept[dropped] = 0
  got = jax.jit(attribution.make_without(module.apply, layer))(variables, z, kept)
  kernel = np.array(variables['params'][f'conv{layer + 1}']['kernel'])  # [k, k, out, in]
  kernel[..., dropped] = 0
  blind = variables['params'] | {f'conv{layer + 1}': {'kernel': kernel}}
  make = jax.jit(module.apply)
  np.testing.assert_allclose(got, make({**variables, 'params': blind}, z), atol=1e-6)
  assert bool(dropped) == (np.abs(np.asarray(got - make(variables, z))).max() > 1e-3)


def test_hidden_activations_are_averaged(generator):
  module, variables, z = generator
  module = module.clone(norm=(False, False))
  got = jax.jit(attribution.make_hidden(module.apply, 0))(variables, z)
  x = z @ np.asarray(variables['params']['dense']['kernel'])
  want = np.where(x > 0, x, 0.2 * x).reshape(6, 4, 5).mean(1)
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert jax.jit(attribution.make_hidden(module.apply, 1))(variables, z).shape == (6, 4)


def test_responsible_maps():
  features = RANDOM.standard_normal((400, 3)) * [1.0, 100.0, 0.01] + 5.0
  of_class = (features[:, 0] - 5.0) - (features[:, 1] - 5.0) / 100 > 0.5
  weights = attribution.responsible(features, of_class)
  assert weights[0] > 0.2 > 0.1 > abs(weights[2]) and weights[1] < -0.2
