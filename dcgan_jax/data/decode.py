"""How a picture of any size and mode becomes a training image."""

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

# Pillow raises these on a broken file: its own error, an early end, a broken chunk, a decompression bomb.
UNREADABLE = (
  UnidentifiedImageError,
  OSError,
  SyntaxError,
  ValueError,
  zlib.error,
  Image.DecompressionBombError,
  Image.DecompressionBombWarning,
)
# The formats of the suffixes that we look for. Pillow knows others, and runs Ghostscript for one of them.
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF')
LARGE = 2**24  # pixels of a picture above which it is decoded alone, to save memory
_alone = threading.Lock()
# Pillow refuses pictures of more than 179 million pixels, and warns of those of more than 89 million.
warnings.simplefilter('error', Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Fit:
  """The rules by which a picture of any size becomes a training image of one size.

  Attributes:
    image_size: height and width in pixels.
    channels: 1 makes gray (luma), 3 makes RGB, 4 makes RGBA whose colours are multiplied by their opacity.
    mode: 'crop' takes the largest centred part of the right shape; 'squash' takes the whole picture.
    background: RGB in 0..255, the colour behind transparent pixels, unless there are four channels.
    pixels: what the numbers of the training images are.
  """

  image_size: tuple[int, int]
  channels: int
  mode: str = 'crop'
  background: tuple[int, int, int] = (255, 255, 255)
  pixels: Pixels = field(default=BYTES, repr=False)  # That of a source is a part of its identity.

  def __call__(self, image: Image.Image) -> np.ndarray:
    """Returns any Pillow image as uint8 [H, W, channels], with 1, 3 or 4 channels."""
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
    """Returns an image in the right size; resizing is bilinear and anti-aliased."""
    height, width = self.image_size
    if image.size == (width, height):
      return image
    if self.mode == 'crop':
      image = image.crop(self._centre(image.size))
    return image.resize((width, height), Image.Resampling.BILINEAR)

  def _centre(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the largest centred part of the right shape: left, top, right and bottom in pixels."""
    width, height = size
    scale = min(width / self.image_size[1], height / self.image_size[0])
    kept_width = max(1, round(self.image_size[1] * scale))
    kept_height = max(1, round(self.image_size[0] * scale))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def check(field: str, fit: Fit) -> None:
  """Refuses to make arrays of other numbers or channels of pictures.

  Args:
    field: what the pictures are called in the error.
    fit: how they would be made to fit.

  Raises:
    InputError: pictures cannot be made to fit so.
  """
  if fit.pixels.dtype != 'uint8' or fit.channels not in (1, 3, 4):
    raise InputError(
      f'{field}: has pictures of 8 bits and 1, 3 or 4 channels, not {fit.pixels.dtype} and {fit.channels}'
    )


@contextlib.contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
  """Yields a picture whose header has been read; it is decoded when its pixels are first asked for.

  Args:
    file: the path of an ordinary file, or an open file.

  Raises:
    Exception: any of `UNREADABLE`, also when it is decoded.
  """
  stream = files.opened(file) if isinstance(file, Path) else contextlib.nullcontext(file)
  with stream as opened, Image.open(opened, formats=FORMATS) as image:
    yield image


def read(file: Path | IO[bytes], fit: Fit) -> np.ndarray | None:
  """Returns the image of an encoded file, uint8 [H, W, channels]; None if it cannot be decoded."""
  try:
    with opened(file) as image, _turn(image):
      return fit(image)
  except UNREADABLE:
    return None


def _turn(image: Image.Image) -> contextlib.AbstractContextManager[object]:
  """Returns what a thread holds while it decodes a picture."""
  return _alone if image.width * image.height > LARGE else contextlib.nullcontext()


def is_image(path: Path) -> bool:
  """Returns whether a file begins like an image; only its header is read."""
  try:
    with opened(path):
      return True
  except UNREADABLE:
    return False


def _to_eight_bits(image: Image.Image) -> Image.Image:
  """Scales 16-bit gray, which Pillow would clip, to 8 bits; returns other images as they are."""
  if image.mode.startswith('I'):
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
  return image
