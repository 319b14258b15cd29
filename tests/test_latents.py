import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import latents


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
  # 200,000 draws: standard errors 0.002 of the mean, 0.003 of the fourth moment's root
  assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01
  assert abs((normal**4).mean() - 3) < 0.1
  assert -1 <= uniform.min() < -0.999 and 0.999 < uniform.max() <= 1
  assert abs(uniform.std() - 1 / np.sqrt(3)) < 0.01
