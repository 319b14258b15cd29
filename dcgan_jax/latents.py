"""Latents: the noise z that the generator turns into images."""

import jax
import jax.numpy as jnp
from jax import Array

# z ~ N(0, 1) in most recipes, U[-1, 1] in the paper
PRIORS = {
  'normal': lambda key, size: jax.random.normal(key, (size,)),
  'uniform': lambda key, size: jax.random.uniform(key, (size,), minval=-1.0, maxval=1.0),
}


def sample(key: Array, indices: Array, size: int, prior: str = 'normal') -> Array:
  """Draws latents that are a function of the key and their index alone.

  So sample 7 of a seed is the same whether 8 or 8,000 are drawn, on one device or on many.

  Args:
    key: a JAX random key.
    indices: [N], integers.
    size: of each latent.
    prior: 'normal' | 'uniform'.

  Returns:
    z, float32 [N, size].
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(indices))
  return jax.vmap(lambda k: PRIORS[prior](k, size))(keys)
