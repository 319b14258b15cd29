"""`--mode=walk`: the space of latents, as the paper looks at it (section 6): walks, arithmetic, a turn.

walk.png        rows of images between one latent and the next, and back to the first; or walk.gif, a loop
sheet.png       the images of a seed with their numbers, to choose from
arithmetic.png  mean(plus) - mean(minus) + mean(plus2), with neighbours
turn.png        images, and what becomes of them along a vector
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import cache, distributed, images, latents
from dcgan_jax.commands import exemplars, sample
from dcgan_jax.commands.exemplars import Exemplars
from dcgan_jax.errors import InputError

# What can be asked for, with the flags that it takes, and how many exemplars of a class each names.
KINDS: dict[str, dict[str, int]] = {
  'sheet': {},
  'arithmetic': {'plus': 3, 'minus': 3, 'plus2': 3},
  'turn': {'turn_from': 4, 'turn_to': 4, 'points': 8},
  'walk': {'points': 9},
}
STEPS = 10  # images of a walk's row, both ends included; frames of its leg
AMOUNTS = np.linspace(-1, 1, 9)  # of the turn vector
TILE = 64  # pixels, or so, that small images are enlarged to


def run(
  folder: Path,
  num: int | None,
  seed: int,
  checkpoint: str,
  out: str | None,
  sheet: bool,
  path: str | None,
  named: Mapping[str, str | None],
) -> None:
  """Draws one picture, and prints the flags by which it can be had again.

  Args:
    folder: the workdir of a run.
    num: of images on a sheet, None for 64; or among which to find a class, None for 1,000.
    seed: of the latents; image i of it is that of `--mode=sample`.
    checkpoint: 'last', 'best' or the number of a step.
    out: ending in .png, or in .gif for a walk; None for a .png named by what it shows.
    sheet: whether to draw the contact sheet.
    path: of a walk, 'spherical' | 'linear'; None for what suits the prior.
    named: what was given to points, plus, minus, plus2, turn_from and turn_to, see `exemplars.parse`. The
      three terms ask for arithmetic, the two ends for a turn, and neither for a walk.

  Raises:
    InputError: in one line, before anything is compiled, unless it is for want of exemplars.
  """
  given = {flag: text for flag, text in named.items() if text is not None}
  kind = _kind(sheet, path, given)
  target = _target(out, kind)
  asked = {flag: exemplars.parse(flag, text) for flag, text in given.items()}
  if 'points' in KINDS[kind] and 'points' not in asked:
    asked['points'] = Exemplars(tuple(range(KINDS[kind]['points'])))
  cache.keep_compiled_programs()
  sampler = sample.load(folder, checkpoint)
  chosen = exemplars.choose(asked, KINDS[kind], folder, sampler, num or 1000, seed)
  if kind == 'walk' and len(chosen['points'].indices) == 1:
    raise InputError(f'points={given["points"]}: is one image; a walk takes two or more')
  path = path or ('linear' if sampler.prior == 'uniform' else 'spherical')
  if kind == 'sheet':
    frames = [_draw_sheet(sampler.sample(num or 64, seed))]
  else:
    frames = _draw(kind, sampler, chosen, seed, path, moving=target.suffix == '.gif')
  if distributed.is_main():
    _write(target, frames)
  for flag, one in chosen.items():
    print(f'--{flag}={",".join(map(str, one.indices))}' + (f'  ({one.name})' if one.name else ''))
  how = f'{path} {kind}' if kind == 'walk' else kind
  print(f'{how} of step {sampler.step} of {folder}, seed {seed}, in {target}')


def _draw(
  kind: str, sampler: sample.Sampler, chosen: Mapping[str, Exemplars], seed: int, path: str, moving: bool
) -> list[np.ndarray]:
  """The frames of what is made of the chosen images: one, unless it moves."""
  key = jax.random.key(seed)
  z = {
    flag: latents.sample(key, jnp.array(one.indices), sampler.z_size, sampler.prior)
    for flag, one in chosen.items()
  }
  if kind == 'arithmetic':
    # a key that no image of the seed has
    return [_draw_arithmetic(sampler, chosen, z, jax.random.fold_in(key, 2**32 - 1))]
  if kind == 'turn':
    return [_draw_turn(sampler, z['points'], latents.turn(z['turn_from'], z['turn_to']))]
  return (_animate if moving else _draw_walk)(sampler, z['points'], path)


def _kind(sheet: bool, path: str | None, given: Mapping[str, str]) -> str:
  """What these flags ask for.

  Raises:
    InputError: some are missing, or do not go together.
  """
  terms, ends = KINDS['arithmetic'], ('turn_from', 'turn_to')
  kind = 'sheet' if sheet else 'arithmetic' if given.keys() & terms else 'walk'
  kind = 'turn' if kind == 'walk' and given.keys() & ends else kind
  flags = dict(given) | ({'path': path} if path else {})
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
  target = Path(out or f'{kind}.png')
  valid = ('.png', '.gif') if kind == 'walk' else ('.png',)
  if target.suffix not in valid:
    meaning = '.png (rows) or .gif (a loop)' if kind == 'walk' else f'.png, being a picture: {kind}.png'
    raise InputError(f'out={out}: must end in {meaning}')
  return target


def _make(sampler: sample.Sampler, z: Array) -> np.ndarray:
  """Latents [..., Z] -> uint8 [..., H, W, C]."""
  made = sampler.from_latents(z.reshape(-1, z.shape[-1]))
  return made.reshape(*z.shape[:-1], *made.shape[1:])


def _draw_sheet(made: np.ndarray) -> np.ndarray:
  return images.grid(images.captioned(images.zoom(made, TILE), [str(i) for i in range(len(made))]))


def _draw_walk(sampler: sample.Sampler, points: Array, path: str) -> list[np.ndarray]:
  """A row for each leg; it ends with the image that the next begins with."""
  made = _make(sampler, latents.path(points, jnp.linspace(0, 1, STEPS), path))
  return [images.grid(images.zoom(np.concatenate(made), TILE), columns=STEPS)]


def _animate(sampler: sample.Sampler, points: Array, path: str) -> list[np.ndarray]:
  """As many images as there are points, all on the same closed way, each a leg ahead of the one before."""
  legs = latents.path(points, jnp.arange(STEPS) / STEPS, path)
  made = images.zoom(_make(sampler, legs.reshape(-1, legs.shape[-1])), TILE)
  starts = STEPS * np.arange(len(points))
  return [images.grid(made[(starts + i) % len(made)]) for i in range(len(made))]


def _draw_arithmetic(
  sampler: sample.Sampler, chosen: Mapping[str, Exemplars], z: Mapping[str, Array], key: Array
) -> np.ndarray:
  """The paper's figure 7: columns of exemplars over the image of their mean; the result among neighbours."""
  result = latents.arithmetic(z['plus'], z['minus'], z['plus2'])
  around = latents.neighbours(key, result)
  pieces = []
  for flag, sign in (('plus', '-'), ('minus', '+'), ('plus2', '=')):
    mean = z[flag].mean(0, keepdims=True)
    tiles = images.zoom(_make(sampler, jnp.concatenate([z[flag], mean])), TILE)
    column = images.grid(images.captioned(tiles, [*map(str, chosen[flag].indices), 'mean']), columns=1)
    pieces.append(images.headed(column, [chosen[flag].name or '']))
    _, height, width, channels = tiles.shape
    between = images.text(sign, height, width // 2, channels, size=24)
    pieces.append(images.grid(images.captioned(between[None], [''])))
  block = _make(sampler, jnp.concatenate([around[:4], result[None], around[4:]]))
  block = images.grid(images.zoom(block, TILE))
  caption = images.text('result, and neighbours', 16, block.shape[1], block.shape[2])
  return images.beside([*pieces, np.concatenate([block, caption])])


def _draw_turn(sampler: sample.Sampler, points: Array, vector: Array) -> np.ndarray:
  """A row for each image, which is in the middle; to the right with more and more of the vector added."""
  amounts = jnp.asarray(AMOUNTS, jnp.float32)
  made = _make(sampler, points[:, None] + amounts[:, None] * vector)
  picture = images.grid(images.zoom(np.concatenate(made), TILE), columns=len(AMOUNTS))
  return images.headed(picture, [f'{amount:+g}' if amount else '0' for amount in AMOUNTS])


def _write(target: Path, frames: list[np.ndarray]) -> None:
  try:
    if target.suffix == '.gif':
      images.save_gif(target, frames, most=len(frames), hold=100)
    else:
      images.save_png(target, frames[0])
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}') from error
