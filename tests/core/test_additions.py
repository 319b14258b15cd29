"""Additions to the classic step: the relativistic loss, penalties, augmentation, packing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import gan_of, lenient

from configs import base, digits
from dcgan_jax import settings
from dcgan_jax.core import train_state
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Discriminator, Generator, pack
from dcgan_jax.core.train_step import Keys, Recipe, make_train_step
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment

GENERATOR = Generator(
  widths=(8, 6),
  strides=(2, 2),
  norm=(True, True),
  leak=0.0,
  image_size=(8, 8),
  channels=1,
  initializer='glorot',
)
PLAIN = Discriminator(widths=(6, 8), strides=(2, 2), norm=(False, False), use_bias=True, initializer='glorot')
ADDITIONS = {
  'r1 and r2': ({}, {'loss': LOSSES['relativistic'], 'penalties': {'r1': 1.0, 'r2': 0.5}}),
  'gradient penalty': ({}, {'loss': LOSSES['wasserstein'], 'penalties': {'gradient_penalty': 10.0}}),
  'packing': ({'packing': 2}, {}),
}


def _make(name, generator=GENERATOR, dtype='float32', **more):
  options, recipe = ADDITIONS[name]
  networks = generator.clone(dtype=dtype), PLAIN.clone(dtype=dtype, **options)
  gan = gan_of(networks, lenient(optax.sgd(1e-2)), 5)
  create = jax.jit(functools.partial(train_state.create, gan, 0))
  return create(), make_train_step(gan, Recipe(**recipe | more))


def _images(count):
  return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)


def _assert_close(a, b, rtol, atol):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


@pytest.mark.slow
@pytest.mark.parametrize('name', ADDITIONS)
def test_in_bfloat16_losses_stay_near(name):
  state, step = _make(name)
  _, metrics = jax.jit(step)(state, _images(16))
  with jax.numpy_dtype_promotion('standard'):  # Flax's batch norm mixes float32 statistics with bfloat16.
    _, near = jax.jit(_make(name, dtype='bfloat16')[1])(state, _images(16))
  for key in metrics:
    if not key.startswith('grad_norm'):
      np.testing.assert_allclose(near[key], metrics[key], rtol=0.1, atol=0.02)


@pytest.mark.slow
def test_penalties_of_parts_add_up_to_those_of_the_batch():
  """Leaves out batch norm, to which a part is a batch of its own: then accumulation changes nothing."""
  generator = GENERATOR.clone(norm=(False, False))
  state, step = _make('r1 and r2', generator)
  _, in_parts = _make('r1 and r2', generator, accumulate=2)
  whole, parts = (jax.jit(each)(state, _images(16)) for each in (step, in_parts))
  _assert_close(parts, whole, 1e-5, 1e-6)
  assert whole[1]['penalty'] > 0.01 * whole[1]['loss_d']  # It counts.


@pytest.mark.slow
def test_relativistic_step_is_the_textbooks():
  """Compares with losses of whole networks, differentiated at once."""
  generator = GENERATOR.clone(norm=(False, False))
  recipe = Recipe(LOSSES['relativistic'], penalties={'r1': 2.0, 'r2': 0.5}, order='simultaneous')
  gan = gan_of((generator, PLAIN), lenient(optax.sgd(1.0)), 5)
  state = jax.jit(functools.partial(train_state.create, gan, 0))()
  after, metrics = jax.jit(make_train_step(gan, recipe))(state, _images(8))
  real = _images(8).astype(np.float32) / 127.5 - 1
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
  z = gan.latents.sample(jax.random.fold_in(jax.random.split(key, 6)[0], 0), jnp.arange(8))

  def judge(params, images):
    return PLAIN.apply({'params': params}, images)[0]

  def squares(params, images):
    gradient = jax.grad(lambda x: judge(params, x).sum())(images)
    return (gradient**2).sum((1, 2, 3)).mean()

  def loss_d(params, fake):
    loss = jax.nn.softplus(judge(params, fake) - judge(params, real)).mean()
    return loss + squares(params, real) + 0.25 * squares(params, fake)

  def loss_g(params):
    fake = generator.apply({'params': params}, z)
    d = state.discriminator.params
    return jax.nn.softplus(judge(d, real) - judge(d, fake)).mean()

  fake = generator.apply({'params': state.generator.params}, z)
  want_d = jax.jit(jax.grad(loss_d))(state.discriminator.params, fake)
  want_g = jax.jit(jax.grad(loss_g))(state.generator.params)
  got_d = jax.tree.map(lambda a, b: a - b, state.discriminator.params, after.discriminator.params)
  got_g = jax.tree.map(lambda a, b: a - b, state.generator.params, after.generator.params)
  _assert_close(got_d, want_d, 1e-3, 1e-6)
  _assert_close(got_g, want_g, 1e-3, 1e-6)
  penalty = squares(state.discriminator.params, real) + 0.25 * squares(state.discriminator.params, fake)
  np.testing.assert_allclose(metrics['penalty'], penalty, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('packing', [1, 2])
@pytest.mark.parametrize('kind', ['r1', 'r2', 'gradient_penalty'])
def test_penalties_are_of_the_gradient_of_each_logit_in_all_that_it_judges(kind, packing):
  """Compares with gradients of one logit at a time in the images of its pack."""
  gan = gan_of((GENERATOR, PLAIN.clone(packing=packing)), lenient(optax.sgd(1e-2)), 5)
  state = jax.jit(functools.partial(train_state.create, gan, 0))()
  recipe = Recipe(order='simultaneous', penalties={kind: 3.0})
  _, metrics = jax.jit(make_train_step(gan, recipe))(state, _images(8))

  real = jnp.asarray(_images(8), jnp.float32) / 127.5 - 1
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
  keys = Keys(*jax.random.split(key, 6)).of_pass(0)
  z = gan.latents.sample(keys.z, jnp.arange(8))
  fake = gan.generator.apply(state.generator.variables, z, train=True, mutable=['batch_stats'])[0]
  key = jax.random.fold_in(keys.discriminator_dropout, 2)
  shares = [jax.random.uniform(jax.random.fold_in(key, i // packing)) for i in range(8)]
  between = jnp.stack([a * x + (1 - a) * y for a, x, y in zip(shares, real, fake)])

  slope = jax.jit(jax.grad(lambda x: gan.discriminator.apply(state.discriminator.variables, x)[0][0]))
  judged = {'r1': real, 'r2': fake, 'gradient_penalty': between}[kind]
  norms = np.array([np.linalg.norm(slope(judged[i : i + packing])) for i in range(0, 8, packing)])
  want = 3 * np.mean((norms - 1) ** 2) if kind == 'gradient_penalty' else 1.5 * np.mean(norms**2)
  np.testing.assert_allclose(metrics['penalty'], want, rtol=1e-4)


@pytest.mark.slow
def test_spectral_norm_is_that_of_a_singular_value_decomposition():
  normed = PLAIN.clone(spectral_norm=True)
  images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)), jnp.float32)
  variables = normed.init(jax.random.key(0), images)
  forward = jax.jit(lambda v: normed.apply(v, images, train=True, mutable=['batch_stats']))
  for _ in range(100):  # steps of power iteration
    (logits, _), updated = forward(variables)
    variables = variables | updated

  def divided(layer):
    kernel = np.asarray(layer['kernel'])
    largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    return layer | {'kernel': kernel / largest}

  want, _ = PLAIN.apply({'params': {n: divided(layer) for n, layer in variables['params'].items()}}, images)
  np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)
  stored, _ = normed.apply(variables, images)  # outside training by what is stored
  np.testing.assert_allclose(stored, want, rtol=1e-4, atol=1e-5)


def test_packs_are_images_side_by_side_in_the_channels():
  images = np.random.default_rng(0).standard_normal((6, 4, 5, 2)).astype(np.float32)
  packs = np.asarray(pack(jnp.asarray(images), 3))
  assert packs.shape == (2, 4, 5, 6)
  np.testing.assert_array_equal(packs[1], np.concatenate(images[3:], axis=-1))
  packed = PLAIN.clone(packing=3)
  variables = packed.init(jax.random.key(0), jnp.asarray(images))
  logits, activations = packed.apply(variables, jnp.asarray(images))
  assert logits.shape == (2,) and activations[0].shape[0] == 2
  assert variables['params']['conv1']['kernel'].shape == (4, 4, 6, 6)


def _settings(**train):
  config = digits.get_config()
  config.train.update(train)
  return config


def test_penalties_with_batch_norm_in_d_are_refused():
  for name in ('r1', 'r2', 'gradient_penalty'):
    with pytest.raises(
      InputError, match=rf'train\.{name}=1\.0: .* set discriminator\.norm to \(False, False\)'
    ):
      settings.check(_settings(**{name: 1.0}))
  config = _settings(r1=1.0)
  config.discriminator.norm = (False, False)
  assert settings.check(config).train.r1 == 1.0


def test_half_life_of_the_moving_average():
  """After so many images the share of the old average is a half, of G's images with one_per_batch."""
  config = _settings(ema_decay=0.0, ema_half_life=6400)
  assert experiment.build(settings.check(config)).recipe.ema_decay ** 100 == pytest.approx(0.5)
  config.train.order = 'one_per_batch'
  assert experiment.build(settings.check(config)).recipe.ema_decay ** 200 == pytest.approx(0.5)
  with pytest.raises(InputError, match='set one of them to 0'):
    settings.check(_settings(ema_half_life=6400))


def test_packs_must_share_the_batch():
  config = _settings()
  config.discriminator.packing = 3
  with pytest.raises(InputError, match=r'by the 1 devices times discriminator\.packing=3; choose e\.g\. 63'):
    settings.check_devices(settings.check(config), 1)


def test_all_is_off_by_default():
  config = base.get_config()
  config.data.channels = 1
  recipe = experiment.build(settings.check(config)).recipe
  assert recipe == Recipe(LOSSES['non_saturating'])
  built = experiment.build(settings.check(config)).gan.discriminator
  assert (built.packing, built.spectral_norm) == (1, False)
