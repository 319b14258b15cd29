"""The directions of sliders, found without labels."""

import jax
import numpy as np
import pytest

from dcgan_jax.explorer import directions
from dcgan_jax.models import Generator

G = Generator((8, 6), (2, 2), (True, True), image_size=(8, 8), channels=1)


@pytest.mark.parametrize(
  'generator',
  [
    G,
    G.clone(dense_norm='unit'),
    G.clone(norm=(False, True)),
    G.clone(classes=3),
    G.clone(dense_widths=(9,)),
  ],
  ids=['channel', 'unit', 'no_norm', 'classes', 'hidden'],
)
def test_they_are_the_singular_vectors_of_the_first_layer(generator):
  """Compares with the derivative of that layer's normalised output, which JAX finds."""
  size = 5
  variables = jax.jit(generator.init)(jax.random.key(0), np.zeros((1, size + generator.classes), np.float32))
  first = 'hidden1' if generator.dense_widths else 'dense'
  norm = {'hidden1': 'hidden_norm1', 'dense': 'norm0'}[first]
  if generator.norm[0]:  # Untrained statistics are all alike; these are not.
    draw = np.random.default_rng(0).uniform
    stats = variables['batch_stats'][norm]
    changed = {norm: {'mean': stats['mean'], 'var': draw(0.2, 3, stats['var'].shape).astype(np.float32)}}
    variables |= {'batch_stats': variables['batch_stats'] | changed}

  def output(z):
    names = (norm if generator.norm[0] else first,)
    told = np.zeros(generator.classes, np.float32)
    z = jax.numpy.concatenate([z, told])[None]
    _, state = generator.apply(variables, z, capture_intermediates=lambda module, _: module.name in names)
    return state['intermediates'][names[0]]['__call__'][0].ravel()

  jacobian = jax.jit(jax.jacobian(output))(np.zeros(size, np.float32))
  _, strengths, want = np.linalg.svd(np.asarray(jacobian, np.float64))
  got = directions.of_first_layer(generator, variables, size, count=3)
  assert got.dtype == np.float32 and got.shape == (3, size)
  assert np.ptp(strengths[:4]) > 1e-3
  np.testing.assert_allclose(abs((got * want[:3]).sum(1)), 1, atol=1e-3)
  np.testing.assert_allclose(got @ got.T, np.eye(3), atol=1e-6)
  assert (got[np.arange(3), abs(got).argmax(1)] > 0).all()


def test_there_are_not_more_of_them_than_numbers():
  variables = jax.jit(G.init)(jax.random.key(0), np.zeros((1, 4), np.float32))
  assert directions.of_first_layer(G, variables, 4).shape == (4, 4)
