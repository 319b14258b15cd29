"""The folder of a trained generator, as `--mode=export --format=hub` writes it, and its config.json.

config.json           settings, step, classes and batch-norm statistics
model.safetensors     arrays of G and, unless it was left out, of D
README.md grid.png    the model card and its picture

Modes that read a run take such a folder, too, and write nothing to it.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcgan_jax import files, settings
from dcgan_jax.errors import InputError
from dcgan_jax.settings import Settings

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
LIBRARY = 'dcgan_jax'  # library_name in config.json
FORMAT = 1  # version of the folder's format
NETWORKS = ('generator', 'discriminator')


class Model(NamedTuple):
  """The content of config.json.

  Attributes:
    settings: Settings of its training.
    step: Training step.
    classes: Class names; () if the generator is unconditional.
    statistics: Batch-norm statistics in the file: 'stored' | 'population'.
    counts: Training images of each class; () where they are unknown.
    networks: Networks in the file: the generator, alone or with the discriminator.
  """

  settings: Settings
  step: int
  classes: tuple[str, ...]
  statistics: str
  counts: tuple[int, ...] = ()
  networks: tuple[str, ...] = NETWORKS

  def to_json(self) -> dict[str, Any]:
    """Returns it as JSON."""
    return {
      'library_name': LIBRARY,
      'format': FORMAT,
      'step': self.step,
      'classes': list(self.classes),
      'counts': list(self.counts),
      'statistics': self.statistics,
      **({} if self.networks == NETWORKS else {'networks': list(self.networks)}),
      'settings': dataclasses.asdict(self.settings),
    }


def is_ours(folder: Path) -> bool:
  """Returns whether a folder is that of a trained generator, sound or damaged, and not that of a run."""
  content = None
  if files.exists(folder / CONFIG):
    with contextlib.suppress(InputError):
      content = files.read_json(folder / CONFIG)
  if isinstance(content, dict) and 'library_name' in content:
    return True
  # A run may have a file of this name, too, which a user has exported to its workdir.
  return files.exists(folder / WEIGHTS) and not files.exists(folder / 'checkpoints')


def read(folder: Path) -> Model:
  """Reads config.json.

  Raises:
    InputError: it is not ours, or cannot be read.
  """
  path = folder / CONFIG
  content = files.read_json(path)
  if not isinstance(content, Mapping) or content.get('library_name') != LIBRARY:
    raise InputError(
      f'{path}: is not of dcgan_jax; take a folder that --mode=export --format=hub has written'
    )
  if content.get('format') != FORMAT:
    raise InputError(
      f'{path}: format={content.get("format")!r}; this version of dcgan_jax reads format={FORMAT}; update it'
    )
  try:
    chosen = settings.from_dict(content['settings'])
  except InputError as error:
    raise InputError(f'{path}: settings: {error}') from error
  except (KeyError, AttributeError) as error:
    raise InputError(f'{path}: has no section "settings"; copy the file again from the original') from error
  step, names = content.get('step'), content.get('classes')
  if type(step) is not int or not 0 <= step < 2**31:
    raise InputError(f'{path}: step={step!r}: must be a whole number; copy the file again from the original')
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise InputError(f'{path}: has no list "classes" of names; copy the file again from the original')
  if names and len(names) != chosen.data.classes:
    raise InputError(f'{path}: has the names of {len(names)} classes, and data.classes={chosen.data.classes}')
  counts = checked_counts(path, content, names)
  networks = NETWORKS[:1] if content.get('networks') == ['generator'] else NETWORKS
  # A generator samples with the statistics that it came with.
  statistics = 'population' if content.get('statistics') == 'population' else 'stored'
  chosen = dataclasses.replace(chosen, sample=dataclasses.replace(chosen.sample, statistics=statistics))
  return Model(chosen, step, tuple(names), statistics, counts, networks)


def checked_counts(path: Path, content: Mapping[str, Any], names: Sequence[str]) -> tuple[int, ...]:
  """Returns the entry 'counts' of a file, the number of images of each class; () if it has none.

  Args:
    path: The file, for the error message.
    content: Its content.
    names: Class names.

  Raises:
    InputError: The entry is not such numbers.
  """
  counts = content.get('counts', [])
  known = isinstance(counts, list) and all(type(count) is int and 0 <= count < 2**31 for count in counts)
  if not known or (counts and (len(counts) != len(names) or not any(counts))):
    raise InputError(
      f'{path}: "counts" must be the number of images of each of the {len(names)} classes; copy the file '
      'again from the original'
    )
  return tuple(counts)
