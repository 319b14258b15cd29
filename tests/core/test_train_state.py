import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import gan_of, lenient

from dcgan_jax.core import train_state


def _adam(gradients, rate, b1, b2, epsilon):
  """Returns the parameter, at first 1, after each gradient, by algorithm 1 of Kingma and Ba (2015)."""
  x, m, v, out = 1.0, 0.0, 0.0, []
  for t, g in enumerate(gradients, 1):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    x -= rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + epsilon)
    out.append(x)
  return out


def _run(optimizer, gradients):
  params = {'x': jnp.float32(1.0)}
  optimizer = lenient(optimizer)
  opt_state, out = optimizer.init(params), []
  for g in gradients:
    updates, opt_state = optimizer.update({'x': jnp.float32(g)}, opt_state, params)
    params = optax.apply_updates(params, updates)
    out.append(float(params['x']))
  return out


def test_optimizer_is_adam():
  gradients = [0.3, -0.2, 0.5, 1e-6]
  got = _run(train_state.make_optimizer(1e-2, b1=0.5, b2=0.999, epsilon=1e-7), gradients)
  np.testing.assert_allclose(got, _adam(gradients, 1e-2, 0.5, 0.999, 1e-7), rtol=1e-6)


def test_l2_is_added_to_the_gradient_before_adam():
  got = _run(train_state.make_optimizer(1e-2, l2=0.1), [0.0])
  np.testing.assert_allclose(got, _adam([0.1 * 1.0], 1e-2, 0.5, 0.999, 1e-8), rtol=1e-6)


def test_learning_rate_falls_linearly_to_zero():
  """Takes a constant gradient, with which Adam's steps are the learning rate."""
  got = _run(train_state.make_optimizer(1e-2, decay_after=2, decay_steps=4), [1.0] * 8)
  steps = -np.diff([1.0, *got])
  np.testing.assert_allclose(steps, [1e-2, 1e-2, 1e-2, 7.5e-3, 5e-3, 2.5e-3, 0, 0], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
  ('decay', 'rates'),
  [
    ('linear', [8e-3, 6e-3, 4e-3, 2e-3, 2e-3]),
    ('cosine', [6e-3 + 4e-3 * math.cos(math.pi * i / 4) for i in (1, 2, 3, 4, 4)]),
  ],
)
def test_learning_rate_falls_to_its_last_value(decay, rates):
  optimizer = train_state.make_optimizer(1e-2, decay_after=2, decay_steps=4, decay=decay, final_rate=2e-3)
  steps = -np.diff([1.0, *_run(optimizer, [1.0] * 8)])
  np.testing.assert_allclose(steps, [1e-2] * 3 + rates, rtol=1e-3)


@pytest.mark.parametrize('l2', [0.0, 1e-9])
def test_the_rate_is_that_of_the_train_step_that_is_told(l2):
  optimizer = lenient(train_state.make_optimizer(1e-2, l2=l2, decay_after=2, decay_steps=4))
  params = {'x': jnp.float32(1.0)}
  opt_state, sizes = optimizer.init(params), []
  for step in (0, 2, 3, 3, 5, 6, 60):
    updates, opt_state = optimizer.update({'x': jnp.float32(1.0)}, opt_state, params, step=jnp.int32(step))
    sizes.append(-float(updates['x']))
  np.testing.assert_allclose(sizes, [1e-2, 1e-2, 7.5e-3, 7.5e-3, 2.5e-3, 0, 0], rtol=1e-5)


@pytest.fixture(scope='module')
def created(tiny):
  return _create(tiny, seed=1)


def _create(tiny, seed):
  gan = gan_of(tiny, train_state.make_optimizer(2e-4))
  return jax.jit(lambda: train_state.create(gan, seed, ema=True))()


@pytest.mark.slow
def test_create_is_a_function_of_the_seed(tiny, created):
  same, other = _create(tiny, 1), _create(tiny, 2)
  jax.tree.map(np.testing.assert_array_equal, created, same)
  kernels = [np.asarray(x.generator.params['dense']['kernel']) for x in (created, other)]
  assert not (kernels[0] == kernels[1]).any()


def test_training_has_a_key_that_is_not_of_a_latent(created):
  """Samples of a seed draw latent i with i folded into its key; JAX splits a key by the same numbers."""
  seed = jax.random.key(1)
  numbers = np.array([*range(1000), 2**31 - 1, 2**32 - 1], np.uint32)
  of_latents = jax.vmap(jax.random.fold_in, (None, 0))(seed, numbers)
  others = np.concatenate([jax.random.key_data(of_latents), jax.random.key_data(seed)[None]])
  assert not (others == np.asarray(created.key)).all(1).any()
  of_split = jax.random.split(seed, 3)  # From these training took its key before.
  np.testing.assert_array_equal(jax.random.key_data(of_split), jax.random.key_data(of_latents)[:3])


def test_ema_starts_as_a_copy_in_buffers_of_its_own(created):
  """Compares buffers: the state is donated, so sharing one would be an error, or worse, on some platforms."""
  pairs = zip(jax.tree.leaves(created.ema), jax.tree.leaves(created.generator.variables), strict=True)
  for average, now in pairs:
    np.testing.assert_array_equal(average, now)
    assert average.unsafe_buffer_pointer() != now.unsafe_buffer_pointer()
  assert created.sampling_variables is created.ema
  assert created.replace(ema=None).sampling_variables == created.generator.variables


def test_a_young_average_forgets_fast():
  """It is of at most (1 + n) / (10 + n) of itself after n steps, and of `decay` of itself then."""
  for age, share in ((0, 0.1), (8, 0.5), (980, 0.99), (10**6, 0.99)):
    made = train_state.moving_average({'x': jnp.float32(1)}, {'x': jnp.float32(0)}, jnp.int32(age), 0.99)
    np.testing.assert_allclose(made['x'], share, rtol=1e-3)
