"""What the numbers of images are: their type, their range, and whether they are colours with an opacity.

Users know images in one form: as they are in files, and as samples are given out. Two kinds are kept in
another form, in the cache, on the devices and wherever images are compared. Colours with an opacity are kept
multiplied by it, so that averages of pixels are right and what cannot be seen does not count. And float64
is kept as float32, in which the networks compute. Nothing here imports JAX.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pixels:
  """What the numbers of a run's images are.

  Attributes:
    dtype: of the images as users know them: uint8, int8, uint16, int16, float16, float32 or float64.
    low: the number that is -1 to the networks and black in pictures.
    high: the number that is 1 to the networks and white in pictures.
    transparent: whether images are uint8 [..., 4]: red, green, blue and opacity.
  """

  dtype: str = 'uint8'
  low: float = 0.0
  high: float = 255.0
  transparent: bool = False

  @property
  def kept(self) -> np.dtype:
    """Returns the dtype of images in the form in which they are kept."""
    return np.dtype('float32' if self.dtype == 'float64' else self.dtype)

  @property
  def whole(self) -> bool:
    """Returns whether the numbers are whole ones."""
    return self.kept.kind in 'iu'

  def keep(self, images: np.ndarray) -> np.ndarray:
    """Returns images [..., C] in the form in which they are kept. It inverts `restore`."""
    if self.transparent:
      images = premultiplied(images)
    return images.astype(self.kept, copy=False)

  def restore(self, images: np.ndarray) -> np.ndarray:
    """Returns images [..., C] that are kept, or that a generator has made, as users know them."""
    if self.transparent:
      images = straight(images)
    if self.dtype == 'float64':  # Its ends need not be numbers of float32.
      return np.clip(images.astype(np.float64), self.low, self.high)
    return images

  def in_eight_bits(self, images: np.ndarray) -> np.ndarray:
    """Returns images of any shape as uint8, in which `low` is 0 and `high` is 255."""
    if (self.dtype, self.low, self.high) == ('uint8', 0, 255):
      return images
    shares = (images.astype(np.float64) - self.low) / (self.high - self.low)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8)


BYTES = Pixels()  # those of ordinary pictures


def of(dtype: str, value_range: tuple[float, ...] = (), transparent: bool = False) -> Pixels:
  """Returns the pixels of a dtype.

  Args:
    dtype: see `Pixels`.
    value_range: the lowest and the highest number, which become numbers of the dtype; () for those that an
      integer dtype has.
    transparent: see `Pixels`.
  """
  kind = np.dtype(dtype)
  low, high = value_range or (np.iinfo(kind).min, np.iinfo(kind).max)
  return Pixels(dtype, float(kind.type(low)), float(kind.type(high)), transparent)


def premultiplied(images: np.ndarray) -> np.ndarray:
  """Multiplies colours by their opacity: uint8 [..., 4] as in files -> as kept, rounded to the nearest."""
  opacity = images[..., 3:].astype(np.uint32)
  colours = (images[..., :3] * opacity + 127) // 255
  return np.concatenate([colours.astype(np.uint8), images[..., 3:]], -1)


def straight(images: np.ndarray) -> np.ndarray:
  """Divides colours by their opacity: uint8 [..., 4] as kept -> as in files, rounded to the nearest.

  What is multiplied again is as before, if no colour was larger than its opacity.
  """
  opacity = images[..., 3:].astype(np.uint32)
  colours = (images[..., :3] * np.uint32(255) + opacity // 2) // np.maximum(opacity, 1)
  return np.concatenate([colours.clip(0, 255).astype(np.uint8), images[..., 3:]], -1)
