"""Pictures made of images: grids, captions, PNG and GIF files. All are uint8 in 0..255, gray or RGB."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import decode
from dcgan_jax.errors import InputError

SQUARE = 4  # pixels of a checkered ground
CHECKS = (204, 255)  # its grays
MOST_PIXELS = 2**25  # of a picture that is read from a file; a larger one is made smaller
MOST_PIXELS_OF_A_GIF = 2**29  # of all its frames, because Pillow holds them in memory


def drawable(images: np.ndarray, pixels: Pixels = BYTES) -> np.ndarray:
  """Draws images of any kind: gray and RGB as they are, transparent ones on a checkered ground.

  Other numbers of channels are no colours. Each channel is drawn in gray, and those of an image stand side by
  side, in rows of as many as make the picture about square, with a black line between them.

  Args:
    images: [N, H, W, C], as users know them.
    pixels: what their numbers are. The lowest number is drawn black and the highest white.

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
  """Lays transparent images, uint8 [N, H, W, 4], on a checkered ground; returns uint8 [N, H, W, 3]."""
  rows, columns = (np.arange(size) // SQUARE for size in images.shape[1:3])
  ground = np.where((rows[:, None] + columns) % 2, *CHECKS)[..., None]
  opacity = images[..., 3:].astype(np.uint32)
  return ((images[..., :3] * opacity + ground.astype(np.uint32) * (255 - opacity) + 127) // 255).astype(
    np.uint8
  )


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
  """Lays images out in rows on a white ground.

  Args:
    images: uint8 [N, H, W, C], N at least 1.
    columns: how many images a row has; by default the square root of N, rounded up.
    gap: pixels between the images and around them.

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


def zoom(image: np.ndarray, least: int = 512) -> np.ndarray:
  """Enlarges a small picture, uint8 [..., H, W, C], by a whole factor, to about `least` pixels."""
  factor = max(1, round(least / max(image.shape[-3:-1])))
  return image.repeat(factor, -3).repeat(factor, -2)


def fit(image: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
  """Enlarges a picture, or makes it smaller, until it just fits into a box.

  Pixels of an enlarged picture stay crisp squares: where the factor is not whole, only their edges are mixed.

  Args:
    image: uint8 [H, W, 1 or 3].
    width: of the box, in pixels.
    height: of the box, in pixels; by default its width.
  """
  scale = min(width / image.shape[1], (height or width) / image.shape[0])
  if scale == 1:
    return image
  large = image.repeat(math.ceil(scale), 0).repeat(math.ceil(scale), 1)
  size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
  return to_array(to_pillow(large).resize(size, Image.Resampling.BOX))


def text(words: str, height: int, width: int, channels: int, size: int = 13) -> np.ndarray:
  """Writes black words in the middle of a white picture.

  Args:
    words: the text, a single line.
    height: of the picture, in pixels.
    width: of the picture, in pixels.
    channels: of the picture.
    size: of the font, in pixels; it is made smaller, down to 7, for words that are too long.

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
  """Writes a line under each image.

  Args:
    images: uint8 [N, H, W, C].
    captions: N lines.
    height: of a line, in pixels.

  Returns:
    uint8 [N, H + height, W, C].
  """
  _, _, width, channels = images.shape
  lines = [text(caption, height, width, channels) for caption in captions]
  return np.concatenate([images, np.stack(lines)], axis=1)


def headed(picture: np.ndarray, titles: Sequence[str], height: int = 16, gap: int = 2) -> np.ndarray:
  """Writes a title over each column of a `grid`.

  Args:
    picture: the grid, uint8 [H, W, C].
    titles: one for each column.
    height: of the line of titles, in pixels.
    gap: of the grid, in pixels.

  Returns:
    uint8 [height + H, W, C].
  """
  width = (picture.shape[1] - gap) // len(titles)
  lines = [text(title, height, width, picture.shape[-1]) for title in titles]
  rest = np.full((height, picture.shape[1] - width * len(titles), picture.shape[-1]), 255, np.uint8)
  return np.concatenate([np.concatenate([*lines, rest], axis=1), picture], axis=0)


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """Puts pictures, uint8 [H, W, C] of any sizes, side by side on white, with their lower edges level."""
  tallest = max(len(picture) for picture in pictures)
  level = [
    np.pad(picture, ((tallest - len(picture), 0), (0, 0), (0, 0)), constant_values=255)
    for picture in pictures
  ]
  return np.concatenate(level, axis=1)


def save_png(path: Path, image: np.ndarray) -> None:
  """Writes a picture, uint8 [H, W, 1, 3 or 4], as PNG; of four channels the last is the opacity.

  The file is whole or not there, even if the process is killed.
  """
  with files.whole(path) as part:
    to_pillow(image).save(part, 'PNG')


def save_gif(
  path: Path,
  frames: Sequence[Path | np.ndarray],
  most: int = 150,
  milliseconds: int = 100,
  hold: int = 2000,
) -> None:
  """Writes a looping GIF. The file is whole or not there, even if the process is killed.

  Args:
    path: of the GIF.
    frames: PNG files or arrays, uint8 [H, W, 1 or 3]; all are shown in the size of the last one.
    most: how many frames the GIF has at most; of more, so many are chosen evenly. Very large ones are made
      smaller.
    milliseconds: how long each frame is shown.
    hold: how long the last frame is shown, in milliseconds.
  """
  chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))]
  last = _opened(chosen[-1])
  scale = min(1, math.sqrt(MOST_PIXELS_OF_A_GIF / (len(chosen) * last.width * last.height)))
  size = (max(1, math.floor(last.width * scale)), max(1, math.floor(last.height * scale)))
  # The sizes differ if the run has gone on with another number of samples. One is read after the other.
  pictures = (_opened(frame).resize(size, Image.Resampling.NEAREST) for frame in chosen)
  durations = [milliseconds] * (len(chosen) - 1) + [hold]
  options = {'save_all': True, 'append_images': pictures, 'duration': durations, 'loop': 0}
  with files.whole(path) as part:
    next(pictures).save(part, 'GIF', optimize=False, **options)


def _opened(frame: Path | np.ndarray) -> Image.Image:
  """Returns the frame of a GIF."""
  return read(frame) if isinstance(frame, Path) else to_pillow(frame)


def read(path: Path) -> Image.Image:
  """Reads a picture file as gray or RGB, and makes one of more than `MOST_PIXELS` smaller.

  Raises:
    InputError: it is none, or is damaged.
  """
  try:
    with decode.opened(path) as opened:
      picture = opened.convert('L' if opened.mode == 'L' else 'RGB')
  except UnidentifiedImageError as error:
    formats = ', '.join(decode.FORMATS)
    raise InputError(f'{path}: is no picture that can be read: it is none of {formats}; remove it') from error
  except decode.UNREADABLE as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: is no picture that can be read: {reason}; remove it') from error
  return picture.reduce(math.ceil(math.sqrt(picture.width * picture.height / MOST_PIXELS)))


def to_pillow(image: np.ndarray) -> Image.Image:
  """Returns a picture, uint8 [H, W, 1, 3 or 4], as a Pillow image."""
  return Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)


def to_array(picture: Image.Image) -> np.ndarray:
  """Returns a gray or RGB Pillow image as uint8 [H, W, 1 or 3]."""
  return np.atleast_3d(np.asarray(picture))
