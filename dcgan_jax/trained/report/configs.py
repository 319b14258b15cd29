"""What is special about a config: its differences from a preset and from others, and the command for it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Values = Mapping[str, Any]  # by dotted name


class Difference(NamedTuple):
  """A key whose values differ, as text."""

  key: str
  values: tuple[str, ...]


def nearest(presets: Mapping[str, Values], values: Values) -> str:
  """Returns the name of the preset that a config differs least from, of the same data if there is one."""

  def distance(name: str) -> tuple[bool, int, str]:
    other = presets[name]
    same_data = other.get('data.source') == values['data.source']
    return not same_data, len(differences([other, values])), name

  return min(presets, key=distance)


def differences(configs: Sequence[Values]) -> list[Difference]:
  """Returns the keys in which configs differ, in the order of the last.

  A value that is missing is ''. A config without any is that of a damaged run: its values are 'unknown'.
  """
  keys = dict.fromkeys(key for values in reversed(configs) for key in values)
  return [
    Difference(key, tuple(text(values.get(key, '')) if values else 'unknown' for values in configs))
    for key in keys
    if len({text(values.get(key, '')) for values in configs if values}) > 1
  ]


def text(value: Any) -> str:
  """Returns a value as it can be given on the command line."""
  return str(value).replace(', ', ',') if isinstance(value, tuple) else str(value)


def command(preset: str, base: Values, values: Values, workdir: str) -> list[str]:
  """Returns the parts of the command that makes a run again, to be put in lines.

  Args:
    preset: name of the preset.
    base: its values.
    values: of the run.
    workdir: where the new run goes.
  """
  changes = [f'--config.{key}={new}' for key, (_, new) in differences([base, values])]
  return [
    'python main.py',
    *(shlex.quote(part) for part in (f'--config=configs/{preset}.py', *changes, f'--workdir={workdir}')),
  ]
