"""Draws the pictures of `--mode=walk`: rows of images, or the frames of a loop."""

import math
from collections.abc import Iterable, Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax.core import latents
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.media.pace import Timing
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.trained.walks import directions
from dcgan_jax.trained.walks.exemplars import Exemplars

STEPS = 10  # images in a row of a walk, both ends included
AMOUNTS = np.linspace(-1, 1, 9)  # of the turn vector
AMOUNTS_ON_A_SHEET = np.linspace(-1, 1, 5)  # of each direction, for each image
MOST_IMAGES = 50_000  # of a loop; they are in memory together
TILE = 64  # pixels that small images are enlarged to, roughly


def sheet(made: np.ndarray) -> np.ndarray:
  """Draws images [N, H, W, C] with their numbers."""
  return pictures.grid(pictures.captioned(pictures.zoom(made, TILE), [str(i) for i in range(len(made))]))


def walk(sampler: Sampler, points: Array, path: str | None, timing: Timing | None) -> Iterable[np.ndarray]:
  """Draws a walk: a row for each leg, or the frames of a loop.

  A row ends with the first image of the next one. Each frame has an image for each point.
  All of them follow the same closed path, each one leg ahead of the image before it.
  """
  if timing is None:
    made = sampler.drawable(sampler.latents.path(points, jnp.linspace(0, 1, STEPS), path))
    return [pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=STEPS)]
  # So many images, evenly spaced on the path, serve all frames and all places in them.
  places = math.lcm(timing.frames, len(points))
  _check_number(places, timing)
  steps = places // len(points)
  legs = sampler.latents.path(points, jnp.arange(steps) / steps, path)
  made = sampler.drawable(legs.reshape(-1, legs.shape[-1]))
  ahead = steps * np.arange(len(points))
  stride = places // timing.frames
  return (pictures.grid(pictures.zoom(made[(ahead + i) % places], TILE)) for i in range(0, places, stride))


def _check_number(images: int, timing: Timing) -> None:
  """Refuses a loop of too many images."""
  if images > MOST_IMAGES:
    raise InputError(
      f'seconds={timing.frames / timing.fps:g}: a loop of {timing.frames:,} frames takes {images:,} images '
      f'here, and {MOST_IMAGES:,} is the most; choose a smaller --seconds or --fps, or fewer --points'
    )


def classes(
  sampler: Sampler, points: Array, numbers: list[int], timing: Timing | None
) -> Iterable[np.ndarray]:
  """Draws a walk from class to class, on which each z stays the same.

  Without a pace it is a row for each latent, from the first class to the last. Otherwise it is the frames of
  a loop through all classes and back to the first.
  """
  weights = jnp.eye(len(sampler.classes))[jnp.array(numbers)]
  if timing is None:
    t = jnp.arange(STEPS) / STEPS if len(numbers) > 2 else jnp.linspace(0, 1, STEPS)
    weights = latents.path(weights, t, 'linear', False).reshape(-1, len(sampler.classes))
  else:
    _check_number(len(points) * timing.frames, timing)
    steps = math.lcm(timing.frames, len(numbers)) // len(numbers)  # places on each leg, for all frames
    weights = latents.path(weights, jnp.arange(steps) / steps, 'linear').reshape(-1, len(sampler.classes))
    weights = weights[:: len(weights) // timing.frames]
  z = points[:, None, : sampler.latents.size]
  shape = (len(points), len(weights))
  z, y = (jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in (z, weights[None]))
  made = sampler.drawable(jnp.concatenate([z, y], -1))
  if timing is None:
    return [pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=made.shape[1])]
  return _grids(made)


def _grids(made: np.ndarray) -> Iterator[np.ndarray]:
  """Yields the frames in which each row of images, uint8 [N, frames, H, W, C], has its place in a grid."""
  return (pictures.grid(pictures.zoom(made[:, i], TILE)) for i in range(made.shape[1]))


