"""Whether images lie in the neighbourhoods of others: precision, recall, density, coverage, and copies.

The neighbourhoods of 10,000 images take a host seconds, for which training would wait. So the same code runs
on NumPy, in float64, or on an accelerator, in float32.
"""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

SAME = 1e-6  # of the mean squared norm; images with a smaller squared distance are taken for one
ROWS = 1024  # whose distances to all other images are in memory at a time


class Manifold(NamedTuple):
  """How far fakes and real images lie in each other's neighbourhoods.

  Attributes:
    precision: Share of fakes in the neighbourhood of a real image, in [0, 1].
    recall: Share of real images in the neighbourhood of a fake, in [0, 1].
    density: Mean number of real neighbourhoods around a fake, divided by their k; 1 is expected for real
      images.
    coverage: Share of real images with a fake in their neighbourhood, in [0, 1].
  """

  precision: float
  recall: float
  density: float
  coverage: float


def manifold(
  fake: np.ndarray, real: np.ndarray, k: int = 3, k_density: int = 5, on_device: bool = False
) -> Manifold:
  """Computes precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

  The neighbourhood of an image is the ball up to its k-th nearest neighbour of the same kind.

  Args:
    fake: Features [N, D].
    real: Features [M, D].
    k: Order of the neighbour for precision and recall.
    k_density: Order of the neighbour for density and coverage.
    on_device: Whether JAX's default device computes them, in float32. The result differs from NumPy's only
      where distances agree to about six digits.

  Raises:
    ValueError: There are at most max(k, k_density) images of either kind.
  """
  most = max(k, k_density)
  if min(len(fake), len(real)) <= most:
    raise ValueError(f'{len(fake)} and {len(real)} images: neighbourhoods take {most + 1} or more of each')
  fake, real = np.asarray(fake, np.float64), np.asarray(real, np.float64)
  if not on_device:
    return _manifold(np, fake, real, k, k_density)
  import jax
  import jax.numpy as jnp

  centre = real.mean(0)  # Moving the origin here keeps digits of the distances that float32 would lose.
  moved, real_moved = (jnp.asarray(x - centre, jnp.float32) for x in (fake, real))
  with jax.default_matmul_precision('highest'):
    return _manifold(jnp, moved, real_moved, k, k_density)


def distances_to_others(known: np.ndarray, on_device: bool = False) -> np.ndarray:
  """Returns the squared distance of each image to the nearest one that differs from it, [M]; else inf.

  So an image that is in the data twice has a neighbourhood like the others.

  Args:
    known: Features [M, D].
    on_device: See `manifold`.
  """
  with _centred(known, on_device) as (xp, x, _):
    same = SAME * float(xp.square(x).sum(1).mean())
    parts = (_distances(xp, x[rows], x) for rows in _chunks(len(x)))  # one at a time, because they are large
    return np.concatenate([np.asarray(xp.where(part > same, part, np.inf).min(1)) for part in parts])


def share_of_copies(
  images: np.ndarray, known: np.ndarray, distances: np.ndarray, on_device: bool = False
) -> float:
  """Computes the share of images that are nearer to a known image than that is to any other known one.

  It is 1 minus the authenticity of Alaa et al. (2022). Copies have 1. New images of the same distribution
  have at most about 2/3, which is the probability that a random point on a line is the nearest of its nearest
  neighbour; in more dimensions it is lower (Henze 1987). Near duplicates in the data raise it.

  Args:
    images: Features [N, D].
    known: Features [M, D].
    distances: Those of `distances_to_others`, [M].
    on_device: See `manifold`.
  """
  copies = 0
  with _centred(known, on_device, images) as (xp, x, y):
    for rows in _chunks(len(y)):
      found = _distances(xp, y[rows], x)
      copies += int((np.asarray(found.min(1)) < distances[np.asarray(found.argmin(1))]).sum())
  return copies / len(images)


@contextlib.contextmanager
def _centred(
  known: np.ndarray, on_device: bool, images: np.ndarray | None = None
) -> Iterator[tuple[ModuleType, Any, Any]]:
  """Yields NumPy or jax.numpy, and features moved so that the mean of the known ones is the origin."""
  centre = known.mean(0, dtype=np.float64)
  moved, others = known - centre, (known if images is None else images) - centre
  if not on_device:
    yield np, moved, others
    return
  import jax
  import jax.numpy as jnp

  with jax.default_matmul_precision('highest'):
    yield jnp, jnp.asarray(moved, jnp.float32), jnp.asarray(others, jnp.float32)


def _manifold(xp: ModuleType, fake: Any, real: Any, k: int, k_density: int) -> Manifold:
  """Computes the scores of arrays of `xp`, which is NumPy or jax.numpy."""
  (fake_radius,), (real_radius, wide_radius) = _radii(xp, fake, [k]), _radii(xp, real, [k, k_density])
  precise = neighbourhoods = 0
  recalled, covered = xp.zeros(len(real), bool), xp.zeros(len(real), bool)
  for rows in _chunks(len(fake)):
    distances = _distances(xp, fake[rows], real)
    inside = distances <= wide_radius
    precise += int((distances <= real_radius).any(1).sum())
    neighbourhoods += int(inside.sum())
    recalled |= (distances <= fake_radius[rows, None]).any(0)
    covered |= inside.any(0)
  return Manifold(
    precise / len(fake),
    int(recalled.sum()) / len(real),
    neighbourhoods / (k_density * len(fake)),
    int(covered.sum()) / len(real),
  )


def _radii(xp: ModuleType, x: Any, ks: list[int]) -> Any:
  """Returns for each k the squared distance of each point to its k-th nearest other point, [len(ks), N]."""
  # Position 0 is the distance of a point to itself.
  nearest = [_smallest(xp, _distances(xp, x[rows], x), max(ks) + 1) for rows in _chunks(len(x))]
  return xp.concatenate(nearest).T[np.array(ks)]


def _smallest(xp: ModuleType, x: Any, count: int) -> Any:
  """Returns the smallest numbers of each row in ascending order, [N, count]."""
  if xp is np:
    return np.sort(np.partition(x, count - 1, axis=1)[:, :count], axis=1)
  from jax import lax

  return -lax.top_k(-x, count)[0]  # jnp.partition sorts whole rows.


def _distances(xp: ModuleType, x: Any, y: Any) -> Any:
  """Returns the squared distance of each row of x from each row of y, [N, M]."""
  squares = xp.square(x).sum(1)[:, None] + xp.square(y).sum(1)
  return xp.maximum(squares - 2.0 * x @ y.T, 0.0)


def _chunks(count: int) -> list[slice]:
  """Returns slices of rows, so that memory does not grow with the square of `count`."""
  return [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
