"""Latents: the noise z that the generator turns into images."""

import functools
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Latents:
  """What a generator takes: the size of each z, and the prior that z is drawn from ('normal' | 'uniform')."""

  size: int = 100
  prior: str = 'normal'

  def sample(self, key: Array, indices: Array) -> Array:
    """Draws z, float32 [N, size], see `sample`."""
    return sample(key, indices, self.size, self.prior)


def lerp(a: Array, b: Array, t: Array) -> Array:
  """Linear interpolation: the straight line from a to b.

  Between normal latents its middle is shorter than any sample, by the root of 2: see `slerp`.

  Args:
    a: float [Z], at t = 0.
    b: float [Z], at t = 1.
    t: float [T].

  Returns:
    float [T, Z].
  """
  return (1 - t[:, None]) * a + t[:, None] * b


def slerp(a: Array, b: Array, t: Array) -> Array:
  """Spherical interpolation: the direction turns evenly from a's to b's, the length goes evenly to b's.

  Normal latents of 100 numbers have lengths near 10 in all directions: so has the whole way between them,
  where the generator has been in training (White 2016, arXiv:1609.04468, section 2.1). Between equal
  directions it is `lerp`; from a direction to its opposite there are many ways, of which one is taken.

  Args and returns: as of `lerp`.
  """
  length_a, length_b = jnp.linalg.norm(a), jnp.linalg.norm(b)
  tiny = jnp.finfo(a.dtype).tiny
  u, v = a / jnp.maximum(length_a, tiny), b / jnp.maximum(length_b, tiny)
  # exact for all angles: the arc cosine of u @ v would lose half of the digits near 0 and pi
  angle = 2 * jnp.arctan2(jnp.linalg.norm(u - v), jnp.linalg.norm(u + v))
  across = _perpendicular(u, v)
  direction = jnp.cos(t * angle)[:, None] * u + jnp.sin(t * angle)[:, None] * across
  return lerp(length_a[None], length_b[None], t) * direction


def _perpendicular(u: Array, v: Array) -> Array:
  """The unit vector at a right angle to the unit vector u, towards v; any if v is on u's line."""
  axis = jnp.zeros_like(u).at[jnp.argmin(jnp.abs(u))].set(1)
  towards = v - (v @ u) * u
  towards = jnp.where(jnp.linalg.norm(towards) > 8 * jnp.finfo(u.dtype).eps, towards, axis)
  for _ in range(2):  # a second time, for what rounding left of u in a short vector
    towards = towards - (towards @ u) * u
    towards /= jnp.maximum(jnp.linalg.norm(towards), jnp.finfo(u.dtype).tiny)
  return towards


PATHS = {'linear': lerp, 'spherical': slerp}


@functools.partial(jax.jit, static_argnames=('kind', 'closed'))
def path(points: Array, t: Array, kind: str = 'spherical', closed: bool = True) -> Array:
  """The way through several latents, leg by leg (the paper's figure 4 goes through 9).

  Args:
    points: float [P, Z].
    t: float [T], where on each leg, from 0 at its start to 1 at its end.
    kind: 'linear' | 'spherical'.
    closed: whether a last leg leads back to the first point.

  Returns:
    float [P, T, Z], or [P - 1, T, Z] if open.
  """
  ends = jnp.roll(points, -1, axis=0)
  legs = jax.vmap(PATHS[kind], (0, 0, None))(points, ends, t)
  return legs if closed else legs[:-1]


def arithmetic(plus: Array, minus: Array, plus2: Array) -> Array:
  """mean(plus) - mean(minus) + mean(plus2): a man with glasses - a man + a woman (the paper's figure 7).

  Single latents are unstable, says its section 6.3.2, means of three are not. It speaks of no clipping and
  there is none: of uniform latents the result may leave [-1, 1].

  Args:
    plus, minus, plus2: float [N, Z], each its own N; the paper takes 3.

  Returns:
    float [Z].
  """
  return plus.mean(0) - minus.mean(0) + plus2.mean(0)


def neighbours(key: Array, z: Array, count: int = 8, scale: float = 0.25) -> Array:
  """Latents around one, by uniform noise in [-scale, scale] (the paper's figure 7 has 8 around its result).

  Args:
    key: a JAX random key.
    z: float [Z].
    count: how many.
    scale: of the noise.

  Returns:
    float [count, Z].
  """
  return z + jax.random.uniform(key, (count, *z.shape), z.dtype, -scale, scale)


def turn(start: Array, end: Array) -> Array:
  """The vector from the mean of some latents to that of others: from faces that look left to those that look
  right, each a mean of four (the paper's figure 8). Added to any latent, in parts, it turns that one.

  Args:
    start, end: float [N, Z], each its own N.

  Returns:
    float [Z].
  """
  return end.mean(0) - start.mean(0)
