import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.core import latents


def test_a_latent_depends_on_its_index_alone():
  key = jax.random.key(3)
  many = latents.sample(key, jnp.arange(100), 10)
  some = latents.sample(key, jnp.array([7, 42]), 10)
  np.testing.assert_array_equal(some, many[jnp.array([7, 42])])


def test_priors():
  key = jax.random.key(0)
  normal = np.asarray(latents.sample(key, jnp.arange(2000), 100, 'normal'))
  uniform = np.asarray(latents.sample(key, jnp.arange(2000), 100, 'uniform'))
  assert normal.shape == (2000, 100) and normal.dtype == np.float32
  # With 200,000 draws the standard errors are 0.002 of the mean and 0.003 of the fourth moment's root.
  assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01
  assert abs((normal**4).mean() - 3) < 0.1
  assert -1 <= uniform.min() < -0.999 and 0.999 < uniform.max() <= 1
  assert abs(uniform.std() - 1 / np.sqrt(3)) < 0.01


T = jnp.linspace(0, 1, 7)
slerp = jax.jit(latents.slerp)  # Compiled operation by operation, it takes seconds.
VECTORS = st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5).map(np.float32)


def test_lerp():
  got = latents.lerp(jnp.array([0.0, 2.0]), jnp.array([4.0, 2.0]), jnp.array([0.0, 0.25, 1.0]))
  np.testing.assert_array_equal(got, [[0, 2], [1, 2], [4, 2]])


def test_slerp_of_a_right_angle():
  """Takes a quarter turn with lengths from 2 to 4, of which a third is at 30 degrees."""
  got = slerp(jnp.array([2.0, 0.0]), jnp.array([0.0, 4.0]), jnp.array([0.0, 1 / 3, 0.5, 1.0]))
  third = 8 / 3 * np.array([np.sqrt(3) / 2, 0.5])
  np.testing.assert_allclose(got, [[2, 0], third, 3 * np.sqrt([0.5, 0.5]), [0, 4]], atol=1e-6)


@given(a=VECTORS, b=VECTORS)
def test_slerp_turns_evenly_and_keeps_to_the_lengths_between(a, b):
  """Compares with another formula in double precision, from 1 to 179 degrees."""
  wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
  lengths = np.linalg.norm(wide_a), np.linalg.norm(wide_b)
  hypothesis.assume(min(lengths) > 0.1)
  u, v = wide_a / lengths[0], wide_b / lengths[1]
  angle = np.arccos(np.clip(u @ v, -1, 1))
  hypothesis.assume(np.pi / 180 < angle < np.pi * 179 / 180)
  t = np.asarray(T, np.float64)[:, None]
  directions = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
  want = ((1 - t) * lengths[0] + t * lengths[1]) * directions
  np.testing.assert_allclose(slerp(jnp.array(a), jnp.array(b), T), want, atol=2e-4)


@pytest.mark.parametrize('angle', [0.0, 1e-7, 1e-5, 1e-3])
def test_slerp_of_nearly_the_same_direction_is_lerp(angle):
  a = jnp.array([3.0, 0.0, 0.0])
  b = 3 * jnp.array([np.cos(angle), np.sin(angle), 0], jnp.float32)
  np.testing.assert_allclose(slerp(a, b, T), latents.lerp(a, b, T), atol=3e-6)


@pytest.mark.parametrize('angle', [0.0, 1e-7, 1e-6, 1e-5, 1e-3])
def test_slerp_to_the_opposite_goes_around_and_not_through_zero(angle):
  a = jnp.array([3.0, 0.0, 0.0, 0.0])
  b = -3 * jnp.array([np.cos(angle), 0, np.sin(angle), 0], jnp.float32)
  got = np.asarray(slerp(a, b, T))
  np.testing.assert_allclose(np.linalg.norm(got, axis=1), 3, rtol=1e-6)
  np.testing.assert_allclose(got[[0, -1]], [a, b], atol=3e-6)
  steps = np.linalg.norm(np.diff(got, axis=0), axis=1)
  np.testing.assert_allclose(steps, 6 * np.sin(np.pi / 12), rtol=1e-3)


def test_slerp_of_what_has_no_direction_is_finite():
  zero, b = jnp.zeros(3), jnp.array([0.0, 3.0, 4.0])
  assert np.isfinite(slerp(zero, b, T)).all() and (slerp(zero, zero, T) == 0).all()
  np.testing.assert_allclose(slerp(zero, b, T)[-1], b, rtol=1e-6)


