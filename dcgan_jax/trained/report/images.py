"""Pictures embedded in a page: recompressed as WebP, within a given size."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.trained.report import curves

GAP = 2  # pixels between the images of a grid before it is enlarged, see `pictures.grid`
LEAST = 512  # approximate side of enlarged pictures in pixels
SIDE = 1100  # pixels of the longer side of a single picture, at most
SIDE_OF_FRAMES = 680
MOST_FRAMES = 40
QUALITIES = (90, 75, 50, 25)


class Picture(NamedTuple):
  """A picture in a page: its data URL, its size in pixels, and its grid, if any."""

  address: str
  width: int
  height: int
  rows: int = 0
  columns: int = 0


class Grid(NamedTuple):
  """Images in rows and columns, and the factor by which they are enlarged."""

  rows: int
  columns: int
  factor: int


def find_grid(picture: Image.Image, image_size: tuple[int, int]) -> Grid | None:
  """Detects a grid of images of this height and width; None if the picture is not one.

  The sizes must fit, and the gaps between the images must be white.
  """
  pixels = np.asarray(picture.convert('L'))
  for factor in range(64, 0, -1):
    unit = [factor * (side + GAP) for side in image_size]
    counts = [(length - factor * GAP) // side for length, side in zip(pixels.shape, unit)]
    fits = all(
      count * side + factor * GAP == length for count, side, length in zip(counts, unit, pixels.shape)
    )
    if fits and min(counts) > 0 and (pixels[_between(pixels.shape, unit, factor)] == 255).all():
      return Grid(counts[0], counts[1], factor)
  return None


def without_ground(picture: Image.Image, grid: Grid, image_size: tuple[int, int]) -> Image.Image:
  """Returns a grid without its border and with transparent gaps, through which the page shows."""
  unit = [grid.factor * (side + GAP) for side in image_size]
  shape = (picture.height, picture.width)
  opaque = np.where(_between(shape, unit, grid.factor), 0, 255).astype(np.uint8)
  clear = picture.convert('RGB')
  clear.putalpha(Image.fromarray(opaque))
  border = grid.factor * GAP
  return clear.crop((border, border, picture.width - border, picture.height - border))


def _between(shape: tuple[int, ...], unit: Sequence[int], factor: int) -> np.ndarray:
  """Returns the mask of a grid's gaps, bool [H, W]."""
  down, across = (np.arange(length) % side < factor * GAP for length, side in zip(shape, unit))
  return down[:, None] | across[None]


def encode(picture: Image.Image, most: int, side: int = SIDE) -> bytes:
  """Returns a picture as WebP, in the best quality that fits.

  Args:
    picture: Any picture.
    most: Largest size in bytes.
    side: Longer side in pixels, at most.
  """
  picture = _shrunk(picture, side)
  if picture.width * picture.height <= 2**19 and len(data := _webp(picture, lossless=True)) <= most:
    return data
  for quality in QUALITIES:
    if len(data := _webp(picture, quality=quality)) <= most:
      return data
  return encode(picture, most, max(picture.size) // 2) if max(picture.size) > 64 else data


def embed(picture: Image.Image, image_size: tuple[int, int] | None, most: int) -> Picture:
  """Returns a picture for a page; the gaps of a grid become transparent.

  Args:
    picture: A picture of any size.
    image_size: Height and width of the images of a grid; None if unknown.
    most: Largest size in bytes.
  """
  grid = find_grid(picture, image_size) if image_size else None
  if grid and image_size:
    picture = without_ground(picture, grid, image_size)
  data = encode(_enlarged(picture), most)
  with Image.open(io.BytesIO(data)) as made:
    width, height = made.size
  return Picture(address(data), width, height, *(grid[:2] if grid else (0, 0)))


def frames(
  paths: Sequence[Path], image_size: tuple[int, int] | None, most: int
) -> tuple[list[tuple[int, str]], list[str]]:
  """Returns pictures to be shown one after the other, thinned until they fit.

  Args:
    paths: Paths of the pictures, in order.
    image_size: Height and width of the images of a grid, see `embed`.
    most: Largest size of all together, in bytes.

  Returns:
    The number of each and its address, and a note for each that is damaged.
  """
  chosen = curves.evenly(list(enumerate(paths)), MOST_FRAMES)
  made: list[tuple[int, bytes]] = []
  notes: list[str] = []
  for i, path in chosen:  # one after the other, because they may be large
    try:
      made.append((i, _frame(pictures.read(path), image_size)))
    except InputError as error:
      notes.append(str(error))
  while sum(len(data) for _, data in made) > most and len(made) > 1:
    made = made[::-2][::-1]  # The last one stays.
  return [(i, address(data)) for i, data in made], notes


def _frame(picture: Image.Image, image_size: tuple[int, int] | None) -> bytes:
  """Returns a picture over training as WebP."""
  grid = find_grid(picture, image_size) if image_size else None
  if grid and image_size:
    picture = without_ground(picture, grid, image_size)
  return _webp(_shrunk(_enlarged(picture), SIDE_OF_FRAMES), quality=80)


def address(data: bytes) -> str:
  """Returns the data URL of a WebP file."""
  return f'data:image/webp;base64,{base64.b64encode(data).decode()}'


def _enlarged(picture: Image.Image) -> Image.Image:
  """Returns a small picture larger by a whole factor; a browser would enlarge it to a blur."""
  factor = max(1, round(LEAST / max(picture.size)))
  return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
  """Returns a picture scaled down to a longer side of at most `side` pixels."""
  factor = side / max(picture.size)
  if factor >= 1:
    return picture
  size = tuple(max(1, math.floor(factor * length)) for length in picture.size)
  return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _webp(picture: Image.Image, lossless: bool = False, quality: int = 80) -> bytes:
  with io.BytesIO() as file:
    picture.save(file, 'WEBP', method=2, lossless=lossless, quality=quality)
    return file.getvalue()
