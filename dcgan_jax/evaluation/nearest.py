"""Images beside the real ones nearest to them: whether a generator has memorised its training images."""

import numpy as np

from dcgan_jax.core.pixels import Pixels
from dcgan_jax.evaluation import extractors
from dcgan_jax.media import pictures


def beside(
  images: np.ndarray,
  features: np.ndarray,
  real: np.ndarray,
  real_features: np.ndarray,
  pixels: Pixels,
  rows: int = 8,
  count: int = 5,
) -> np.ndarray:
  """Draws a row for each of the first images: the image, and the real ones with the nearest features.

  Args:
    images: Images as they are kept, [N, H, W, C].
    features: Features of the images, [N, D].
    real: All real images, likewise [M, H, W, C].
    real_features: Features of the real images that `extractors.kept_images` selects, see
      `extractors.reference`.
    pixels: Pixel format.
    rows: Number of images.
    count: Number of real ones beside each.

  Returns:
    The grid, uint8 [h, w, 1 or 3].
  """
  kept, shown = extractors.kept_images(len(real)), []
  for image, own in zip(images[:rows], features):
    found = np.argsort(np.square(real_features - own).sum(1))[:count]
    shown += [image, *real[kept[found]]]
  return pictures.sheet(pixels.restore(np.stack(shown)), pixels, 1 + count)
