"""What a user asks `--mode=walk` for, and which kind of picture that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace
from dcgan_jax.media.pace import Pace

# What can be asked for, with the flags that it takes, and how many exemplars of a class each names.
KINDS: dict[str, dict[str, int]] = {
  'sheet': {},
  'arithmetic': {'plus': 3, 'minus': 3, 'plus2': 3},
  'turn': {'turn_from': 4, 'turn_to': 4, 'points': 8},
  'classes': {'points': 8},
  'direction': {'points': 8},
  'directions': {'points': 3},
  'walk': {'points': 9},
}
# Flags that some of them take and that name no images.
CHOICES = {
  'walk': ('path',),
  'classes': ('class',),
  'direction': ('directions', 'direction'),
  'directions': ('directions',),
}
MOVES = ('walk', 'classes', 'turn', 'direction')


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
    directions: how directions are found, 'sefa' | 'ganspace'; alone it asks for the sheet of them.
    direction: number of one of them, from 1, to move images along; by 'sefa' unless `directions` says else.
    latents_file: .npy with float [N, width]; image i is then that of row i. None for random latents.
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
    """Returns the texts that were given, by flag."""
    return {flag: text for flag, text in self.named.items() if text is not None}

  @property
  def choices(self) -> dict[str, str]:
    """Returns the values of the flags that name no images, by flag, if they were given."""
    values: dict[str, str | int | None] = {'path': self.path, 'class': self.classes}
    values |= {'directions': self.directions, 'direction': self.direction}
    return {flag: str(value) for flag, value in values.items() if value is not None}


def kind(asked: Asked) -> str:
  """Returns which of `KINDS` is asked for.

  Raises:
    InputError: flags are missing, or do not go together.
  """
  flags = asked.given | asked.choices
  if asked.sheet:
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
    InputError: its suffix is not one that this kind of picture can have.
  """
  path = files.to_be_written('out', out or f'{kind}.png')
  moves = kind in MOVES
  if path.suffix != '.png' and not (moves and path.suffix in pace.SUFFIXES):
    loops = '.png (rows) or in .gif, .webp or .mp4 (a loop)'
    meaning = loops if moves else f'.png, being a picture: {kind}.png'
    raise InputError(f'out={out}: must end in {meaning}')
  return path
