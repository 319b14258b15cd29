"""Opens a generator in the workdir of a run, in a folder for the Hub, or on the Hub."""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from dcgan_jax import files, settings
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.settings import Settings
from dcgan_jax.trained.interop import safetensors

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
LIBRARY = 'dcgan_jax'  # library_name in config.json
FORMAT = 1  # version of the folder's format
HUB = 'hf://'
SPARE_BYTES = 2**24  # of a file of weights for names and metadata


class Model(NamedTuple):
  """The content of config.json.

  Attributes:
    settings: Settings of its training.
    step: Training step.
    classes: Class names; () if the generator is unconditional.
    statistics: Batch-norm statistics in the file: 'stored' | 'population'.
    counts: Training images of each class; () where they are unknown.
  """

  settings: Settings
  step: int
  classes: tuple[str, ...]
  statistics: str
  counts: tuple[int, ...] = ()

  def to_json(self) -> dict[str, Any]:
    """Returns it as JSON."""
    return {
      'library_name': LIBRARY,
      'format': FORMAT,
      'step': self.step,
      'classes': list(self.classes),
      'counts': list(self.counts),
      'statistics': self.statistics,
      'settings': dataclasses.asdict(self.settings),
    }


def load(folder: str | Path, checkpoint: str | int = 'last') -> sampling.Sampler:
  """Opens a trained generator.

  Args:
    folder: The workdir of a run; or a folder that `--mode=export --format=hub` has written; or
      'hf://OWNER/NAME', such a folder on the Hugging Face Hub, which is downloaded once.
    checkpoint: Checkpoint of a run: 'last', 'best' by score, or a step. A folder for the Hub has only one.

  Raises:
    InputError: in one line; there is no such generator, or what is there is damaged.
  """
  text = str(folder)
  path = _download(text.removeprefix(HUB)) if text.startswith(HUB) else Path(folder)
  if not text.startswith(HUB) and not is_ours(path):
    return sampling.open_sampler(path, checkpoint)
  if checkpoint != 'last':
    raise InputError(f'checkpoint={checkpoint}: {text} has a single step; leave the checkpoint out')
  return _open(path)


def is_ours(folder: Path) -> bool:
  """Returns whether a folder is one for the Hub, sound or damaged, and not the workdir of a run."""
  try:
    content = files.read_json(folder / CONFIG)
  except InputError:
    return (folder / WEIGHTS).exists()
  return (folder / WEIGHTS).exists() or (isinstance(content, dict) and 'library_name' in content)


def _open(folder: Path) -> sampling.Sampler:
  """Returns the generator of a folder for the Hub."""
  model = _read_config(folder / CONFIG)
  built = experiment.build(model.settings, model.counts)
  shapes = built.shapes
  networks = shapes.generator.variables, shapes.discriminator.variables
  numbers = sum(leaf.size for leaf in jax.tree.leaves(networks))
  variables = _read_weights(folder / WEIGHTS, shapes.generator.variables, numbers)
  return sampling.Sampler(built.gan, variables, model.step, model.classes)


def _read_config(path: Path) -> Model:
  """Reads config.json.

  Raises:
    InputError: it is not ours, or cannot be read.
  """
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
    raise InputError(f'{path}: has no section "settings"; copy it from where it was made') from error
  step, names = content.get('step'), content.get('classes')
  if type(step) is not int or not 0 <= step < 2**31:
    raise InputError(f'{path}: step={step!r}: must be a whole number; copy it from where it was made')
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise InputError(f'{path}: has no list "classes" of names; copy it from where it was made')
  if names and len(names) != chosen.data.classes:
    raise InputError(f'{path}: has the names of {len(names)} classes, and data.classes={chosen.data.classes}')
  counts = workdir.checked_counts(path, content, names)
  return Model(chosen, step, tuple(names), str(content.get('statistics')), counts)


def _read_weights(path: Path, shapes: Any, numbers: int) -> Any:
  """Reads the generator's variables from a file of safetensors.

  Args:
    path: Path of the file.
    shapes: Shapes of the generator's variables.
    numbers: Parameters and statistics of both networks, since the file has the discriminator, too.

  Raises:
    InputError: the file is damaged, or of another generator.
  """
  library = safetensors.library(f'{path}')
  try:
    arrays = library.load(files.read_bytes(path, SPARE_BYTES + 8 * numbers))  # twice what is needed
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror or error}') from error
  except Exception as error:  # its own kind for a damaged header, others for unknown types
    raise InputError(f'{path}: is damaged or no file of safetensors: {error}') from error
  flat = {}
  for name, leaf in traverse_util.flatten_dict(shapes, keep_empty_nodes=True, sep='.').items():
    if leaf is traverse_util.empty_node:
      flat[name] = leaf
      continue
    array = arrays.get(f'generator.{name}')
    if array is None or array.shape != leaf.shape or array.dtype != np.float32:
      found = 'is missing' if array is None else f'is {array.dtype} {array.shape}'
      raise InputError(
        f'{path}: generator.{name} {found}; by {CONFIG} it is float32 {leaf.shape}; the two are not '
        'of the same model'
      )
    if not math.isfinite(float(np.abs(array).max(initial=0))):
      raise InputError(
        f'{path}: generator.{name} has numbers that are not finite; copy it from where it was made'
      )
    flat[name] = array
  return traverse_util.unflatten_dict(flat, sep='.')


def _download(name: str) -> Path:
  """Returns the local folder of a model on the Hugging Face Hub, downloaded at the first use.

  Args:
    name: OWNER/NAME.

  Raises:
    InputError: there is no such model, or it cannot be downloaded.
  """
  field = f'{HUB}{name}'
  if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
    raise InputError(f'{field}: must be {HUB}OWNER/NAME, as in the address of the model')
  if importlib.util.find_spec('huggingface_hub') is None:
    raise InputError(f"{field}: needs the package huggingface_hub; pip install -e '.[hub]'")
  import huggingface_hub

  try:
    found = huggingface_hub.snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS])
  except Exception as error:  # of the package and of its network libraries
    said = str(error).strip().partition('\n')[0] or type(error).__name__
    raise InputError(f'{field}: cannot be downloaded: {said}') from error
  return Path(found)
