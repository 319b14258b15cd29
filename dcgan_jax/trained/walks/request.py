"""A request for `--mode=walk`, and the kind of picture that it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace
from dcgan_jax.media.pace import Pace

# The kinds of pictures, each with its flags for images and the number of exemplars of a class for each flag.
KINDS: dict[str, dict[str, int]] = {
  'sheet': {},
  'arithmetic': {'plus': 3, 'minus': 3, 'plus2': 3},
  'turn': {'turn_from': 4, 'turn_to': 4, 'points': 8},
  'classes': {'points': 8},
  'direction': {'points': 8},
  'directions': {'points': 3},
  'walk': {'points': 9},
}
# The other flags of a kind.
CHOICES = {
  'walk': ('path',),
  'classes': ('class',),
  'direction': ('directions', 'direction'),
  'directions': ('directions',),
}
MOVES = ('walk', 'classes', 'turn', 'direction')


@dataclass(frozen=True)
class Request:
  """The flags of a picture.

  Attributes:
    sheet: Whether to draw the contact sheet.
    path: Kind of path of a walk, 'spherical' | 'linear'; None for the one that suits the prior.
    classes: Comma-separated names of classes to walk between, or 'all'; None for no such walk.
    named: Values of the flags points, plus, minus, plus2, turn_from and turn_to, see `exemplars.parse`; None
      for flags that are not given. The three terms mean arithmetic, the two ends a turn, neither a walk.
    pace: Pace of a moving picture.
    directions: Method that finds directions, 'sefa' | 'ganspace'; alone it means the sheet of them.
    direction: Number of a direction, from 1, to move images along; of 'sefa' by default.
    latents_file: .npy of latents, float [N, width], of which image i is row i; None for random latents.
  """

  sheet: bool
  path: str | None
  classes: str | None
  named: Mapping[str, str | None]
  pace: Pace
  directions: str | None = None
  direction: int | None = None
  latents_file: str | None = None

  @property
  def given(self) -> dict[str, str]:
    """The values of the given flags that name images."""
    return {flag: text for flag, text in self.named.items() if text is not None}

  @property
  def choices(self) -> dict[str, str]:
    """The values of the other given flags."""
    values: dict[str, str | int | None] = {'path': self.path, 'class': self.classes}
    values |= {'directions': self.directions, 'direction': self.direction}
    return {flag: str(value) for flag, value in values.items() if value is not None}


def kind(request: Request) -> str:
  """Returns the key of `KINDS` for a request.

  Raises:
    InputError: flags are missing, or do not go together.
  """
  flags = request.given | request.choices
  if request.sheet:
    found = 'sheet'
  elif flags.keys() & KINDS['arithmetic']:
    found = 'arithmetic'
  elif flags.keys() & {'turn_from', 'turn_to'}:
    found = 'turn'
  else:
    asking = {'class': 'classes', 'direction': 'direction', 'directions': 'directions'}
    found = next((name for flag, name in asking.items() if flag in flags), 'walk')
  taken = [*KINDS[found], *CHOICES.get(found, ())]
  wanted = ', '.join(f'--{name}' for name in taken) or 'no flag that names images'
  for flag, text in flags.items():
    if flag not in taken:
      raise InputError(f'{flag}={text}: does not go with the rest; {found} takes {wanted}')
  missing = [f'--{flag}' for flag in KINDS[found] if flag not in flags and flag != 'points']
  if missing:
    raise InputError(
      f'{" and ".join(missing)} missing: {found} takes {wanted}: numbers of images, or a class'
    )
  return found


def target(out: str | None, kind: str) -> Path:
  """Returns the path of the picture.

  Raises:
    InputError: its suffix does not suit this kind of picture.
  """
  path = files.to_be_written('out', out or f'{kind}.png')
  moves = kind in MOVES
  if path.suffix != '.png' and not (moves and path.suffix in pace.SUFFIXES):
    loops = '.png (rows) or in .gif, .webp or .mp4 (a loop)'
    meaning = loops if moves else f'.png, being a picture: {kind}.png'
    raise InputError(f'out={out}: must end in {meaning}')
  return path
