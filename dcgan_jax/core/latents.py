"""Latents, the noise z that the generator maps to images."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from dcgan_jax.errors import InputError

# Most recipes draw z from N(0, 1); the paper draws it from U[-1, 1] (figure 1).
PRIORS = {
  'normal': lambda key, size: jax.random.normal(key, (size,), jnp.float32),
  'uniform': lambda key, size: jax.random.uniform(key, (size,), jnp.float32, -1.0, 1.0),
}


def sample(key: Array, indices: Array, size: int, prior: str = 'normal') -> Array:
  """Draws latents, each a function of the key and its index alone.

  Sample 7 of a seed is therefore the same whether 8 or 8,000 are drawn, on one device or many.

  Args:
    key: A JAX random key.
    indices: Integers [N].
    size: Length of each latent.
    prior: 'normal', N(0, 1), or 'uniform', U[-1, 1].

  Returns:
    The latents, float32 [N, size].
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(indices))
  return jax.vmap(lambda k: PRIORS[prior](k, size))(keys)


@dataclass(frozen=True)
class Latents:
  """The latents of a generator.

  Attributes:
    size: Length of z.
    prior: Distribution of z, 'normal' | 'uniform'.
    classes: Number of classes to condition on; 0 for none. A one-hot vector then follows each z.
    counts: Training images of each class; () where they are unknown, and taken to be equal.
  """

  size: int = 100
  prior: str = 'normal'
  classes: int = 0
  counts: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    """Turns a list, as JSON has it, into a tuple, so that latents can be hashed."""
    object.__setattr__(self, 'counts', tuple(self.counts))

  @property
  def width(self) -> int:
    """Length of the generator's input: z, and a weight for each class."""
    return self.size + self.classes

  def noise(self, key: Array, indices: Array) -> Array:
    """Draws z without classes, float32 [N, size]; see the function `sample`."""
    return sample(key, indices, self.size, self.prior)

  def sample(self, key: Array, indices: Array, as_trained: bool = False) -> Array:
    """Draws z and classes, each a function of the key and its index alone.

    Args:
      key: A JAX random key.
      indices: Integers [N].
      as_trained: Whether classes are as frequent as in training, rather than equally frequent.

    Returns:
      The latents, float32 [N, width].
    """
    z = self.noise(key, indices)
    if not self.classes:
      return z
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 2**32 - 1), jnp.asarray(indices))
    if as_trained and len(set(self.counts)) > 1:
      shares = jnp.asarray(np.array(self.counts) / sum(self.counts), jnp.float32)
      return self.of_classes(z, jax.vmap(lambda k: jax.random.choice(k, self.classes, p=shares))(keys))
    return self.of_classes(z, jax.vmap(lambda k: jax.random.randint(k, (), 0, self.classes, jnp.int32))(keys))

  def of_classes(self, z: Array, classes: Array) -> Array:
    """Conditions z, float32 [N, size or width], on classes, integers [N]; returns float32 [N, width]."""
    return jnp.concatenate([z[:, : self.size], jax.nn.one_hot(classes, self.classes)], 1)

  def draw(self, seed: int, num: int, classes: ArrayLike | None = None) -> np.ndarray:
    """Draws the first `num` latents of a seed, float32 [num, width].

    Args:
      seed: Seed of z and of the classes.
      num: Number of latents.
      classes: A class for all, or one for each, repeated up to `num`; None draws them uniformly.
    """
    key, indices = jax.random.key(seed), jnp.arange(num)
    if classes is None:
      return np.asarray(self.sample(key, indices))
    return np.asarray(self.of_classes(self.noise(key, indices), jnp.asarray(np.resize(classes, num))))

  def draw_classes(self, seed: int, num: int, classes: Iterable[int]) -> np.ndarray:
    """Draws the first `num` z of a seed with each of some classes, float32 [classes * num, width]."""
    z = self.noise(jax.random.key(seed), jnp.arange(num))
    return np.concatenate([self.of_classes(z, jnp.full(num, number)) for number in classes])

  def draw_grid(self, seed: int, num: int) -> tuple[np.ndarray, int | None]:
    """Draws the latents of a run's grid: the first of its seed, or a row of them for each class.

    Returns:
      The latents, float32 [N, width], N at most `num`; and the columns of the grid, None for a square one.
    """
    if not self.classes:
      return self.draw(seed, num), None
    columns = max(1, num // self.classes)
    z = self.draw_classes(seed, columns, range(min(num, self.classes)))
    return z, columns if columns > 1 else None

  def validated(self, z: Array | np.ndarray) -> np.ndarray:
    """Returns latents from a caller or a file as float32 [N, width].

    Raises:
      InputError: The latents have another shape or are not finite.
    """
    z = np.asarray(z)
    if z.ndim != 2 or z.shape[1] != self.width or not len(z):
      raise InputError(f'latents: of shape {z.shape}; this generator takes (N, {self.width}), N 1 or more')
    with np.errstate(over='ignore'):  # Large float64 values become infinite.
      z = z.astype(np.float32) if z.dtype.kind in 'fiu' else np.full(1, np.nan)
    if not np.isfinite(z).all():
      raise InputError('latents: must be finite numbers of float32')
    return z

  @property
  def path_kind(self) -> str:
    """The kind of path that suits the prior."""
    return 'linear' if self.prior == 'uniform' else 'spherical'

  def path(self, points: Array, t: Array, kind: str | None = None, closed: bool = True) -> Array:
    """Interpolates z as the function `path` does, by default as suits the prior, and classes linearly."""
    z = path(points[:, : self.size], t, kind or self.path_kind, closed)
    if not self.classes:
      return z
    return jnp.concatenate([z, path(points[:, self.size :], t, 'linear', closed)], -1)


def lerp(a: Array, b: Array, t: Array) -> Array:
  """Interpolates linearly from a to b.

  Halfway between two normal latents the norm is smaller than that of a sample by a factor of sqrt(2); `slerp`
  avoids this.

  Args:
    a: Start, at t = 0, float [Z].
    b: End, at t = 1, float [Z].
    t: Positions, float [T].

  Returns:
    Latents, float [T, Z].
  """
  return (1 - t[:, None]) * a + t[:, None] * b


def slerp(a: Array, b: Array, t: Array) -> Array:
  """Interpolates spherically: direction and norm both change at a constant rate.

  Normal latents of 100 numbers have lengths near 10, in all directions. On a spherical path they keep that
  length, and the generator has seen such latents in training (White 2016, arXiv:1609.04468, section 2.1).
  Between equal directions this is `lerp`. Between opposite directions, one of many paths is taken.

  Args:
    a: Start, at t = 0, float [Z].
    b: End, at t = 1, float [Z].
    t: Positions, float [T].

  Returns:
    Latents, float [T, Z].
  """
  length_a, length_b = jnp.linalg.norm(a), jnp.linalg.norm(b)
  tiny = jnp.finfo(a.dtype).tiny
  u, v = a / jnp.maximum(length_a, tiny), b / jnp.maximum(length_b, tiny)
  # Accurate for all angles; the arc cosine of u @ v would lose half of its digits near 0 and pi.
  angle = 2 * jnp.arctan2(jnp.linalg.norm(u - v), jnp.linalg.norm(u + v))
  across = _perpendicular(u, v)
  direction = jnp.cos(t * angle)[:, None] * u + jnp.sin(t * angle)[:, None] * across
  return lerp(length_a[None], length_b[None], t) * direction


def _perpendicular(u: Array, v: Array) -> Array:
  """Returns the unit vector perpendicular to the unit vector u towards v, or any if v is parallel."""
  axis = jnp.zeros_like(u).at[jnp.argmin(jnp.abs(u))].set(1)
  towards = v - (v @ u) * u
  towards = jnp.where(jnp.linalg.norm(towards) > 8 * jnp.finfo(u.dtype).eps, towards, axis)
  for _ in range(2):  # The second pass removes the rounding error of the first in a short vector.
    towards = towards - (towards @ u) * u
    towards /= jnp.maximum(jnp.linalg.norm(towards), jnp.finfo(u.dtype).tiny)
  return towards


PATHS = {'linear': lerp, 'spherical': slerp}


@functools.partial(jax.jit, static_argnames=('kind', 'closed'))
def path(points: Array, t: Array, kind: str = 'spherical', closed: bool = True) -> Array:
  """Interpolates through several latents, leg by leg; figure 4 of the paper has nine.

  Args:
    points: Latents, float [P, Z].
    t: Positions on each leg, from 0 at its start to 1 at its end, float [T].
    kind: 'linear' | 'spherical', see `lerp` and `slerp`.
    closed: Whether a last leg leads back to the first point.

  Returns:
    Latents, float [P, T, Z], or [P - 1, T, Z] if open.
  """
  ends = jnp.roll(points, -1, axis=0)
  legs = jax.vmap(PATHS[kind], (0, 0, None))(points, ends, t)
  return legs if closed else legs[:-1]


def arithmetic(plus: Array, minus: Array, plus2: Array) -> Array:
  """Computes mean(plus) - mean(minus) + mean(plus2): a man with glasses - a man + a woman (paper, figure 7).

  Section 6.3.2 of the paper finds single latents unstable and means of three stable. It does not mention
  clamping, so nothing is clamped here: with uniform latents the result may leave [-1, 1].

  Args:
    plus: Latents, float [N, Z]; N = 3 in the paper.
    minus: Latents, float [M, Z].
    plus2: Latents, float [K, Z].

  Returns:
    Latent, float [Z].
  """
  return plus.mean(0) - minus.mean(0) + plus2.mean(0)


def neighbours(key: Array, z: Array, count: int = 8, scale: float = 0.25) -> Array:
  """Draws latents around z with uniform noise in [-scale, scale]; figure 7 of the paper shows eight.

  Args:
    key: A JAX random key.
    z: A latent, float [Z].
    count: Number of latents.
    scale: Largest noise, in the units of z.

  Returns:
    Latents, float [count, Z].
  """
  return z + jax.random.uniform(key, (count, *z.shape), z.dtype, -scale, scale)


def turn(start: Array, end: Array) -> Array:
  """Returns the vector from the mean of some latents to the mean of others.

  Figure 8 of the paper takes four faces that look left and four that look right; adding fractions of the
  vector to a latent turns its face.

  Args:
    start: Latents, float [N, Z].
    end: Latents, float [M, Z].

  Returns:
    Vector, float [Z].
  """
  return end.mean(0) - start.mean(0)