def test_slerp_keeps_the_length_of_normal_latents_and_lerp_does_not():
  """Measures |z|, which is 9.975 for 100 normal numbers; halfway between two, lerp has it over sqrt(2)."""
  a = latents.sample(jax.random.key(0), jnp.arange(4000), 100)
  b = latents.sample(jax.random.key(1), jnp.arange(4000), 100)
  half = jnp.array([0.5])
  length = {
    kind: np.linalg.norm(jax.jit(jax.vmap(f, (0, 0, None)))(a, b, half), axis=-1).mean()
    for kind, f in latents.PATHS.items()
  }
  assert abs(length['spherical'] - 9.975) < 0.03 and abs(length['linear'] - 9.975 / np.sqrt(2)) < 0.03


@pytest.mark.parametrize('kind', latents.PATHS)
def test_a_path_goes_through_its_points_and_back(kind):
  points = latents.sample(jax.random.key(0), jnp.arange(3), 10)
  legs = np.asarray(latents.path(points, T, kind))
  assert legs.shape == (3, 7, 10)
  np.testing.assert_allclose(legs[:, 0], points, atol=1e-5)
  np.testing.assert_allclose(legs[:, -1], np.roll(points, -1, axis=0), atol=1e-5)
  np.testing.assert_array_equal(latents.path(points, T, kind, False), legs[:2])
  # Without its ends, as an animation takes it, a closed path has no jump: its last step is like the others.
  loop = np.concatenate(np.asarray(latents.path(points, jnp.arange(20) / 20, kind)))
  steps = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1)
  np.testing.assert_allclose(steps[-1], steps[-2], rtol=0.02)


def test_arithmetic_is_of_means():
  plus, minus, plus2 = (
    jnp.array([[1.0, 2], [3, 4], [5, 9]]),
    jnp.array([[1.0, 1]]),
    jnp.array([[0.0, 2], [2, 4]]),
  )
  np.testing.assert_array_equal(latents.arithmetic(plus, minus, plus2), [3 - 1 + 1, 5 - 1 + 3])
  np.testing.assert_allclose(latents.arithmetic(plus, plus, plus2), plus2.mean(0), atol=1e-6)


def test_neighbours_are_uniform_around():
  z = jnp.array([1.0, -2.0])
  noise = np.asarray(latents.neighbours(jax.random.key(0), z, count=20_000)) - np.asarray(z)
  assert noise.shape == (20_000, 2) and 0.2499 < abs(noise).max() <= 0.2501
  # The standard errors are 0.001 and 0.0006.
  assert abs(noise.mean()) < 0.005 and abs(noise.std() - 0.25 / np.sqrt(3)) < 0.003
  assert latents.neighbours(jax.random.key(0), z).shape == (8, 2)


def test_turn_moves_the_one_mean_to_the_other():
  a = latents.sample(jax.random.key(0), jnp.arange(4), 10)
  b = latents.sample(jax.random.key(1), jnp.arange(5), 10)
  np.testing.assert_allclose(a.mean(0) + latents.turn(a, b), b.mean(0), atol=1e-6)
  np.testing.assert_array_equal(latents.turn(a, b), -latents.turn(b, a))


def test_classes_as_in_training_have_the_shares_of_the_data():
  key, index = jax.random.key(3), jnp.arange(3000)
  known = latents.Latents(5, classes=4, counts=(900, 0, 90, 10))
  drawn = np.asarray(known.sample(key, index, as_trained=True))
  np.testing.assert_allclose(drawn[:, 5:].mean(0), [0.9, 0, 0.09, 0.01], atol=0.015)
  assert drawn[:, 6].max() == 0 and (drawn[:, 5:].sum(1) == 1).all()
  uniform = np.asarray(known.sample(key, index))
  np.testing.assert_array_equal(drawn[:, :5], uniform[:, :5])
  np.testing.assert_array_equal(drawn[[7, 42]], known.sample(key, jnp.array([7, 42]), as_trained=True))
  for counts in ((), (7, 7, 7, 7)):  # Where all are the same, the classes are those of samples.
    same = latents.Latents(5, classes=4, counts=counts)
    np.testing.assert_array_equal(same.sample(key, index, as_trained=True), uniform)


def test_counts_may_be_those_of_json():
  ours, theirs = latents.Latents(5, classes=2, counts=(3, 1)), latents.Latents(5, classes=2, counts=[3, 1])
  assert ours == theirs and hash(ours) == hash(theirs)


def test_latents_of_given_classes_have_the_z_of_the_seed():
  drawn = latents.Latents(3, classes=4).draw(5, 6, [2, 0])
  np.testing.assert_array_equal(drawn[:, :3], latents.Latents(3).draw(5, 6))
  np.testing.assert_array_equal(drawn[:, 3:].argmax(1), [2, 0, 2, 0, 2, 0])


def test_a_path_suits_the_prior():
  points = jnp.asarray(latents.Latents(3).draw(0, 3))
  for prior, kind in (('normal', 'spherical'), ('uniform', 'linear')):
    want = latents.Latents(3, prior).path(points, T, kind)
    np.testing.assert_array_equal(latents.Latents(3, prior).path(points, T), want)
