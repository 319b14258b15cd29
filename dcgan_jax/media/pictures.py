"""Pictures of images: grids, captions, PNG and GIF files. All are uint8 in 0..255, gray or RGB."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import decode
from dcgan_jax.errors import InputError

SQUARE = 4  # side of a square of the checkered background, in pixels
CHECKS = (204, 255)  # grays of the checkered background
MOST_PIXELS = 2**25  # of a picture read from a file; a larger one is scaled down
MOST_PIXELS_OF_A_GIF = 2**29  # of all frames, which Pillow holds in memory


def drawable(images: np.ndarray, pixels: Pixels = BYTES) -> np.ndarray:
  """Turns images of any kind into gray or RGB ones; transparent ones get a checkered background.

  With other numbers of channels each channel is drawn in gray. Those of an image stand side by side in an
  about square block, with black lines between them.

  Args:
    images: [N, H, W, C], in the dtype and the range of the data.
    pixels: Pixel format. The lowest value is drawn black and the highest white.

  Returns:
    uint8 [N, h, w, 1 or 3], the images themselves if they are that already.
  """
  images = pixels.in_eight_bits(images)
  if pixels.transparent:
    return _on_checks(images)
  count, height, width, channels = images.shape
  if channels in (1, 3):
    return images
  columns = math.ceil(math.sqrt(channels))
  rows = math.ceil(channels / columns)
  canvas = np.full((count, rows * (height + 1) - 1, columns * (width + 1) - 1, 1), 255, np.uint8)
  canvas[:, height :: height + 1] = canvas[:, :, width :: width + 1] = 0
  for i in range(channels):
    top, left = i // columns * (height + 1), i % columns * (width + 1)
    canvas[:, top : top + height, left : left + width, 0] = images[..., i]
  return canvas


def _on_checks(images: np.ndarray) -> np.ndarray:
  """Returns transparent images, uint8 [N, H, W, 4], on a checkered background, uint8 [N, H, W, 3]."""
  rows, columns = (np.arange(size) // SQUARE for size in images.shape[1:3])
  ground = np.where((rows[:, None] + columns) % 2, *CHECKS)[..., None]
  alpha = images[..., 3:].astype(np.uint32)
  return ((images[..., :3] * alpha + ground.astype(np.uint32) * (255 - alpha) + 127) // 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
  """Lays out images in rows on a white background.

  Args:
    images: uint8 [N, H, W, C], N at least 1.
    columns: Images in a row; by default the square root of N, rounded up.
    gap: Pixels between and around the images.

  Returns:
    uint8 [rows * (H + gap) + gap, columns * (W + gap) + gap, C].
  """
  count, height, width, channels = images.shape
  columns = columns or math.ceil(math.sqrt(count))
  rows = math.ceil(count / columns)
  canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
  for i, image in enumerate(images):
    top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
    canvas[top : top + height, left : left + width] = image
  return canvas


def sheet(images: np.ndarray, pixels: Pixels, columns: int | None = None) -> np.ndarray:
  """Lays out images of any kind, [N, H, W, C], see `drawable` and `grid`."""
  return grid(drawable(images, pixels), columns)


def zoom(image: np.ndarray, least: int = 512) -> np.ndarray:
  """Enlarges a small picture, uint8 [..., H, W, C], by a whole factor, to about `least` pixels."""
  factor = max(1, round(least / max(image.shape[-3:-1])))
  return image.repeat(factor, -3).repeat(factor, -2)


def fit(image: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
  """Scales a picture to the largest size that fits into a box.

  Pixels of an enlarged picture stay crisp squares: only their edges are mixed if the factor is not whole.

  Args:
    image: uint8 [H, W, 1 or 3].
    width: Width of the box in pixels.
    height: Height of the box in pixels; by default its width.
  """
  scale = min(width / image.shape[1], (height or width) / image.shape[0])
  if scale == 1:
    return image
  large = image.repeat(math.ceil(scale), 0).repeat(math.ceil(scale), 1)
  size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
  return to_array(to_pillow(large).resize(size, Image.Resampling.BOX))


def text(words: str, height: int, width: int, channels: int, size: int = 13) -> np.ndarray:
  """Returns a white picture with black words in its centre.

  Args:
    words: A single line.
    height: Height of the picture in pixels.
    width: Width of the picture in pixels.
    channels: Channels of the picture.
    size: Font size in pixels, reduced down to 7 for words that are too long.

  Returns:
    uint8 [height, width, channels].
  """
  picture = Image.new('L', (width, height), 255)
  draw = ImageDraw.Draw(picture)
  sizes = range(size, 6, -1)
  fonts = (ImageFont.load_default(s) for s in sizes)
  font = next((f for f in fonts if draw.textlength(words, f) <= width), ImageFont.load_default(sizes[-1]))
  draw.text((width / 2, height / 2), words, 0, font, anchor='mm')
  return np.asarray(picture)[:, :, None].repeat(channels, 2)


def captioned(images: np.ndarray, captions: Sequence[str], height: int = 16) -> np.ndarray:
  """Puts a line of text under each image.

  Args:
    images: uint8 [N, H, W, C].
    captions: N lines.
    height: Height of a line in pixels.

  Returns:
    uint8 [N, H + height, W, C].
  """
  _, _, width, channels = images.shape
  lines = [text(caption, height, width, channels) for caption in captions]
  return np.concatenate([images, np.stack(lines)], axis=1)


def headed(picture: np.ndarray, titles: Sequence[str], height: int = 16, gap: int = 2) -> np.ndarray:
  """Puts a title over each column of a `grid`.

  Args:
    picture: The grid, uint8 [H, W, C].
    titles: A title for each column.
    height: Height of the line of titles in pixels.
    gap: Gap of the grid in pixels.

  Returns:
    uint8 [height + H, W, C].
  """
  width = (picture.shape[1] - gap) // len(titles)
  lines = [text(title, height, width, picture.shape[-1]) for title in titles]
  rest = np.full((height, picture.shape[1] - width * len(titles), picture.shape[-1]), 255, np.uint8)
  return np.concatenate([np.concatenate([*lines, rest], axis=1), picture], axis=0)


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """Puts pictures, uint8 [H, W, C] of any sizes, side by side on white, aligned at the bottom."""
  tallest = max(len(picture) for picture in pictures)
  level = [
    np.pad(picture, ((tallest - len(picture), 0), (0, 0), (0, 0)), constant_values=255)
    for picture in pictures
  ]
  return np.concatenate(level, axis=1)


def png(image: np.ndarray) -> bytes:
  """Returns a picture, uint8 [H, W, 1, 3 or 4], as a PNG; the last of four channels is alpha."""
  with io.BytesIO() as file:
    to_pillow(image).save(file, 'PNG')
    return file.getvalue()


def save_png(path: Path, image: np.ndarray) -> None:
  """Writes a picture, uint8 [H, W, 1, 3 or 4], as a PNG, atomically."""
  files.write_bytes(path, png(image))


def save_gif(
  path: Path,
  frames: Sequence[Path | np.ndarray],
  most: int = 150,
  milliseconds: int = 100,
  hold: int = 2000,
) -> None:
  """Writes a looping GIF, atomically.

  Args:
    path: Path of the GIF.
    frames: PNG files or arrays, uint8 [H, W, 1 or 3]; all are shown in the size of the last one. Very large
      ones are scaled down.
    most: Largest number of frames; of more, an evenly spaced selection is shown.
    milliseconds: Duration of each frame.
    hold: Duration of the last frame in milliseconds.
  """
  chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))]
  last = _opened(chosen[-1])
  scale = min(1, math.sqrt(MOST_PIXELS_OF_A_GIF / (len(chosen) * last.width * last.height)))
  size = (max(1, math.floor(last.width * scale)), max(1, math.floor(last.height * scale)))
  # The sizes differ if the run was resumed with another number of samples. The files are read one at a time.
  pictures = (_opened(frame).resize(size, Image.Resampling.NEAREST) for frame in chosen)
  durations = [milliseconds] * (len(chosen) - 1) + [hold]
  options = {'save_all': True, 'append_images': pictures, 'duration': durations, 'loop': 0}
  with files.whole(path) as part:
    next(pictures).save(part, 'GIF', optimize=False, **options)


def _opened(frame: Path | np.ndarray) -> Image.Image:
  """Returns a frame of a GIF."""
  return read(frame) if isinstance(frame, Path) else to_pillow(frame)


def read(path: Path) -> Image.Image:
  """Reads a picture file as gray or RGB; one of more than `MOST_PIXELS` is scaled down.

  Raises:
    InputError: it is not a picture, or is damaged.
  """
  try:
    with decode.opened(path) as opened:
      picture = opened.convert('L' if opened.mode == 'L' else 'RGB')
  except UnidentifiedImageError as error:
    formats = ', '.join(decode.FORMATS)
    raise InputError(f'{path}: is not a readable picture: it is none of {formats}; remove it') from error
  except decode.UNREADABLE as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: is not a readable picture: {reason}; remove it') from error
  return picture.reduce(math.ceil(math.sqrt(picture.width * picture.height / MOST_PIXELS)))


def to_pillow(image: np.ndarray) -> Image.Image:
  """Returns a picture, uint8 [H, W, 1, 3 or 4], as a Pillow image."""
  return Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)


def to_array(picture: Image.Image) -> np.ndarray:
  """Returns a gray or RGB Pillow image as uint8 [H, W, 1 or 3]."""
  return np.atleast_3d(np.asarray(picture))
