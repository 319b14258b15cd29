"""Converts pictures of any size and mode to training images."""

import contextlib
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.errors import InputError

# Errors of Pillow on a broken file: its own, truncation, a bad chunk, a decompression bomb.
UNREADABLE = (
  UnidentifiedImageError,
  OSError,
  SyntaxError,
  ValueError,
  zlib.error,
  Image.DecompressionBombError,
  Image.DecompressionBombWarning,
)
# Only the formats of `sources.SUFFIXES`: Pillow knows others and runs Ghostscript for one of them.
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF')
LARGE = 2**24  # pixels; larger pictures are decoded one at a time to save memory
_alone = threading.Lock()
# Pillow refuses more than 179 million pixels and only warns above 89 million.
warnings.simplefilter('error', Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Fit:
  """The conversion of pictures of any size to training images of one size.

  Attributes:
    image_size: Height and width in pixels.
    channels: 1 for gray (luma), 3 for RGB, 4 for RGBA with premultiplied alpha.
    mode: 'crop' takes the largest centred crop of the right aspect ratio; 'squash' takes the whole picture.
    background: RGB in 0..255 behind transparent pixels, unless there are four channels.
    pixels: Pixel format of the training images.
  """

  image_size: tuple[int, int]
  channels: int
  mode: str = 'crop'
  background: tuple[int, int, int] = (255, 255, 255)
  pixels: Pixels = field(default=BYTES, repr=False)  # already in `Source.identity`

  def __call__(self, image: Image.Image) -> np.ndarray:
    """Converts a Pillow image to uint8 [H, W, channels], with 1, 3 or 4 channels."""
    image = _to_eight_bits(ImageOps.exif_transpose(image))
    if self.channels == 4:
      image = image.convert('RGBA').convert('RGBa')
    elif image.has_transparency_data:
      image = image.convert('RGBA')
      canvas = Image.new('RGBA', image.size, (*self.background, 255))
      image = Image.alpha_composite(canvas, image)
    if self.channels != 4:
      image = image.convert('L' if self.channels == 1 else 'RGB')
    return np.asarray(self.resized(image)).reshape(*self.image_size, self.channels)

  def resized(self, image: Image.Image) -> Image.Image:
    """Resizes an image to `image_size`, bilinear and anti-aliased."""
    height, width = self.image_size
    if image.size == (width, height):
      return image
    if self.mode == 'crop':
      image = image.crop(self._centre(image.size))
    return image.resize((width, height), Image.Resampling.BILINEAR)

  def _centre(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the largest centred crop of the right aspect ratio: left, top, right and bottom in pixels."""
    width, height = size
    scale = min(width / self.image_size[1], height / self.image_size[0])
    kept_width = max(1, round(self.image_size[1] * scale))
    kept_height = max(1, round(self.image_size[0] * scale))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def check(field: str, fit: Fit) -> None:
  """Refuses a dtype or a number of channels that pictures cannot have.

  Args:
    field: Name of the pictures in the error.
    fit: Conversion to check.

  Raises:
    InputError: The dtype is not uint8, or the channels are not 1, 3 or 4.
  """
  if fit.pixels.dtype != 'uint8' or fit.channels not in (1, 3, 4):
    raise InputError(
      f'{field}: has pictures of 8 bits and 1, 3 or 4 channels, not {fit.pixels.dtype} and {fit.channels}'
    )


@contextlib.contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
  """Yields a picture with only its header read; pixels are decoded on first access.

  Args:
    file: Path of an ordinary file, or an open file.

  Raises:
    Exception: One of `UNREADABLE`, possibly only when the pixels are decoded.
  """
  stream = files.opened(file) if isinstance(file, Path) else contextlib.nullcontext(file)
  with stream as opened, Image.open(opened, formats=FORMATS) as image:
    yield image


def read(file: Path | IO[bytes], fit: Fit) -> np.ndarray | None:
  """Decodes a file to uint8 [H, W, channels]; returns None if that fails."""
  try:
    with opened(file) as image, _turn(image):
      return fit(image)
  except UNREADABLE:
    return None


def _turn(image: Image.Image) -> contextlib.AbstractContextManager[object]:
  """Returns the context to decode a picture in: a lock if it is large."""
  return _alone if image.width * image.height > LARGE else contextlib.nullcontext()


def is_image(path: Path) -> bool:
  """Returns whether a file has the header of an image."""
  try:
    with opened(path):
      return True
  except UNREADABLE:
    return False


def _to_eight_bits(image: Image.Image) -> Image.Image:
  """Scales 16-bit gray to 8 bits, which Pillow would clip; returns other images unchanged."""
  if image.mode.startswith('I'):
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
  return image
