"""Declarations of the table's keys and the rules for their values."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
  """What a value must be: a predicate, and how to say it in an error.

  Attributes:
    holds: The predicate.
    choices: Valid values, in words.
    retired: Values that the config.json of an earlier run may still have.
  """

  holds: Callable[[Any], bool]
  choices: str
  retired: tuple[Any, ...] = ()


def key(default: Any, rule: Rule, help: str, free: bool = False) -> Any:
  """Declares one key.

  Args:
    default: Default value.
    rule: Rule for valid values.
    help: One line of help with the unit and the choices.
    free: Whether the key may change when a run is resumed. All other keys affect what is learned.
  """
  return dataclasses.field(default=default, metadata={'rule': rule, 'help': help, 'free': free})


def section(kind: type, **defaults: Any) -> Any:
  """Declares a section of keys; `defaults` override those of its class."""
  return dataclasses.field(default_factory=lambda: kind(**defaults))


def one_of(*choices: Any, retired: tuple[Any, ...] = ()) -> Rule:
  """Returns the rule of a value that is one of a few."""
  return Rule(lambda v: v in choices, 'choose ' + ' or '.join(str(c) for c in choices), retired)


def all_of(item: Callable[[Any], bool], text: str) -> Rule:
  """Returns the rule for a non-empty tuple whose items all pass."""
  return Rule(lambda v: len(v) > 0 and all(item(x) for x in v), text)


def _is_int(value: Any, least: int, most: int = 2**31 - 1) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def whole(least: int) -> Rule:
  """Returns the rule for an integer of at least `least` that fits int32."""
  return Rule(lambda v: _is_int(v, least), f'must be a whole number, at least {least} and below 2**31')


MOST_PIXELS = 2**13  # per side of an image
MOST_CHANNELS = 64
# Dtypes of images, with the range of the integer ones.
DTYPES: dict[str, tuple[int, ...]] = {
  'uint8': (0, 255),
  'int8': (-128, 127),
  'uint16': (0, 65_535),
  'int16': (-32_768, 32_767),
  'float16': (),
  'float32': (),
  'float64': (),
}
CLASSES = Rule(
  lambda v: v == 0 or 2 <= v <= 10_000, 'must be a whole number, from 2 to 10,000, or 0 for none'
)
SEED = Rule(lambda v: 0 <= v < 2**32, 'must be a whole number, at least 0 and below 2**32')
NATURAL = whole(0)
COUNT = whole(1)
HUNDREDS = whole(100)
POSITIVE = Rule(lambda v: 0 < v < 3e38, 'must be a number above 0 within the range of float32')
NOT_NEGATIVE = Rule(lambda v: 0 <= v < 3e38, 'must be a number, at least 0, within the range of float32')
FRACTION = Rule(lambda v: 0 <= v < 1, 'must be a number, at least 0 and below 1')
BELOW_HALF = Rule(lambda v: 0 <= v < 0.5, 'must be a number, at least 0 and below 0.5')
REAL_LABEL = Rule(lambda v: 0.5 < v <= 1, 'must be a number above 0.5 and at most 1')
FLAG = Rule(lambda v: isinstance(v, bool), 'choose True or False')
COUNTS = all_of(lambda x: _is_int(x, 1), 'must be whole numbers, at least 1, one per layer')
UNITS = Rule(
  lambda v: isinstance(v, tuple) and all(_is_int(x, 1) for x in v),
  'must be whole numbers, at least 1, one per layer, or () for none',
)
FLAGS = all_of(lambda x: isinstance(x, bool), 'must be True or False, one per layer')
AUGMENT = Rule(
  lambda v: set(v.split(',')) <= {'', 'color', 'translation', 'cutout'},
  'choose any of color, translation, cutout, separated by commas, or nothing',
)
SPLIT = Rule(bool, 'must name a split, e.g. train')
PATH = Rule(lambda v: isinstance(v, str), 'must be a path, or empty for the file in the cache')
SOURCE = Rule(
  lambda v: re.fullmatch('(stacked:)?(digits|(tfds|folder):.+)|npy:.+', v) is not None,
  'choose digits, tfds:NAME or folder:PATH (like folder:~/pictures), or stacked: before one of them, '
  'or npy:PATH',
)
IMAGE_SIZE = Rule(
  lambda v: len(v) in (1, 2) and all(_is_int(x, 1, MOST_PIXELS) for x in v),
  f"must be height and width in pixels, e.g. '(64, 64)', or one number for a square, up to {MOST_PIXELS}",
)
CHANNELS = Rule(
  lambda v: _is_int(v, 1, MOST_CHANNELS),
  f'must be 1 (gray), 3 (RGB) or 4 (RGBA), or for npy:PATH any whole number up to {MOST_CHANNELS}',
)
COLOUR = Rule(
  lambda v: len(v) == 3 and all(_is_int(x, 0) and x <= 255 for x in v),
  "must be red, green and blue from 0 to 255, e.g. '(255, 255, 255)'",
)
VALUE_RANGE = Rule(
  lambda v: v == () or (isinstance(v, tuple) and len(v) == 2 and _is_range(*v)),
  "must be the lowest and the highest number, distinguishable in float32, e.g. '(0.0, 1.0)', or () for all "
  'numbers of an integer data.dtype',
)


def _is_range(low: Any, high: Any) -> bool:
  """Returns whether a range is finite and wide enough for float32 to resolve."""
  if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in (low, high)):
    return False
  return low < high and high - low < 3e38 and (high - low) * 2**16 >= max(abs(low), abs(high))
