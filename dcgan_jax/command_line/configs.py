"""Loads configs from Python files; an error in one is reported in one line, with its line number."""

import traceback
import types
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import tuple_parser

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.settings.presets import CONFIGS

MOST_BYTES = 2**20  # size limit of a config or flag file


class ConfigFile(flags.ArgumentParser):
  """The parser of --config."""

  def parse(self, argument: str) -> ConfigDict:
    """Returns the config of a file; see `load`."""
    return load(argument)

  def flag_type(self) -> str:
    """Returns the key of this type in `parsing.KINDS`."""
    return 'config_file'


class Numbers(flags.ArgumentParser):
  """The parser of a key that is a tuple, of which the last value counts as of any other key.

  ml_collections' own is no base of it, because a key parsed by that joins its values: 16 and 8 to (16, 8).
  """

  def parse(self, argument: Any) -> tuple[Any, ...]:
    """Returns the tuple that a text is, as Python writes it; a single value is a tuple of one."""
    value: tuple[Any, ...] = tuple_parser.TupleParser().parse(argument)
    return value


def load(path: str) -> ConfigDict:
  """Returns the locked result of a file's `get_config()`.

  Args:
    path: FILE; or FILE:ARG, which calls `get_config(ARG)`.

  Raises:
    InputError: The file is missing, raises an error or does not return a ConfigDict.
  """
  file, arguments = split(path)
  try:
    content = files.read_bytes(file, MOST_BYTES)
  except FileNotFoundError as error:
    raise InputError(f'--config={path}: no such file; {known()}') from error
  except OSError as error:
    raise InputError(f'--config={path}: {error.strerror}; give a regular file') from error
  module = types.ModuleType('config_file')
  module.__file__ = str(file)
  try:
    exec(compile(content, str(file), 'exec'), module.__dict__)
    config = module.get_config(*arguments)
  except (Exception, SystemExit) as error:  # A user's file may raise anything.
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise InputError(f'--config={path}: {_line(error, str(file))}{text.removesuffix(":")}') from error
  if not isinstance(config, ConfigDict):
    raise InputError(
      f'--config={path}: get_config() returns {type(config).__name__}; let it return a ConfigDict, as in '
      'configs/digits.py'
    )
  return config.lock()


def split(path: str) -> tuple[Path, list[str]]:
  """Splits a value of --config into the file and the arguments of its `get_config`, one or none.

  Raises:
    InputError: The path is invalid.
  """
  file = files.named('--config', path)
  name, colon, argument = path.rpartition(':')
  return (files.named('--config', name), [argument]) if colon and not file.exists() else (file, [])


def _line(error: BaseException, path: str) -> str:
  """Returns 'line N: ' for the line of a file that raised an error; '' if none did."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
  if isinstance(error, SyntaxError) and error.filename == path:
    lines.append(error.lineno)
  return f'line {lines[-1]}: ' if lines else ''


def known() -> str:
  """Returns a list of the presets for an error."""
  names = sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem not in ('base', '__init__'))
  return f'choose --config=configs/NAME.py, NAME one of {", ".join(names)}'
