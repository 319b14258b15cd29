"""Pictures for people: uint8, grids, PNG, GIF."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image


def to_uint8(images: Array) -> Array:
  """float [..., C] in [-1, 1] -> uint8, rounded; the inverse of the train step's normalisation."""
  return jnp.clip(jnp.rint((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
  """Lays images out in rows on white.

  Args:
    images: uint8 [N, H, W, C], N at least 1.
    columns: default the square root of N, rounded up.
    gap: pixels between images and around them.

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
  """Enlarges a small picture [H, W, C] by a whole factor, pixels kept square, to `least` pixels or so."""
  factor = max(1, round(least / max(image.shape[:2])))
  return image.repeat(factor, 0).repeat(factor, 1)


def save_png(path: Path, image: np.ndarray) -> None:
  """Writes uint8 [H, W, 1 or 3]; the file is whole or not there, even if the process is killed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(path.name + '.part')
  _to_pillow(image).save(part, 'PNG')
  part.replace(path)


def save_gif(path: Path, frames: Sequence[Path], most: int = 150, milliseconds: int = 100) -> None:
  """Makes a looping GIF of PNG files, evenly thinned to `most` frames; the last is held for two seconds."""
  chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))]
  with Image.open(chosen[-1]) as last:
    size = last.size  # a run may have gone on with another number of samples
  pictures = []
  for frame in chosen:
    with Image.open(frame) as picture:
      pictures.append(
        picture.convert('L' if picture.mode == 'L' else 'RGB').resize(size, Image.Resampling.NEAREST)
      )
  durations = [milliseconds] * (len(pictures) - 1) + [2000]
  part = path.with_name(path.name + '.part')
  pictures[0].save(
    part, 'GIF', save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
  )
  part.replace(path)


def _to_pillow(image: np.ndarray) -> Image.Image:
  return Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)
