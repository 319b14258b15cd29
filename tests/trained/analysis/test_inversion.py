"""Gradient descent in z, where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import lenient

from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator, to_pixels
from dcgan_jax.trained.analysis import inversion
from dcgan_jax.trained.analysis.inversion import Search


@pytest.fixture(autouse=True)
def lenient_adam(monkeypatch):
  """Lets optax, and nothing else, mix int32 with float32."""
  adam = optax.adam
  monkeypatch.setattr(optax, 'adam', lambda *given: lenient(adam(*given)))


def _linear(seed=0):
  """Returns a linear generator A [4, 12], some z [6, 4], and the distances of other z from their images."""
  random = np.random.default_rng(seed)
  a, z = random.normal(size=(4, 12)), random.normal(size=(6, 4))
  a, z = jnp.asarray(a, jnp.float32), jnp.asarray(z, jnp.float32)
  return a, z, lambda guess: jnp.square(guess @ a - z @ a).mean(1)


def test_the_latents_of_a_linear_generator_are_found():
  _, z, distance = _linear()
  start = jnp.asarray(np.random.default_rng(1).normal(size=z.shape), jnp.float32)
  descend = jax.jit(lambda z: inversion.descend(distance, z, lambda z: z, Search(600)))
  found, history = descend(start)
  assert abs(start - z).max() > 1
  np.testing.assert_allclose(found, z, atol=1e-3)
  assert history.shape == (601, 6) and (history[-1] < 1e-6).all()


def test_the_least_distance_never_grows():
  """Takes a rate at which Adam oscillates."""
  _, z, distance = _linear()
  seen = []

  def watched(guess):
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), distance(guess), ordered=True)
    return distance(guess)

  start = z + 1.0
  found, history = jax.jit(lambda z: inversion.descend(watched, z, lambda z: z, Search(40, 1, 2.0)))(start)
  jax.effects_barrier()
  history = np.asarray(history)
  assert (np.diff(history, axis=0) <= 0).all() and (np.diff(np.stack(seen), axis=0) > 0).any()
  np.testing.assert_allclose(history, np.minimum.accumulate(np.stack(seen)), rtol=1e-6)
  np.testing.assert_allclose(history[0], distance(start), rtol=1e-6)
  np.testing.assert_allclose(history[-1], distance(found), rtol=1e-5)


def _nearest_within(prior):
  """Descends to two z, of which the first is out of reach; returns both and what is found."""
  want = jnp.array([[3.0, -2.0, 0.5, 0.1], [0.2, 0.3, -0.4, 0.0]])

  def distance(z):
    return jnp.square(z - want).mean(1)

  def keep(z):
    return inversion.within(z, prior)

  found, _ = jax.jit(lambda z: inversion.descend(distance, z, keep, Search(500)))(jnp.zeros((2, 4)))
  np.testing.assert_allclose(found[1], want[1], atol=2e-3)
  return np.asarray(want[0]), np.asarray(found[0])


def test_a_uniform_z_is_clipped():
  want, found = _nearest_within('uniform')
  np.testing.assert_allclose(found, np.clip(want, -1, 1), atol=2e-3)


def test_a_normal_z_is_not_longer_than_normal_ones_are():
  """Finds a z almost as near as the nearest of this length; Adam's steps are not those of plain descent."""
  want, found = _nearest_within('normal')
  longest = np.sqrt(4 + 3 * np.sqrt(8))
  np.testing.assert_allclose(np.linalg.norm(found), longest, rtol=1e-5)
  least = np.linalg.norm(want) - longest
  assert least * 0.999 < np.linalg.norm(found - want) < least * 1.1


def test_nearly_all_normal_latents_are_left_alone():
  z = Latents(100).noise(jax.random.key(0), jnp.arange(5000))
  kept = inversion.within(z, 'normal')
  moved = np.asarray((kept != z).any(1))
  assert 0 < moved.sum() < 25
  np.testing.assert_allclose(np.linalg.norm(kept[moved], axis=1), np.sqrt(100 + 3 * np.sqrt(200)), rtol=1e-5)


