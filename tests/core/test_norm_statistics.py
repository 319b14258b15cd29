import jax
import numpy as np
import pytest

from dcgan_jax.core import norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator


@pytest.mark.parametrize(
  ('known', 'classes', 'affine'), [((), 0, True), (('norm0',), 0, True), ((), 3, True), ((), 0, False)]
)
def test_statistics_are_those_of_one_batch_of_all(known, classes, affine):
  """Compares images by the statistics of a batch with those by statistics measured in parts of it."""
  shape = {
    'image_size': (8, 8),
    'channels': 1,
    'classes': classes,
    'condition': 'norm',
    'norm_affine': affine,
  }
  generator = Generator((5, 4), (2, 2), (True, True), initializer='glorot', norm_momentum=0.0, **shape)
  z = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
  z = np.concatenate([z, np.eye(12, classes, dtype=np.float32)], 1)
  variables = jax.jit(generator.init)(jax.random.key(0), z)
  whole = jax.jit(lambda v, z: generator.apply(v, z, train=True, mutable=['batch_stats']))
  images, updated = whole(variables, z)
  given = {name: updated['batch_stats'][name] for name in known}
  stats = norm_statistics.estimate(generator, variables['params'], given, lambda: [z[:5], z[5:7], z[7:]])
  assert set(stats) == {'norm0', 'norm1'}
  made = jax.jit(generator.apply)({'params': variables['params'], 'batch_stats': stats}, z)
  np.testing.assert_allclose(made, images, atol=1e-5)
  want = jax.tree.map(np.asarray, updated['batch_stats'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), stats, want)


def test_a_network_without_batch_norm_has_none():
  images = np.zeros((2, 8, 8, 1), np.float32)
  discriminator = Discriminator((4,), (2,), (False,))
  params = jax.jit(discriminator.init)(jax.random.key(0), images)['params']
  assert norm_statistics.estimate(discriminator, params, {}, lambda: [images]) == {}


@pytest.mark.slow(2)
def test_a_population_has_the_classes_of_the_data():
  """Compares the mean of the first layer, in which each class has an input of its own, with the shares."""
  generator = Generator(
    (5, 4), (2, 2), (True, True), image_size=(8, 8), channels=1, classes=2, condition='concat'
  )
  params = jax.jit(generator.init)(jax.random.key(0), np.zeros((1, 5)))['params']
  of_classes = np.zeros((5, 20), np.float32)
  of_classes[4] = 1.0  # The layer's output is whether it is told the second class.
  params = params | {'dense': {'kernel': of_classes}}
  for counts, share in (((150, 50), 0.25), ((), 0.5)):
    latents = Latents(3, classes=2, counts=counts)
    stats = norm_statistics.of_latents(generator, params, latents, num=2000)
    np.testing.assert_allclose(stats['norm0']['mean'], share, atol=0.03)
