"""Shapes and layout common to all forms of a convolution."""

from typing import NamedTuple

Pair = tuple[int, int]
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')  # layouts of image, kernel and features in lax notation


class Geometry(NamedTuple):
  """The sizes of a convolution; static and hashable."""

  image_size: Pair  # height, width in pixels
  kernel_size: Pair
  strides: Pair
  padding: tuple[Pair, Pair]  # zeros (before, after) the image in height and width

  @property
  def feature_size(self) -> Pair:
    """Height and width of the features."""
    height, width = (
      (size + sum(pad) - k) // s + 1
      for size, k, s, pad in zip(self.image_size, self.kernel_size, self.strides, self.padding)
    )
    return height, width
