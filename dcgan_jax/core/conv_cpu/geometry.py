"""The shapes and the layout that all forms of a convolution share."""

from typing import NamedTuple

Pair = tuple[int, int]
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')  # of image, kernel and features, as lax names them


class Geometry(NamedTuple):
  """The sizes that tie an image to its features; static and hashable."""

  image_size: Pair  # height, width in pixels
  kernel_size: Pair
  strides: Pair
  padding: tuple[Pair, Pair]  # zeros (before, after) the image, for height and width

  @property
  def feature_size(self) -> Pair:
    """Returns the height and width of the features."""
    height, width = (
      (size + sum(pad) - k) // s + 1
      for size, k, s, pad in zip(self.image_size, self.kernel_size, self.strides, self.padding)
    )
    return height, width
