import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax import settings
from dcgan_jax.core import regularizers
from dcgan_jax.core.models import Discriminator

WEIGHTS = np.random.default_rng(0).standard_normal((4, 4, 2)).astype(np.float32)


def _linear(images):
  return jnp.einsum('bhwc,hwc->b', images, WEIGHTS), 'other'


def test_gradient_of_a_linear_critic_is_its_weights():
  images = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4, 4, 2)), jnp.float32)
  logits, other, squared_norms = regularizers.judged(_linear, images, slopes=True)[1:]
  np.testing.assert_allclose(logits, _linear(images)[0])
  assert other == 'other'
  np.testing.assert_allclose(squared_norms, np.full(3, np.square(WEIGHTS).sum()), rtol=1e-6)
  np.testing.assert_allclose(
    regularizers.zero_centred(squared_norms), np.square(WEIGHTS).sum() / 2, rtol=1e-6
  )
  norm = np.sqrt(np.square(WEIGHTS).sum())
  np.testing.assert_allclose(regularizers.one_centred(squared_norms), (norm - 1) ** 2, rtol=1e-5)


def test_without_penalty_only_the_logits_are_computed():
  logits, other, nothing = regularizers.judged(_linear, jnp.ones((3, 4, 4, 2)), slopes=False)[1:]
  np.testing.assert_array_equal(logits, _linear(jnp.ones((3, 4, 4, 2)))[0])
  assert other == 'other' and np.isnan(nothing)


def test_every_penalty_has_a_key_that_holds_its_weight():
  train = settings.Settings().train
  assert {name: getattr(train, name) for name in regularizers.PENALTIES} == dict.fromkeys(
    regularizers.PENALTIES, 0.0
  )


def test_memory_is_of_the_penalties_that_have_one(anchored):
  """Takes a penalty with memory beside one without: each sees its own, and the weighted sum is returned."""
  names = ['r1', anchored]
  memory = regularizers.initial_memory(names)
  assert memory == {anchored: {'real': 0.0, 'fake': 0.0}} and regularizers.initial_memory(['r1', 'r2']) == {}
  images = jnp.ones((4, 2, 2, 1))
  real, fake = (
    regularizers.Judged(images, jnp.full(4, logit), {}, jnp.full(4, 6.0)) for logit in (3.0, -1.0)
  )
  evidence = regularizers.Evidence(real, fake, lambda x: fake, jax.random.split(jax.random.key(0), 4))
  penalty, memory = regularizers.total({'r1': 0.5, anchored: 0.1}, evidence, memory)
  np.testing.assert_allclose(penalty, 0.5 * 3 + 0.1 * (9 + 1), rtol=1e-6)
  np.testing.assert_allclose([memory[anchored]['real'], memory[anchored]['fake']], [0.03, -0.01], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('fast_conv', [True, False])
@pytest.mark.parametrize('kind', [regularizers.zero_centred, regularizers.one_centred])
def test_derivative_in_the_parameters_is_the_difference_quotient(kind, fast_conv):
  """Second derivatives of the network, through strided convolutions, in float64."""
  module = Discriminator(
    widths=(6, 8), strides=(2, 2), norm=(False, False), use_bias=True, fast_conv=fast_conv, dtype=jnp.float64
  )
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    random = np.random.default_rng(0)
    images = jnp.asarray(random.standard_normal((3, 8, 8, 2)))
    params = jax.tree.map(
      lambda x: jnp.asarray(random.standard_normal(x.shape) * 0.3),
      jax.eval_shape(module.init, jax.random.key(0), images)['params'],
    )
    direction = jax.tree.map(lambda x: jnp.asarray(random.standard_normal(x.shape)), params)

    def penalty(params):
      gradient = jax.grad(lambda x: module.apply({'params': params}, x)[0].sum())(images)
      return kind(jnp.square(gradient).sum((1, 2, 3)))

    gradient = jax.jit(jax.grad(penalty))(params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), gradient, direction)))
    step = 1e-6
    moved = [jax.tree.map(lambda p, d, s=s: p + s * d, params, direction) for s in (step, -step)]
    quotient = (penalty(moved[0]) - penalty(moved[1])) / (2 * step)
  np.testing.assert_allclose(float(slope), float(quotient), rtol=1e-6)


def test_points_between_lie_on_the_line():
  real, fake = jnp.zeros((500, 2, 2, 1)), jnp.ones((500, 2, 2, 1))
  keys = jax.random.split(jax.random.key(0), 500)
  shares = np.asarray(regularizers.between(real, fake, keys))
  np.testing.assert_array_equal(shares, np.broadcast_to(shares[:, :1, :1], shares.shape))
  assert 0 <= shares.min() < 0.02 and 0.98 < shares.max() <= 1 and abs(shares.mean() - 0.5) < 0.04


def test_the_images_of_a_pack_have_one_point_on_the_line():
  """It is the pack that D judges, so that the line is one between two packs (PacGAN with WGAN-GP)."""
  real, fake = jnp.zeros((6, 2, 2, 1)), jnp.ones((6, 2, 2, 1))
  keys = jax.random.split(jax.random.key(0), 3)
  shares = np.asarray(regularizers.between(real, fake, keys)).reshape(3, 2, 4)
  np.testing.assert_array_equal(shares, np.broadcast_to(shares[:, :1, :1], shares.shape))
  assert len(np.unique(shares)) == 3
  alone = np.asarray(regularizers.between(real[:3], fake[:3], keys))
  np.testing.assert_array_equal(alone[:, 0, 0, 0], shares[:, 0, 0])
