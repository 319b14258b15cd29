"""Pixel formats: dtype, value range, alpha.

Files and returned samples have the user's format. The cache, the devices and all comparisons of images use
the stored format, which differs in two cases: alpha is premultiplied, so that averages of pixels are correct
and invisible colours do not count; and float64 is float32, the dtype of the networks. Nothing here imports
JAX.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pixels:
  """The pixel format of a run.

  Attributes:
    dtype: Dtype in the user's format: uint8, int8, uint16, int16, float16, float32 or float64.
    low: Value that is -1 to the networks and black in pictures.
    high: Value that is 1 to the networks and white in pictures.
    transparent: Whether images are uint8 RGBA, [..., 4].
  """

  dtype: str = 'uint8'
  low: float = 0.0
  high: float = 255.0
  transparent: bool = False

  @property
  def kept(self) -> np.dtype:
    """The dtype of the stored format."""
    return np.dtype('float32' if self.dtype == 'float64' else self.dtype)

  @property
  def whole(self) -> bool:
    """Whether values are integers."""
    return self.kept.kind in 'iu'

  def keep(self, images: np.ndarray) -> np.ndarray:
    """Converts images [..., C] to the stored format; inverts `restore`."""
    if self.transparent:
      images = premultiplied(images)
    return images.astype(self.kept, copy=False)

  def restore(self, images: np.ndarray) -> np.ndarray:
    """Converts images [..., C] from the stored format to the user's."""
    if self.transparent:
      images = straight(images)
    if self.dtype == 'float64':  # The range may not be exact in float32.
      return np.clip(images.astype(np.float64), self.low, self.high)
    return images

  def in_eight_bits(self, images: np.ndarray) -> np.ndarray:
    """Converts images of any shape to uint8, with `low` at 0 and `high` at 255."""
    if (self.dtype, self.low, self.high) == ('uint8', 0, 255):
      return images
    shares = (images.astype(np.float64) - self.low) / (self.high - self.low)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8)


BYTES = Pixels()  # the format of ordinary pictures


def of(dtype: str, value_range: tuple[float, ...] = (), transparent: bool = False) -> Pixels:
  """Returns the pixel format of a dtype.

  Args:
    dtype: See `Pixels`.
    value_range: Lowest and highest value, rounded to the dtype; () for the full range of an integer dtype.
    transparent: See `Pixels`.
  """
  kind = np.dtype(dtype)
  low, high = value_range or (np.iinfo(kind).min, np.iinfo(kind).max)
  return Pixels(dtype, float(kind.type(low)), float(kind.type(high)), transparent)


def premultiplied(images: np.ndarray) -> np.ndarray:
  """Converts uint8 [..., 4] from straight to premultiplied alpha, rounding to nearest."""
  opacity = images[..., 3:].astype(np.uint32)
  colours = (images[..., :3] * opacity + 127) // 255
  return np.concatenate([colours.astype(np.uint8), images[..., 3:]], -1)


def straight(images: np.ndarray) -> np.ndarray:
  """Converts uint8 [..., 4] from premultiplied to straight alpha, rounding to nearest.

  Premultiplying again is lossless if no colour exceeds its alpha.
  """
  opacity = images[..., 3:].astype(np.uint32)
  colours = (images[..., :3] * np.uint32(255) + opacity // 2) // np.maximum(opacity, 1)
  return np.concatenate([colours.clip(0, 255).astype(np.uint8), images[..., 3:]], -1)
