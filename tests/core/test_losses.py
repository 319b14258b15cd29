import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dcgan_jax.core.losses import LOSSES

LOGITS = hnp.arrays(np.float64, 6, elements=st.floats(-8, 8))


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _reference(name, real, fake, label):
  """Computes the losses as written in the papers, on probabilities if they do."""
  d_real, d_fake = _sigmoid(real), _sigmoid(fake)
  cross_entropy = -np.mean(label * np.log(d_real) + (1 - label) * np.log(1 - d_real)) - np.mean(
    np.log(1 - d_fake)
  )
  return {
    'non_saturating': (cross_entropy, -np.mean(np.log(d_fake))),
    'minimax': (cross_entropy, np.mean(np.log(1 - d_fake))),
    'least_squares': (
      np.mean((real - label) ** 2) / 2 + np.mean(fake**2) / 2,
      np.mean((fake - 1) ** 2) / 2,
    ),
    'hinge': (np.mean(np.maximum(0, 1 - real)) + np.mean(np.maximum(0, 1 + fake)), -np.mean(fake)),
    'wasserstein': (np.mean(fake) - np.mean(real), -np.mean(fake)),
    'relativistic': (-np.mean(np.log(_sigmoid(real - fake))), -np.mean(np.log(_sigmoid(fake - real)))),
  }[name]


@pytest.mark.parametrize('name', LOSSES)
@given(real=LOGITS, fake=LOGITS, label=st.sampled_from([1.0, 0.9]))
def test_losses_are_the_papers(name, real, fake, label):
  loss = LOSSES[name]
  want_d, want_g = _reference(name, real, fake, label)
  got_d = loss.discriminator(jnp.float32(real), jnp.float32(fake), label)
  np.testing.assert_allclose(got_d, want_d, rtol=1e-5, atol=1e-5)
  others = (jnp.float32(real),) if loss.relativistic else ()
  np.testing.assert_allclose(loss.generator(jnp.float32(fake), *others), want_g, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', LOSSES)
def test_finite_at_extreme_logits(name):
  loss, extreme = LOSSES[name], jnp.float32([-1e4, 1e4])

  def both(x):
    return loss.discriminator(x, x[::-1], 1.0) + loss.generator(x, *([x[::-1]] if loss.relativistic else []))

  gradient = jax.grad(both)(extreme)
  assert np.isfinite(loss.discriminator(extreme, extreme, 1.0)) and np.isfinite(gradient).all()


def test_saturation():
  """Compares gradients when D is sure of a fake: minimax has none, non_saturating a full one."""
  sure = jnp.float32([-20.0])
  assert abs(jax.grad(LOSSES['minimax'].generator)(sure)[0]) < 1e-8
  np.testing.assert_allclose(jax.grad(LOSSES['non_saturating'].generator)(sure)[0], -1.0, rtol=1e-6)


def test_output_is_a_probability_where_there_is_one():
  logits = jnp.float32([-2.0, 0.0, 3.0])
  np.testing.assert_allclose(LOSSES['minimax'].output(logits), _sigmoid(np.array([-2.0, 0, 3])), rtol=1e-6)
  np.testing.assert_array_equal(LOSSES['hinge'].output(logits), logits)
