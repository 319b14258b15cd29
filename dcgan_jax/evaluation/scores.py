"""Scores of generated images as functions of their features [N, D] or class probabilities [N, K] alone.

Everything is NumPy in float64 and knows nothing of images, networks or devices. Protocols are those of the
papers; what they leave open, such as the order of random subsets, follows torch-fidelity.
"""

from typing import NamedTuple

import numpy as np

LEAST_OF_MOMENTS = 2  # images: one has no covariance
SUBSET_SEED = 2020  # the seed of torch-fidelity, so that figures can be compared to the last digit


class Moments(NamedTuple):
  """The mean [D] and the covariance [D, D] of features; the latter divides by N - 1."""

  mean: np.ndarray
  covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
  """Returns the mean and the covariance of features [N, D], where N is `LEAST_OF_MOMENTS` or more."""
  features = np.asarray(features, np.float64)
  return Moments(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Moments, b: Moments) -> float:
  """Computes the squared Frechet distance of two Gaussians (Heusel et al. 2017).

  It is FID if the features are Inception's: |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)). The trace of the
  root is computed as the sum of the square roots of the eigenvalues of the symmetric matrix A^(1/2) B
  A^(1/2). This takes no complex root and no epsilon on the diagonal, and is right for fewer samples than
  features, where covariances are singular.
  """
  values, vectors = np.linalg.eigh(a.covariance)
  root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
  product = np.linalg.eigvalsh(root @ b.covariance @ root)
  cross = np.sqrt(np.maximum(product, 0.0)).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  return float(np.square(a.mean - b.mean).sum() + traces - 2.0 * cross)


class Estimate(NamedTuple):
  """A mean over subsets or splits, and its spread: the standard error or deviation, as the function says."""

  value: float
  spread: float


