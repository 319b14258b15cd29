"""Shows the latent space as the paper does (section 6): walks through it, arithmetic in it, turns.

walk.png        rows of images between one latent and the next, and back to the first
sheet.png       the images of a seed with their numbers, to choose from
arithmetic.png  mean(plus) - mean(minus) + mean(plus2), with neighbours
turn.png        images moved along a vector
directions.png  images moved along directions that are found without labels
direction.png   images along one of these

As .gif, .webp or .mp4, a walk is a loop, and a turn or a direction goes there and back.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import files
from dcgan_jax.core import latents
from dcgan_jax.data import cache
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace, pictures, writing
from dcgan_jax.media.pace import Timing
from dcgan_jax.runs import sampling
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.trained.walks import directions, drawing, exemplars, request
from dcgan_jax.trained.walks.exemplars import Exemplars
from dcgan_jax.trained.walks.request import KINDS, Request

SECONDS_OF_A_LEG = 1.0  # of a loop, by default
SECONDS_OF_A_TURN = 4.0  # there and back
IMAGES_ON_A_SHEET = 64  # by default


def run(folder: Path, num: int | None, seed: int, checkpoint: str, out: str | None, wanted: Request) -> None:
  """Draws one picture, and prints the flags that draw it again.

  Args:
    folder: The workdir of a run.
    num: Number of images on a sheet, None for 64, or of directions, None for 8; or number of images among
      which a class is looked for, None for 1,000.
    seed: Seed of the latents; image i is that of `--mode=sample` with this seed.
    checkpoint: 'last', 'best' or the number of a step.
    out: Path ending in .png or, for a moving picture, in .gif, .webp or .mp4; None for a .png named after the
      kind of picture.
    wanted: The flags of the picture.

  Raises:
    InputError: in one line, before anything is compiled, unless no exemplars of a class are found.
  """
  kind = request.kind(wanted)
  target = request.target(out, kind)
  named = {flag: exemplars.parse(flag, text) for flag, text in wanted.given.items()}
  cache.keep_compiled_programs()
  sampler = sampling.open_sampler(folder, checkpoint)
  given = None
  if wanted.latents_file is not None:
    given = sampler.latents.validated(sampling.read_latents(wanted.latents_file))
  if 'points' in KINDS[kind] and 'points' not in named:
    count = KINDS[kind]['points']
    named['points'] = Exemplars(tuple(range(count if given is None else min(count, len(given)))))
  if given is None:
    among = num if num and kind != 'directions' else 1000
    named = exemplars.choose(named, KINDS[kind], folder, sampler, among, seed)
  else:
    _check_rows(named, len(given))
  classes = _check(sampler, wanted, kind, named)
  z = {flag: _latents(sampler, seed, given, one.indices) for flag, one in named.items()}
  frames: Iterable[np.ndarray]
  timing = None
  if target.suffix in pace.SUFFIXES:
    legs = len(classes or z['points'])
    seconds = SECONDS_OF_A_LEG * legs if kind in ('walk', 'classes') else SECONDS_OF_A_TURN
    timing = pace.timing(wanted.pace, target.suffix, seconds)
  if kind == 'sheet':
    most = num or IMAGES_ON_A_SHEET
    made = sampler.sample(most, seed) if given is None else sampler.from_latents(given[:most])
    frames = [drawing.sheet(pictures.drawable(made, sampler.pixels))]
  elif kind == 'arithmetic':
    # No image of the seed has this key: images are numbered from 0 to `exemplars.MOST`.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    frames = [drawing.arithmetic(sampler, named, z, key)]
  elif kind == 'directions':
    vectors = _directions(sampler, wanted)[: num or directions.COUNT]
    frames = [drawing.sheet_of_directions(sampler, z['points'], vectors)]
  else:
    frames = _moving(sampler, wanted, kind, z, timing)
  if processes.is_main():
    _write(target, frames, timing)
  for flag, one in named.items():
    print(f'--{flag}={",".join(map(str, one.indices))}' + (f'  ({one.name})' if one.name else ''))
  whose = f'seed {seed}' if given is None else f'latents of {wanted.latents_file}'
  print(f'{_what(sampler, wanted, kind)} of step {sampler.step} of {folder}, {whose}, in {target}')


def _check(sampler: Sampler, wanted: Request, kind: str, named: Mapping[str, Exemplars]) -> list[int]:
  """Returns the numbers of the classes to walk between, if any.

  Raises:
    InputError: there is only one image, or one class, to walk between, or no such class or direction.
  """
  size = sampler.latents.size
  if wanted.direction is not None and wanted.direction > size:
    raise InputError(f'direction={wanted.direction}: z has {size} numbers, and so many directions at most')
  if kind == 'walk' and len(named['points'].indices) == 1:
    raise InputError(f'points={named["points"].indices[0]}: is one image; a walk takes two or more')
  if kind != 'classes' or wanted.classes is None:
    return []
  classes = sampler.find_classes(wanted.classes)
  if len(classes) == 1:
    raise InputError(f'class={wanted.classes}: is one class; a walk takes two or more')
  return classes


def _latents(sampler: Sampler, seed: int, given: np.ndarray | None, indices: Sequence[int]) -> Array:
  """Returns the latents of images [N, width]: rows of those that are given, or those of the seed."""
  if given is not None:
    return jnp.asarray(given[list(indices)])
  return sampler.latents.sample(jax.random.key(seed), jnp.array(indices))


def _moving(
  sampler: Sampler, wanted: Request, kind: str, z: Mapping[str, Array], timing: Timing | None
) -> Iterable[np.ndarray]:
  """Draws a picture of rows or, with a timing, the frames of a loop."""
  points = z['points']
  if kind == 'classes':
    return drawing.classes(sampler, points, sampler.find_classes(wanted.classes or ''), timing)
  if kind == 'turn':
    return drawing.turn(sampler, points, latents.turn(z['turn_from'], z['turn_to']), timing)
  if kind == 'direction' and wanted.direction is not None:
    vectors = _directions(sampler, wanted)
    if wanted.direction > len(vectors):
      raise InputError(f'direction={wanted.direction}: there are {len(vectors)} of {wanted.directions}')
    vector = vectors[wanted.direction - 1]
    return drawing.turn(sampler, points, vector, timing, directions.reach(sampler.latents))
  return drawing.walk(sampler, points, wanted.path, timing)


def _directions(sampler: Sampler, wanted: Request) -> Array:
  """Returns all directions by the chosen method, [N, width]; they leave the class alone."""
  size = sampler.latents.size
  if wanted.directions == 'ganspace':
    found = directions.of_activations(*sampler.network, sampler.latents, size)
  else:
    found = directions.of_first_layer(*sampler.network, size, size)
  return jnp.pad(found, ((0, 0), (0, sampler.latents.classes)))


def _check_rows(named: Mapping[str, Exemplars], count: int) -> None:
  """Refuses images that are not named by rows of a file of `count` latents.

  Raises:
    InputError: one is a class, or a number that the file does not have.
  """
  for flag, one in named.items():
    if one.name is not None:
      raise InputError(f'{flag}={one.name}: --latents has no classes; name images by their rows, from 0')
    if max(one.indices) >= count:
      raise InputError(f'{flag}={max(one.indices)}: --latents has {count} rows, numbered from 0')


def _what(sampler: Sampler, wanted: Request, kind: str) -> str:
  """Returns a description of the picture."""
  if kind == 'walk':
    return f'{wanted.path or sampler.latents.path_kind} walk'
  method = wanted.directions or 'sefa'
  return {
    'direction': f'direction {wanted.direction} ({method})',
    'directions': f'directions ({method})',
  }.get(kind, kind)


def _write(target: Path, frames: Iterable[np.ndarray], timing: Timing | None) -> None:
  """Writes the frames as a moving picture, or the only one as a PNG.

  Raises:
    InputError: the file cannot be written.
  """
  if timing is not None:
    return writing.write(target, frames, timing)
  with files.output('out', target):
    pictures.save_png(target, next(iter(frames)))
