"""Images beside the real ones nearest to them: whether a generator has memorised its training images."""

import numpy as np

from dcgan_jax.core.pixels import Pixels
from dcgan_jax.evaluation import extractors
from dcgan_jax.evaluation.scores import Seen
from dcgan_jax.media import pictures


def beside(seen: Seen, pixels: Pixels, rows: int = 8, count: int = 5) -> np.ndarray:
  """Draws a row for each of the first images: the image, and the real ones with the nearest features.

  Searches the real images whose features are kept, at most `MOST_NEIGHBOURS`.

  Args:
    seen: The images, their features, and the real ones.
    pixels: Pixel format.
    rows: Number of images.
    count: Number of real ones beside each.

  Returns:
    The grid, uint8 [h, w, 1 or 3].
  """
  real = seen.real.pixels
  kept, shown = extractors.kept_images(len(real)), []
  for image, own in zip(seen.pixels[:rows], seen.features):
    found = np.argsort(np.square(seen.real.features - own).sum(1))[:count]
    shown += [image, *real[kept[found]]]
  return pictures.sheet(pixels.restore(np.stack(shown)), pixels, 1 + count)