def kernel_distance(
  fake: np.ndarray, real: np.ndarray, subsets: int = 100, subset_size: int = 1000
) -> Estimate:
  """Computes the kernel distance (Binkowski et al. 2018), which is KID if the features are Inception's.

  It is the unbiased squared maximum mean discrepancy with the kernel (x y / D + 1)^3, averaged over random
  subsets.

  Args:
    fake: features [N, D].
    real: features [M, D].
    subsets: how many subsets are averaged over.
    subset_size: images of each kind in a subset, at most N and M.

  Returns:
    The mean, and its standard error over the subsets.

  Raises:
    ValueError: there are fewer than 2 images of either kind.
  """
  size = min(subset_size, len(fake), len(real))
  if size < 2:
    raise ValueError(f'{len(fake)} and {len(real)} images: a kernel distance takes 2 or more of each')
  fake, real = np.asarray(fake, np.float64), np.asarray(real, np.float64)
  random = np.random.RandomState(SUBSET_SEED)
  values = []
  for _ in range(subsets):
    x = fake[random.choice(len(fake), size, replace=False)]
    y = real[random.choice(len(real), size, replace=False)]
    within = [
      (kernel.sum() - np.trace(kernel)) / (size * (size - 1)) for kernel in map(_kernel, (x, y), (x, y))
    ]
    values.append(sum(within) - 2.0 * _kernel(x, y).mean())
  return Estimate(float(np.mean(values)), float(np.std(values) / np.sqrt(subsets)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the cubic kernel of each pair of rows, [N, M]."""
  return (x @ y.T / x.shape[1] + 1.0) ** 3


def inception_score(probabilities: np.ndarray, splits: int = 10) -> Estimate:
  """Computes exp of the mean divergence of p(class | image) from p(class) (Salimans et al. 2016).

  Args:
    probabilities: [N, K]; each row sums to 1.
    splits: into how many parts the shuffled images are divided; each is scored by itself.

  Returns:
    The mean and the standard deviation over the splits.

  Raises:
    ValueError: there are fewer images than splits.
  """
  count = len(probabilities)
  if count < splits:
    raise ValueError(f'{count} images: an Inception score over {splits} splits takes {splits} or more')
  p = np.asarray(probabilities, np.float64)[np.random.RandomState(SUBSET_SEED).permutation(count)]
  parts = (p[i * count // splits : (i + 1) * count // splits] for i in range(splits))
  values = [np.exp(_divergence(part, part.mean(0)).mean()) for part in parts]
  return Estimate(float(np.mean(values)), float(np.std(values)))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """Returns the Kullback-Leibler divergence along the last axis, in nats; 0 log 0 is 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(-1)


class Manifold(NamedTuple):
  """How far fakes and real images lie in each other's neighbourhoods.

  Attributes:
    precision: share of fakes that lie in the neighbourhood of a real image, in [0, 1].
    recall: share of real images that lie in the neighbourhood of a fake, in [0, 1].
    density: real neighbourhoods that a fake lies in on average, divided by their k; 1 is expected of real
      images.
    coverage: share of real images that have a fake in their neighbourhood, in [0, 1].
  """

  precision: float
  recall: float
  density: float
  coverage: float


def manifold(fake: np.ndarray, real: np.ndarray, k: int = 3, k_density: int = 5) -> Manifold:
  """Computes precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

  The neighbourhood of an image is the ball that reaches to its k-th nearest neighbour of the same kind.

  Args:
    fake: features [N, D].
    real: features [M, D].
    k: of the neighbourhoods for precision and recall.
    k_density: of the neighbourhoods for density and coverage.

  Raises:
    ValueError: there are no more than k images of either kind.
  """
  check_neighbours(fake, real, max(k, k_density))
  fake, real = np.asarray(fake, np.float64), np.asarray(real, np.float64)
  (fake_radius,), (real_radius, wide_radius) = _radii(fake, [k]), _radii(real, [k, k_density])
  precise = np.zeros(len(fake), bool)
  neighbourhoods = 0
  recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
  for rows in _chunks(len(fake)):
    distances = _distances(fake[rows], real)
    precise[rows] = (distances <= real_radius).any(1)
    recalled |= (distances <= fake_radius[rows, None]).any(0)
    inside = distances <= wide_radius
    neighbourhoods += int(inside.sum())
    covered |= inside.any(0)
  density = neighbourhoods / (k_density * len(fake))
  return Manifold(float(precise.mean()), float(recalled.mean()), density, float(covered.mean()))


def check_neighbours(fake: np.ndarray, real: np.ndarray, k: int) -> None:
  """Refuses features, [N, D] and [M, D], of too few images to have k neighbours of the same kind.

  Raises:
    ValueError: there are no more than k of either kind.
  """
  if min(len(fake), len(real)) <= k:
    raise ValueError(f'{len(fake)} and {len(real)} images: neighbourhoods take {k + 1} or more of each')


def _radii(x: np.ndarray, ks: list[int]) -> list[np.ndarray]:
  """Returns for each k the squared distance of each point to its k-th nearest other point, [N]."""
  nearest = np.concatenate(
    [np.partition(_distances(x[rows], x), ks, axis=1)[:, ks] for rows in _chunks(len(x))]
  )  # The smallest distance, at position 0, is the 0 of the point to itself.
  return list(nearest.T)


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the squared distances of each row of x from each row of y, [N, M]."""
  squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)
  return np.maximum(squares - 2.0 * x @ y.T, 0.0)


def _chunks(count: int, size: int = 1024) -> list[slice]:
  """Returns slices of rows to work on in turn, so that memory does not grow with the square of `count`."""
  return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Coverage(NamedTuple):
  """How generated images are spread over the classes of the data.

  Attributes:
    histogram: share of generated images in each class, [K].
    missing: classes whose share of the generated images is less than a tenth of their share of the data.
    divergence: KL(generated || data), in nats; infinite if images are of a class that the data has none of.
  """

  histogram: np.ndarray
  missing: list[int]
  divergence: float


def class_coverage(predicted: np.ndarray, shares: np.ndarray) -> Coverage:
  """Compares the classes of generated images with those of the data.

  Args:
    predicted: class of each generated image, integers [N] in [0, K).
    shares: share of each class in the data, [K], with sum 1.
  """
  histogram = np.bincount(predicted, minlength=len(shares)) / len(predicted)
  missing = np.flatnonzero(histogram < 0.1 * shares)
  return Coverage(histogram, [int(i) for i in missing], float(_divergence(histogram, np.asarray(shares))))


class Modes(NamedTuple):
  """How many of the classes images reach, as benchmarks of mode collapse count them.

  Attributes:
    modes: classes of which there is at least one image.
    kl_to_uniform: KL(classes of the images || all classes alike), in nats (Lin et al. 2018, section 4.1).
  """

  modes: int
  kl_to_uniform: float


def modes(probabilities: np.ndarray) -> Modes:
  """Counts the classes of images by their probabilities, [N, K]."""
  count = probabilities.shape[1]
  histogram = np.bincount(probabilities.argmax(1), minlength=count) / len(probabilities)
  return Modes(int((histogram > 0).sum()), float(_divergence(histogram, np.full(count, 1 / count))))
