"""Precision, recall, density and coverage as an accelerator computes them, in float32.

The neighbourhoods of 10,000 images are seconds of work for a host, and a run that takes scores would wait for
them. `scores.manifold` is the definition. Here features are moved by the mean of the real ones and multiplied
at the highest precision, so the two differ where distances agree to about six digits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.evaluation import scores

ROWS = 1024  # whose distances from all others are in memory at a time


def manifold(fake: np.ndarray, real: np.ndarray, k: int = 3, k_density: int = 5) -> scores.Manifold:
  """Computes what `scores.manifold` does, of the same arguments, on the first device of this process."""
  scores.check_neighbours(fake, real, max(k, k_density))
  centre = np.asarray(real, np.float64).mean(0)
  shares = _shares((fake - centre).astype(np.float32), (real - centre).astype(np.float32), k, k_density)
  return scores.Manifold(*map(float, shares))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _shares(fake: jax.Array, real: jax.Array, k: int, k_density: int) -> tuple[jax.Array, ...]:
  """Returns precision, recall, density and coverage."""
  (fake_radius,) = _radii(fake, (k,))
  real_radius, wide_radius = _radii(real, (k, k_density))

  def around_fake(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    distances = _distances(x, real)
    return (distances <= real_radius).any(), (distances <= wide_radius).sum()

  def around_real(x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    distances = _distances(x[0], fake)
    return (distances <= fake_radius).any(), (distances <= x[1]).any()

  precise, neighbourhoods = jax.lax.map(around_fake, fake, batch_size=ROWS)
  recalled, covered = jax.lax.map(around_real, (real, wide_radius), batch_size=ROWS)
  density = neighbourhoods.sum() / (k_density * len(fake))
  return precise.mean(), recalled.mean(), density, covered.mean()


def _radii(x: jax.Array, ks: tuple[int, ...]) -> list[jax.Array]:
  """Returns for each k the squared distance of each point to its k-th nearest other point, [N]."""

  def nearest(row: jax.Array) -> jax.Array:
    # The smallest distance, at position 0, is that of the point to itself.
    return -jax.lax.top_k(-_distances(row, x), max(ks) + 1)[0]

  near = jax.lax.map(nearest, x, batch_size=ROWS)
  return [near[:, k] for k in ks]


def _distances(x: jax.Array, others: jax.Array) -> jax.Array:
  """Returns the squared distances of one point [D] from others [N, D], [N]."""
  products = jnp.matmul(others, x, precision='highest')
  return jnp.maximum(jnp.square(x).sum() + jnp.square(others).sum(1) - 2.0 * products, 0.0)
