"""The order of the images as a pure function of (seed, step)."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
  """Returns the permutation of range(count) for an epoch, a function of (seed, epoch) alone."""
  return np.random.default_rng([seed, epoch]).permutation(count)


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
  """Returns the indices of the images in a step's batch, int32 [batch_size].

  A batch may span two epochs, so that no image is left out.
  """
  epochs, offsets = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
  parts = [epoch_order(seed, int(e), count)[offsets[epochs == e]] for e in np.unique(epochs)]
  return np.concatenate(parts).astype(np.int32)
