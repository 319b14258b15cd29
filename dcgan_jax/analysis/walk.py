"""Shows the latent space as the paper does (section 6): walks through it, arithmetic in it, turns.

walk.png        rows of images between one latent and the next, and back to the first
sheet.png       the images of a seed with their numbers, to choose from
arithmetic.png  mean(plus) - mean(minus) + mean(plus2), with neighbours
turn.png        images, and what becomes of them along a vector

As .gif, .webp or .mp4, a walk is a loop and a turn goes there and back.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import files, latents, parallel, sampling
from dcgan_jax.analysis import exemplars
from dcgan_jax.analysis.exemplars import Exemplars
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.films import pace, writing
from dcgan_jax.films.pace import Pace, Timing
from dcgan_jax.journal import pictures

# What can be asked for, with the flags that it takes, and how many exemplars of a class each names.
KINDS: dict[str, dict[str, int]] = {
  'sheet': {},
  'arithmetic': {'plus': 3, 'minus': 3, 'plus2': 3},
  'turn': {'turn_from': 4, 'turn_to': 4, 'points': 8},
  'classes': {'points': 8},
  'walk': {'points': 9},
}
STEPS = 10  # images in a row of a walk, both ends included
AMOUNTS = np.linspace(-1, 1, 9)  # of the turn vector
SECONDS_OF_A_LEG = 1.0  # in a loop, unless something else is asked for
SECONDS_OF_A_TURN = 4.0  # there and back
MOST_IMAGES = 50_000  # of a loop; they are in memory together
TILE = 64  # pixels that small images are enlarged to, roughly


@dataclass(frozen=True)
class Asked:
  """What a user asks to see.

  Attributes:
    sheet: whether to draw the contact sheet.
    path: of a walk, 'spherical' | 'linear'; None takes the one that suits the prior.
    classes: names of classes with commas between, or 'all', to walk between; None for no such walk.
    named: what the flags points, plus, minus, plus2, turn_from and turn_to were given, see `exemplars.parse`;
      None for those that were not given. The three terms ask for arithmetic, the two ends for a turn, and
      neither for a walk.
    pace: of a moving picture.
  """

  sheet: bool
  path: str | None
  classes: str | None
  named: Mapping[str, str | None]
  pace: Pace

  @property
  def given(self) -> dict[str, str]:
    """Returns the texts that were given, by flag."""
    return {flag: text for flag, text in self.named.items() if text is not None}


def run(folder: Path, num: int | None, seed: int, checkpoint: str, out: str | None, asked: Asked) -> None:
  """Draws one picture, and prints the flags that draw it again.

  Args:
    folder: the workdir of a run.
    num: how many images a sheet has, None for 64; or among how many a class is looked for, None for 1,000.
    seed: of the latents; image i is the one that `--mode=sample` makes of this seed.
    checkpoint: 'last', 'best' or the number of a step.
    out: ending in .png or, of a walk or a turn, in .gif, .webp or .mp4; None for a .png named after what it
      shows.
    asked: what to draw.

  Raises:
    InputError: in one line, before anything is compiled, unless no exemplars of a class are found.
  """
  kind = _kind(asked)
  target = _target(out, kind)
  named = {flag: exemplars.parse(flag, text) for flag, text in asked.given.items()}
  if 'points' in KINDS[kind] and 'points' not in named:
    named['points'] = Exemplars(tuple(range(KINDS[kind]['points'])))
  cache.keep_compiled_programs()
  sampler = sampling.load(folder, checkpoint)
  chosen = exemplars.choose(named, KINDS[kind], folder, sampler, num or 1000, seed)
  if kind == 'walk' and len(chosen['points'].indices) == 1:
    raise InputError(f'points={asked.named["points"]}: is one image; a walk takes two or more')
  numbers = sampler.find_classes(asked.classes) if kind == 'classes' and asked.classes is not None else []
  if len(numbers) == 1:
    raise InputError(f'class={asked.classes}: is one class; a walk takes two or more')
  path = asked.path or ('linear' if sampler.latents.prior == 'uniform' else 'spherical')
  key = jax.random.key(seed)
  z = {flag: sampler.latents.sample(key, jnp.array(one.indices)) for flag, one in chosen.items()}
  timing = None
  if target.suffix in pace.SUFFIXES:
    legs = len(numbers or z['points'])
    seconds = SECONDS_OF_A_TURN if kind == 'turn' else legs * SECONDS_OF_A_LEG
    timing = pace.timing(asked.pace, target.suffix, seconds)
  frames: Iterable[np.ndarray]
  if kind == 'sheet':
    frames = [_draw_sheet(pictures.drawable(sampler.sample(num or 64, seed), sampler.pixels))]
  elif kind == 'arithmetic':
    # No image of the seed has this key: images are numbered from 0 to `exemplars.MOST`.
    frames = [_draw_arithmetic(sampler, chosen, z, jax.random.fold_in(key, 2**32 - 1))]
  elif kind == 'classes':
    frames = _show_classes(sampler, z['points'], numbers, timing)
  elif kind == 'turn':
    frames = _show_turn(sampler, z['points'], latents.turn(z['turn_from'], z['turn_to']), timing)
  else:
    frames = _show_walk(sampler, z['points'], path, timing)
  if parallel.is_main():
    _write(target, frames, timing)
  for flag, one in chosen.items():
    print(f'--{flag}={",".join(map(str, one.indices))}' + (f'  ({one.name})' if one.name else ''))
  how = f'{path} {kind}' if kind == 'walk' else kind
  print(f'{how} of step {sampler.step} of {folder}, seed {seed}, in {target}')


def _kind(asked: Asked) -> str:
  """Returns which of `KINDS` is asked for.

  Raises:
    InputError: flags are missing, or do not go together.
  """
  given = asked.given
  terms, ends = KINDS['arithmetic'], ('turn_from', 'turn_to')
  kind = 'sheet' if asked.sheet else 'arithmetic' if given.keys() & terms else 'walk'
  kind = 'turn' if kind == 'walk' and given.keys() & ends else kind
  kind = 'classes' if kind == 'walk' and asked.classes is not None else kind
  flags = given | ({'path': asked.path} if asked.path else {})
  flags |= {} if asked.classes is None or kind == 'classes' else {'class': asked.classes}
  taken = [*KINDS[kind], *(['path'] if kind == 'walk' else [])]
  wanted = ', '.join(f'--{name}' for name in taken) or 'no flag that names images'
  for flag, text in flags.items():
    if flag not in taken:
      raise InputError(f'{flag}={text}: does not go with the rest; {kind} takes {wanted}')
  missing = [f'--{flag}' for flag in KINDS[kind] if flag not in given and flag != 'points']
  if missing:
    raise InputError(f'{" and ".join(missing)} missing: {kind} takes {wanted}: numbers of images, or a class')
  return kind


def _target(out: str | None, kind: str) -> Path:
  """Returns the path of the picture.

  Raises:
    InputError: its suffix is not one that this kind of picture can have.
  """
  target = files.to_be_written('out', out or f'{kind}.png')
  moves = kind in ('walk', 'classes', 'turn')
  if target.suffix != '.png' and not (moves and target.suffix in pace.SUFFIXES):
    loops = '.png (rows) or in .gif, .webp or .mp4 (a loop)'
    meaning = loops if moves else f'.png, being a picture: {kind}.png'
    raise InputError(f'out={out}: must end in {meaning}')
  return target


def _make(sampler: sampling.Sampler, z: Array) -> np.ndarray:
  """Draws the images of latents [..., Z], uint8 [..., h, w, 1 or 3]."""
  made = pictures.drawable(sampler.from_latents(z.reshape(-1, z.shape[-1])), sampler.pixels)
  return made.reshape(*z.shape[:-1], *made.shape[1:])


def _draw_sheet(made: np.ndarray) -> np.ndarray:
  """Draws images [N, H, W, C] with their numbers."""
  return pictures.grid(pictures.captioned(pictures.zoom(made, TILE), [str(i) for i in range(len(made))]))


def _show_walk(
  sampler: sampling.Sampler, points: Array, path: str, timing: Timing | None
) -> Iterable[np.ndarray]:
  """Draws a walk: a row for each leg, or the frames of a loop.

  A row ends with the image that the next one begins with. Each frame has as many images as there are points.
  All of them go the same closed way, each one leg ahead of the image before it.
  """
  if timing is None:
    made = _make(sampler, sampler.latents.path(points, jnp.linspace(0, 1, STEPS), path))
    return [pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=STEPS)]
  # So many images, evenly on the way, are those of all frames and of each image's place in them.
  places = math.lcm(timing.frames, len(points))
  _check_number(places, timing)
  steps = places // len(points)
  legs = sampler.latents.path(points, jnp.arange(steps) / steps, path)
  made = _make(sampler, legs.reshape(-1, legs.shape[-1]))
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


def _show_classes(
  sampler: sampling.Sampler, points: Array, numbers: list[int], timing: Timing | None
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
  made = _make(sampler, jnp.concatenate([z, y], -1))
  if timing is None:
    return [pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=made.shape[1])]
  return _grids(made)


def _grids(made: np.ndarray) -> Iterator[np.ndarray]:
  """Yields the frames in which each row of images, uint8 [N, frames, H, W, C], has its place in a grid."""
  return (pictures.grid(pictures.zoom(made[:, i], TILE)) for i in range(made.shape[1]))


def _draw_arithmetic(
  sampler: sampling.Sampler, chosen: Mapping[str, Exemplars], z: Mapping[str, Array], key: Array
) -> np.ndarray:
  """Draws the paper's figure 7: columns of exemplars over the image of their mean, and the result.

  The result is shown in the middle of eight neighbours.

  Args:
    sampler: makes the images.
    chosen: the exemplars 'plus', 'minus' and 'plus2'.
    z: their latents [N, Z].
    key: of the neighbours.
  """
  result = latents.arithmetic(z['plus'], z['minus'], z['plus2'])
  size = sampler.latents.size
  near = latents.neighbours(key, result[:size])
  around = jnp.concatenate([near, jnp.broadcast_to(result[size:], (len(near), len(result) - size))], 1)
  pieces = []
  for flag, sign in (('plus', '-'), ('minus', '+'), ('plus2', '=')):
    mean = z[flag].mean(0, keepdims=True)
    tiles = pictures.zoom(_make(sampler, jnp.concatenate([z[flag], mean])), TILE)
    column = pictures.captioned(tiles, [*map(str, chosen[flag].indices), 'mean'])
    pieces.append(pictures.headed(pictures.grid(column, columns=1), [chosen[flag].name or '']))
    _, height, width, channels = tiles.shape
    between = pictures.text(sign, height, width // 2, channels, size=24)
    pieces.append(pictures.grid(pictures.captioned(between[None], [''])))
  block = _make(sampler, jnp.concatenate([around[:4], result[None], around[4:]]))
  block = pictures.grid(pictures.zoom(block, TILE))
  caption = pictures.text('result, and neighbours', 16, block.shape[1], block.shape[2])
  return pictures.beside([*pieces, np.concatenate([block, caption])])


def _show_turn(
  sampler: sampling.Sampler, points: Array, vector: Array, timing: Timing | None
) -> Iterable[np.ndarray]:
  """Draws images from minus to plus the whole turn vector: a row for each, or the frames of a loop.

  In the middle of a row is the image of the latent itself. The loop goes there and back, slowly at both ends.

  Args:
    sampler: makes the images.
    points: the latents, [N, Z].
    vector: [Z].
    timing: of the loop; None for rows.
  """
  if timing is None:
    amounts = AMOUNTS
  else:
    _check_number(len(points) * timing.frames, timing)
    amounts = -np.cos(2 * np.pi * np.arange(timing.frames) / timing.frames)
  made = _make(sampler, points[:, None] + jnp.asarray(amounts, jnp.float32)[:, None] * vector)
  if timing is not None:
    return _grids(made)
  picture = pictures.grid(pictures.zoom(np.concatenate(made), TILE), columns=len(AMOUNTS))
  return [pictures.headed(picture, [f'{amount:+g}' if amount else '0' for amount in AMOUNTS])]


def _write(target: Path, frames: Iterable[np.ndarray], timing: Timing | None) -> None:
  """Writes the frames as a moving picture, or the only one as a PNG.

  Raises:
    InputError: the file cannot be written.
  """
  if timing is not None:
    return writing.write(target, frames, timing)
  try:
    pictures.save_png(target, next(iter(frames)))
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}; choose another --out') from error