def arithmetic(
  sampler: Sampler, chosen: Mapping[str, Exemplars], z: Mapping[str, Array], key: Array
) -> np.ndarray:
  """Draws the paper's figure 7: columns of exemplars over the image of their mean, and the result.

  The result is shown in the middle of eight neighbours.

  Args:
    sampler: Generator of the images.
    chosen: Exemplars 'plus', 'minus' and 'plus2'.
    z: Latents of the exemplars, [N, Z] each.
    key: Random key of the neighbours.
  """
  result = latents.arithmetic(z['plus'], z['minus'], z['plus2'])
  size = sampler.latents.size
  near = latents.neighbours(key, result[:size])
  around = jnp.concatenate([near, jnp.broadcast_to(result[size:], (len(near), len(result) - size))], 1)
  pieces = []
  for flag, sign in (('plus', '-'), ('minus', '+'), ('plus2', '=')):
    mean = z[flag].mean(0, keepdims=True)
    tiles = pictures.zoom(sampler.drawable(jnp.concatenate([z[flag], mean])), TILE)
    column = pictures.captioned(tiles, [*map(str, chosen[flag].indices), 'mean'])
    pieces.append(pictures.headed(pictures.grid(column, columns=1), [chosen[flag].name or '']))
    _, height, width, channels = tiles.shape
    between = pictures.text(sign, height, width // 2, channels, size=24)
    pieces.append(pictures.grid(pictures.captioned(between[None], [''])))
  block = sampler.drawable(jnp.concatenate([around[:4], result[None], around[4:]]))
  block = pictures.grid(pictures.zoom(block, TILE))
  caption = pictures.text('result, and neighbours', 16, block.shape[1], block.shape[2])
  return pictures.beside([*pieces, np.concatenate([block, caption])])


def turn(
  sampler: Sampler, points: Array, vector: Array, timing: Timing | None, length: float = 1.0
) -> Iterable[np.ndarray]:
  """Draws images from minus to plus a whole vector: a row for each, or the frames of a loop.

  In the middle of a row is the image of the latent itself. The loop goes there and back, slowly at both ends.

  Args:
    sampler: Generator of the images.
    points: Latents, [N, Z].
    vector: The whole vector, [Z].
    timing: Timing of the loop; None for rows.
    length: Factor of the vector.
  """
  if timing is None:
    amounts = length * AMOUNTS
  else:
    _check_number(len(points) * timing.frames, timing)
    amounts = -length * np.cos(2 * np.pi * np.arange(timing.frames) / timing.frames)
  made = sampler.drawable(points[:, None] + jnp.asarray(amounts, jnp.float32)[:, None] * vector)
  if timing is not None:
    return _grids(made)
  picture = pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=len(AMOUNTS))
  return [pictures.headed(picture, _signed(amounts))]


def sheet_of_directions(sampler: Sampler, points: Array, vectors: Array) -> np.ndarray:
  """Draws a row for each direction: a block for each image, with the image itself in its middle.

  Args:
    sampler: Generator of the images.
    points: Latents, [N, Z].
    vectors: Directions, unit vectors [D, Z], numbered from 1.
  """
  amounts = directions.reach(sampler.latents) * AMOUNTS_ON_A_SHEET
  moves = jnp.asarray(amounts, jnp.float32)[:, None] * vectors[:, None]  # [D, amounts, Z]
  made = sampler.drawable(points[:, None, None] + moves)
  tiles = pictures.zoom(made.reshape(len(points), -1, *made.shape[3:]), TILE)
  blocks = [pictures.headed(pictures.grid(block, len(amounts)), _signed(amounts)) for block in tiles]
  height, _, channels = tiles.shape[2:]
  labels = [pictures.text(str(i), height, height // 2, channels, size=24) for i in range(1, 1 + len(vectors))]
  gap = np.full((1, 8, channels), 255, np.uint8)
  spaced = [piece for block in blocks for piece in (gap, block)]
  return pictures.beside([pictures.grid(np.stack(labels), columns=1), *spaced[1:]])


def _signed(amounts: np.ndarray) -> list[str]:
  """Returns numbers as the titles of columns."""
  return [f'{amount:+.3g}' if amount else '0' for amount in amounts]
