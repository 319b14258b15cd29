"""The images to train on, and their order as a pure function of (seed, step)."""

import functools

import numpy as np

MOST_HELD_OUT = 500  # images, enough for means, so that a large data set loses hardly any
LEAST = 100  # images of which some are held out


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


def held_out(count: int, share: float) -> np.ndarray:
  """Returns the positions of the images that a run is not trained on, ascending int32.

  They are spread evenly over the data set, whatever the seed, and so over the classes of a sorted one.
  Unreadable images have no position, unless the disk and the memory have no room to decode all beforehand.

  Args:
    count: Number of images in the data set; of fewer than `LEAST` none is held out.
    share: Share of them to hold out, in [0, 0.5), but at most `MOST_HELD_OUT` images.
  """
  number = min(MOST_HELD_OUT, round(share * count)) if count >= LEAST else 0
  return ((2 * np.arange(number) + 1) * count // max(1, 2 * number)).astype(np.int32)


def training(count: int, share: float) -> np.ndarray:
  """Returns the positions of the images that a run is trained on: all but those of `held_out`."""
  return np.delete(np.arange(count, dtype=np.int32), held_out(count, share))
