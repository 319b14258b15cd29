"""Writes configs_and_keys.md from the table of settings and the presets.

python -m docs.configs_and_keys
"""

import dataclasses
import importlib
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcgan_jax import settings
from dcgan_jax.settings import Settings
from dcgan_jax.settings.rules import FLAG

PAGE = Path(__file__).with_suffix('.md')
WIDTH = 120
DEFAULTS = settings.flat(dataclasses.asdict(Settings()))
HEAD = """\
# Configs and keys

Look up every key of a config, and what each preset sets. `--config.KEY=VALUE` sets a key, as in
`--config.train.batch_size=64` or `--config.generator.widths='(256,128,64)'`.
[training.md](training.md#keys-that-matter) says which keys matter.

`python -m docs.configs_and_keys` writes this page from `dcgan_jax/settings/table.py` and `configs/`.

## Keys

Each key is shown with its default. `--mode=train --help` prints the same list.
"""


def page() -> str:
  """Returns the content of the page."""
  return '\n'.join([HEAD, *_keys(), *_presets(), ''])


def _keys() -> Iterator[str]:
  """Yields the lines about all keys. Sections of one kind, such as both networks, are listed together."""
  sections = [field for field in dataclasses.fields(Settings) if dataclasses.is_dataclass(field.type)]
  yield from _wrap(f'When a run is resumed, these may change: {", ".join(_free(sections))}.')
  yield ''
  yield from _key(['seed'], Settings.__dataclass_fields__['seed'])
  for _, alike in itertools.groupby(sections, key=_kind):
    group = list(alike)
    yield f'\n### {", ".join(f"`{section.name}`" for section in group)}\n'
    fields = {f'{section.name}.{key.name}': key for section in group for key in _fields(section)}
    found: dict[tuple[str, str], list[str]] = {}
    for name, key in fields.items():
      found.setdefault((key.name, key.metadata['help']), []).append(name)
    for names in found.values():
      yield from _key(names, fields[names[0]])


def _fields(section: Any) -> tuple[dataclasses.Field, ...]:
  """Returns the keys of a section."""
  return dataclasses.fields(section.type)


def _kind(section: Any) -> type:
  """Returns the class that sections of one kind have in common."""
  return section.type.__mro__[-2]


def _free(sections: list[Any]) -> Iterator[str]:
  """Yields the keys that may change in a resumed run, or their section if all of it may."""
  for section in sections:
    free = [f'`{section.name}.{key.name}`' for key in _fields(section) if key.metadata['free']]
    yield from free if len(free) < len(_fields(section)) else [f'all of `{section.name}`']


def _key(names: list[str], field: dataclasses.Field) -> Iterator[str]:
  """Yields the lines about a key, or about one that several sections have."""
  values = ', '.join(f'`{name}={_value(DEFAULTS[name])}`' for name in names)
  choices = field.metadata['rule'].choices
  text = re.sub('--[a-z_]+', r'`\g<0>`', field.metadata['help'])
  if choices == FLAG.choices or not choices.startswith('choose '):  # The help says what other choices mean.
    allowed = re.sub(
      '^(choose|must be|must) |( and below 2..3[12]|,? within the range of float32)$', '', choices
    )
    text += f'. *{allowed[0].upper()}{allowed[1:]}.*'
  yield from _wrap(f'- {values}: {text}')


def _presets() -> Iterator[str]:
  """Yields the lines about all presets."""
  yield '\n## Configs\n'
  yield 'What each preset sets differently from `configs/base.py`, which has the defaults above.'
  for name, values in settings.presets().items():
    if name == 'base':
      continue
    about = (importlib.import_module(f'configs.{name}').__doc__ or '').splitlines()[0]
    yield f'\n### `{name}`\n'
    yield from _wrap(f'{about} ([configs/{name}.py](../configs/{name}.py))')
    yield ''
    changed = [key for key in DEFAULTS if values[key] != DEFAULTS[key]]
    for section, keys in itertools.groupby(changed, key=lambda key: key.rpartition('.')[0]):
      inside = [f'`{key.rpartition(".")[2]}={_value(values[key])}`' for key in keys]
      yield from _wrap(f'- `{section}`: {", ".join(inside)}')


def _value(value: Any) -> str:
  """Returns a value as a flag takes it, without spaces, at which it could be wrapped."""
  return value if isinstance(value, str) else repr(value).replace(' ', '')


def _wrap(text: str) -> list[str]:
  """Returns the lines of a paragraph, or of an item of a list."""
  indent = '  ' if text.startswith('- ') else ''
  return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == '__main__':
  PAGE.write_text(page())
