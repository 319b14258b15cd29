"""Directions of the latent space against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Generator
from dcgan_jax.trained.walks import directions


def _generator(classes=0, **changes):
  """Returns a generator and its variables, with batch norm that treats its units differently."""
  shared = {'widths': (8, 6), 'strides': (2, 2), 'norm': (True, True), 'image_size': (8, 8), 'channels': 1}
  generator = Generator(**shared | {'initializer': 'glorot', 'leak': 0.0, 'classes': classes} | changes)
  variables = jax.jit(generator.init)(jax.random.key(0), jnp.zeros((2, 5 + classes)))
  random = np.random.default_rng(1)
  fill = lambda x: jnp.asarray(random.uniform(0.2, 3, x.shape), jnp.float32)  # noqa: E731
  stats = {norm: {key: fill(x) for key, x in both.items()} for norm, both in variables['batch_stats'].items()}
  params = variables['params'] | {
    norm: {key: fill(x) for key, x in variables['params'][norm].items()}
    for norm in stats
    if generator.norm_affine
  }
  return generator, {'params': params, 'batch_stats': stats}


CASES = [
  {},
  {'dense_norm': 'unit'},
  {'norm': (False, True)},
  {'dense_widths': (7,)},
  {'classes': 3},
  {'norm_affine': False},
]


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes', [*CASES, *({'classes': 3, 'condition': c} for c in ('embedding', 'norm'))]
)
def test_directions_of_the_first_layer_are_its_singular_vectors(changes):
  """Takes the derivative of what the first activation gets, by z, for all classes together."""
  generator, variables = _generator(**changes)
  classes = changes.get('classes', 0)
  z = Latents(5).sample(jax.random.key(3), jnp.arange(1))[0]

  def before_activation(part, y):
    got = []
    with_part = jnp.concatenate([part, y])[None]

    class Watched(Generator):
      def activate(self, x, train, dropout_name):
        got.append(x)
        return super().activate(x, train, dropout_name)

    Watched(
      **{
        name: getattr(generator, name)
        for name in generator.__dataclass_fields__
        if name not in ('parent', 'name')
      }
    ).apply(variables, with_part)
    return got[0].reshape(-1)

  slopes = [jax.jacobian(before_activation)(z, y) for y in np.eye(max(classes, 1), classes, dtype='f4')]
  slope = np.concatenate(slopes, dtype=np.float64)  # [classes * units, 5]
  _, values, vectors = np.linalg.svd(slope, full_matrices=False)
  found = directions.of_first_layer(generator, variables, 5, 4)
  assert found.shape == (4, 5) and found.dtype == np.float32
  assert (np.diff(values) < -1e-3).all()  # Otherwise the vectors would not be determined.
  np.testing.assert_allclose(np.abs((found * vectors[:4]).sum(1)), 1, atol=1e-5)
  assert (found[np.arange(4), np.abs(found).argmax(1)] > 0).all()
  np.testing.assert_array_equal(directions.of_first_layer(generator, variables, 5, 99)[:4], found)


@pytest.mark.slow
def test_directions_of_activations_are_regressed_principal_components():
  generator, variables = _generator(classes=3)
  latents = Latents(5, classes=3)
  found = directions.of_activations(generator, variables, latents, 3, seed=4)
  z = np.asarray(latents.sample(jax.random.key(4), jnp.arange(directions.SAMPLES)), np.float64)
  _, kept = generator.apply(
    variables,
    jnp.asarray(z, jnp.float32),
    capture_intermediates=lambda m, n: n == 'activate',
    mutable=['intermediates'],
  )
  x = np.asarray(kept['intermediates']['activate'][0], np.float64).reshape(len(z), -1)
  assert x.min() == 0  # after the ReLU
  _, vectors = np.linalg.eigh(np.cov(x.T))
  scores = (x - x.mean(0)) @ vectors[:, ::-1][:, :3]
  slopes, *_ = np.linalg.lstsq(scores, z[:, :5] - z[:, :5].mean(0), rcond=None)
  want = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
  assert found.shape == (3, 5) and found.dtype == np.float32
  np.testing.assert_allclose(np.abs((found * want).sum(1)), 1, atol=1e-4)
  assert (found[np.arange(3), np.abs(found).argmax(1)] > 0).all()


def test_both_agree_where_the_activations_are_linear():
  """Regresses what a linear layer makes of normal latents, which has the layer's own directions."""
  random = np.random.default_rng(0)
  kernel = random.normal(size=(6, 20)) * np.array([8, 5, 3, 2, 1, 0.5])[:, None]
  z = random.normal(size=(50_000, 6))
  found = directions.regressed(z, z @ kernel, 9)
  _, vectors = np.linalg.eigh(kernel @ kernel.T)
  assert found.shape == (6, 6)
  assert (np.abs((found * vectors.T[::-1]).sum(1))[:4] > 0.999).all()


@pytest.mark.parametrize(('prior', 'typical'), [('normal', 10.0), ('uniform', 10 / np.sqrt(3))])
def test_the_reach_is_half_of_a_typical_latent(prior, typical):
  latents = Latents(100, prior)
  assert abs(directions.reach(latents) - typical / 2) < 1e-9
  z = np.asarray(latents.noise(jax.random.key(0), jnp.arange(100)))
  assert abs(np.linalg.norm(z, axis=1).mean() / typical - 1) < 0.02