def test_the_nearest_candidates_are_found():
  a, z, _ = _linear()
  candidates = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 4)), jnp.float32)
  found = inversion.nearest(
    lambda z: (z @ a).reshape(-1, 2, 2, 3), candidates, (z @ a).reshape(-1, 2, 2, 3), 4
  )
  made = np.asarray(candidates.reshape(15, 4), np.float64) @ np.asarray(a, np.float64)
  distances = np.square(made[None] - np.asarray(z @ a)[:, None]).sum(-1)
  np.testing.assert_array_equal(found, candidates.reshape(15, 4)[np.argsort(distances, 1)[:, :4]])


def _project(classes=0, packing=1, starts=3, steps=100):
  """Returns small networks and their projection of images, compiled, with its variables.

  The weights of the generator are large enough for images that are not all gray.
  """
  shared = {'widths': (8, 6), 'strides': (2, 2), 'classes': classes}
  generator = Generator(
    norm=(True, False), leak=0.0, image_size=(8, 8), channels=1, initializer='glorot', **shared
  )
  condition = 'projection'
  discriminator = Discriminator(norm=(False, True), packing=packing, condition=condition, **shared)
  latents = Latents(5, classes=classes)
  candidates = latents.sample(jax.random.key(1), jnp.arange(128)).reshape(2, 64, -1)
  variables = {
    'generator': jax.tree.map(lambda x: 4 * x, jax.jit(generator.init)(jax.random.key(2), candidates[0])),
    'discriminator': jax.jit(discriminator.init)(jax.random.key(3), jnp.zeros((2, 8, 8, 1))),
    'candidates': candidates,
  }
  search = Search(steps, starts)
  project = jax.jit(inversion.make_projection(generator, discriminator, latents, search))
  return generator, discriminator, latents, variables, project


@pytest.mark.slow
def test_images_of_the_generator_are_found_again():
  generator, discriminator, latents, variables, project = _project()
  z = latents.sample(jax.random.key(9), jnp.arange(4))
  images = to_pixels(generator.apply(variables['generator'], z))
  found = jax.tree.map(np.asarray, project(variables, images))
  made = generator.apply(variables['generator'], found['z'])
  wanted = images.astype(jnp.float32) / 127.5 - 1
  residual = np.square(made - wanted).mean((1, 2, 3))
  np.testing.assert_allclose(found['residual'], residual, rtol=1e-3, atol=1e-7)
  features = [discriminator.apply(variables['discriminator'], x)[1][-1] for x in (made, wanted)]
  error = np.square(features[0] - features[1]).mean((1, 2, 3))
  np.testing.assert_allclose(found['feature_error'], error, rtol=1e-3, atol=1e-7)
  start = generator.apply(variables['generator'], variables['candidates'].reshape(128, -1))
  nearest = np.square(start[None] - wanted[:, None]).mean((2, 3, 4)).min(1)
  assert (residual < nearest / 50).all()


@pytest.mark.slow
def test_an_image_is_projected_by_itself():
  """Finds the same latents in another batch, and the better of more starts."""
  generator, _, latents, variables, project = _project(steps=20)
  images = to_pixels(
    generator.apply(variables['generator'], latents.sample(jax.random.key(9), jnp.arange(4)))
  )
  together, alone = project(variables, images), project(variables, images[2:3])
  np.testing.assert_allclose(together['z'][2:3], alone['z'], atol=1e-4)
  one = _project(steps=20, starts=1)[-1](variables, images)
  distance = {
    name: inversion.score(x['residual'], x['feature_error']) for name, x in (('one', one), ('more', together))
  }
  assert (distance['more'] <= distance['one'] * 1.001).all()
  assert (distance['more'] < distance['one'] * 0.9).any()


@pytest.mark.slow
@pytest.mark.parametrize('packing', [1, 2])
def test_the_class_is_found_too(packing):
  generator, _, latents, variables, project = _project(classes=3, packing=packing)
  z = latents.sample(jax.random.key(9), jnp.arange(6))
  found = project(variables, to_pixels(generator.apply(variables['generator'], z)))
  classes = np.asarray(found['z'][:, 5:])
  np.testing.assert_array_equal(classes, np.eye(3)[classes.argmax(1)])
  assert (classes == np.asarray(z[:, 5:])).all(1).mean() >= 0.8
