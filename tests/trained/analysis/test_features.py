"""Features of a discriminator for a linear classifier."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.core.models import normalize
from dcgan_jax.trained.analysis import features

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize('shape', [(8, 16), (14, 7), (5, 3), (1, 2)])
def test_pooling(shape):
  x = RANDOM.standard_normal((2, *shape, 3)).astype(np.float32)
  got = np.asarray(jax.jit(features.pool)(x))
  rows, columns = (min(4, length) for length in shape)
  want = np.full((2, rows, columns, 3), -np.inf)
  for i, j in np.ndindex(rows, columns):
    for y in range(math.floor(i * shape[0] / rows), math.ceil((i + 1) * shape[0] / rows)):
      for x_ in range(math.floor(j * shape[1] / columns), math.ceil((j + 1) * shape[1] / columns)):
        want[:, i, j] = np.maximum(want[:, i, j], x[:, y, x_])
  np.testing.assert_array_equal(got, want.reshape(2, -1).astype(np.float32))


def test_features_are_all_layers(tiny):
  _, discriminator = tiny
  images = RANDOM.integers(0, 256, (3, 8, 8, 1), np.uint8)
  variables = jax.jit(discriminator.init)(jax.random.key(0), normalize(jnp.asarray(images)))
  got = jax.jit(features.make_features(discriminator))(variables, images)
  _, (first, second) = jax.jit(discriminator.apply)(variables, images.astype(np.float32) / 127.5 - 1.0)
  assert got.dtype == jnp.float16 and got.shape == (3, 16 * 6 + 4 * 8)
  np.testing.assert_allclose(
    got[:, :96], np.asarray(first).reshape(3, -1), atol=1e-3
  )  # They are 4x4 already.
  np.testing.assert_allclose(got[:, 96:], np.asarray(second).reshape(3, -1), atol=2e-3)
