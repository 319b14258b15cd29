"""Linear L2-SVMs, one against the rest: the classifier of section 5 of the paper, for few images and many.

The objective is that of liblinear, (|w|^2 + b^2) / 2 + C sum max(0, 1 - y (w x + b))^2. A model is an array
[classes, D + 1] with the biases in the last column.
"""

from typing import NamedTuple

import numpy as np

# The grid of the paper's authors ends at 1e-2; features of an untrained network need a larger C.
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ITERATIONS = 60
ROWS = 2048  # features converted to float32 at a time


def draw(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
  """Draws the indices of `count` images, evenly from all classes while these have images left."""
  order = random.permutation(len(labels))
  by_class = order[np.argsort(labels[order], kind='stable')]
  sizes = np.bincount(labels)
  rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the class
  return by_class[np.argsort(rank, kind='stable')][:count]


class _Line(NamedTuple):
  """The objective along a line w + step * d, for each of M problems.

  Attributes:
    scores: y (w x + b) at step 0, [N, M].
    change: Change of the scores in a step of 1, [N, M].
    linear: The product w d, [M].
    quadratic: The product d d, [M].
  """

  scores: np.ndarray
  change: np.ndarray
  linear: np.ndarray
  quadratic: np.ndarray

  def minimum(self, costs: np.ndarray) -> np.ndarray:
    """Returns the steps to the minima, [M], found by Newton's method.

    The objective is convex and piecewise quadratic, so a few iterations are enough.
    """
    step = np.zeros_like(self.linear)
    for _ in range(8):
      slack = np.maximum(1.0 - self.scores - step * self.change, 0.0)
      slope = self.linear + step * self.quadratic - 2.0 * costs * (self.change * slack).sum(0)
      bend = self.quadratic + 2.0 * costs * np.square(self.change * (slack > 0)).sum(0)
      newton = slope / np.maximum(bend, 1e-30)
      step -= newton
      if (np.abs(newton) <= 1e-2 * np.abs(step)).all():
        break
    return step


def fit(
  features: np.ndarray,
  labels: np.ndarray,
  classes: int,
  costs: tuple[float, ...],
  iterations: int = ITERATIONS,
  tolerance: float = 1e-3,
) -> np.ndarray:
  """Fits models for all costs and classes at once, by conjugate gradients (Polak and Ribiere).

  Each step goes to the minimum along its direction. An iteration passes over the features twice, so they may
  lie on a disk. Beside them there are some ten arrays of N numbers for each cost and class.

  The solution lies in the span of the images. Where there are fewer images than features, these are expressed
  in a basis of the span: 1,000 images then have 1,000 features, and not the 28,672 of the paper's networks.

  Args:
    features: Features, float16 or float32 [N, D], an array or a mapped file.
    labels: Class of each image, integers [N] in [0, classes).
    classes: Number of classes; a model never chooses one without images.
    costs: Values of C in the objective.
    iterations: Largest number of iterations. A larger C takes more to converge, but accuracies settle long
      before.
    tolerance: Norm of the gradient, relative to the first, below which a problem has converged; the fit ends
      when all have.

  Returns:
    The models, float32 [len(costs), classes, D + 1].
  """
  basis = None
  if features.shape[0] < features.shape[1]:
    basis, turned = np.linalg.qr(np.asarray(features, np.float64).T)
    features = turned.T.astype(np.float32)
  count, size = features.shape
  cost = np.repeat(np.asarray(costs, np.float32), classes)
  sign = np.where(labels[:, None] == np.arange(classes), 1, -1).astype(np.float32)
  sign = np.tile(sign, (1, len(costs)))
  weights = np.zeros((size + 1, len(cost)), np.float32)
  scores = np.zeros((count, len(cost)), np.float32)
  direction = gradient = start = weights
  for i in range(iterations):
    before, slack = gradient, np.maximum(1.0 - scores, 0.0)
    gradient = weights - 2.0 * cost * _gather(features, sign * slack)
    norm = np.square(gradient).sum(0)
    start = norm if i == 0 else start
    if (norm <= tolerance**2 * start).all():
      break
    if i > 0:
      turn = (gradient * (gradient - before)).sum(0) / np.maximum(np.square(before).sum(0), 1e-30)
      direction = np.maximum(turn, 0.0) * direction
    direction = direction - gradient
    uphill = (direction * gradient).sum(0) >= 0.0
    direction[:, uphill] = -gradient[:, uphill]
    change = sign * _apply(features, direction)
    line = _Line(scores, change, (weights * direction).sum(0), np.square(direction).sum(0))
    step = line.minimum(cost)
    weights = weights + step * direction
    scores += step * change
  found = weights.T if basis is None else np.concatenate([weights[:-1].T @ basis.T, weights[-1:].T], axis=1)
  models = found.astype(np.float32).reshape(len(costs), classes, -1)
  models[:, np.bincount(labels, minlength=classes) == 0] = [0.0] * (models.shape[-1] - 1) + [-1.0]
  return models


def _apply(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Multiplies features [N, D], with a 1 appended to each row, by weights [D + 1, M]."""
  parts = [x.astype(np.float32) @ weights[:-1] + weights[-1] for x in _parts(features)]
  return np.concatenate(parts)


def _gather(features: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Multiplies the transpose of the features, with a 1 appended to each row, by values [N, M]: [D + 1, M]."""
  total = np.zeros((features.shape[1] + 1, values.shape[1]), np.float32)
  for x, v in zip(_parts(features), _parts(values)):
    total[:-1] += x.astype(np.float32).T @ v
    total[-1] += v.sum(0)
  return total


def _parts(x: np.ndarray) -> list[np.ndarray]:
  """Splits an array into parts of `ROWS` rows."""
  return [x[i : i + ROWS] for i in range(0, len(x), ROWS)]


def accuracies(features: np.ndarray, labels: np.ndarray, models: np.ndarray) -> np.ndarray:
  """Returns the accuracy of each model, the share of images whose class gets the highest score, float64 [M].

  Args:
    features: [N, D].
    labels: Class of each image, integers [N] in [0, classes).
    models: [M, classes, D + 1].
  """
  flat = models.reshape(-1, models.shape[-1]).T
  right = np.zeros(len(models))
  for x, y in zip(_parts(features), _parts(labels)):
    scores = _apply(x, flat).reshape(len(x), *models.shape[:2])
    right += (scores.argmax(2) == y[:, None]).sum(0)
  return right / len(labels)
