"""Flags shared by several modes, and the config and workdir that they select."""

import re
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from dcgan_jax import files, settings
from dcgan_jax.command_line import configs
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace
from dcgan_jax.media.pace import Pace
from dcgan_jax.records import workdir
from dcgan_jax.records.workdir import Origin
from dcgan_jax.settings import Settings
from dcgan_jax.settings.presets import CONFIGS

MOST_IMAGES = 10_000_000  # limit of --num; all images are in memory


def define_config(into: flags.FlagValues) -> None:
  """Declares --config and --config.KEY=VALUE."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'Config file, e.g. of configs/; --config.KEY=VALUE overrides a key. FILE:ARG calls its get_config(ARG).',
    flag_values=into,
  )
  into['config'].parser = configs.ConfigFile()
  config_flags.register_flag_parser_for_type(tuple, configs.Numbers())


def define_workdir(
  into: flags.FlagValues, help: str = 'Folder of the run, or of a trained generator.'
) -> None:
  """Declares --workdir."""
  flags.DEFINE(_Folder(), 'workdir', None, help, flag_values=into)


class _Folder(flags.ArgumentParser):
  """The parser of --workdir."""

  def parse(self, argument: str) -> str:
    """Returns the value unchanged.

    Raises:
      ValueError: The value is blank, like an unset shell variable.
    """
    if not argument.strip():
      raise ValueError('is empty; give a folder, e.g. --workdir=runs/digits')
    return argument


def define_checkpoint(into: flags.FlagValues) -> None:
  """Declares --checkpoint."""
  flags.DEFINE(
    _Checkpoint(),
    'checkpoint',
    'last',
    'Checkpoint to use: last, best (by score) or a step.',
    flag_values=into,
  )


class _Checkpoint(flags.ArgumentParser):
  """The parser of --checkpoint."""

  syntactic_help = 'last, best or a step'

  def parse(self, argument: str) -> str:
    """Returns the value unchanged.

    Raises:
      ValueError: The value is not one of the choices.
    """
    if argument not in ('last', 'best') and not re.fullmatch('[0-9]{1,18}', argument):
      raise ValueError('choose last, best or the number of a step')
    return argument


def define_seed(into: flags.FlagValues) -> None:
  """Declares --seed."""
  flags.DEFINE_integer(
    'seed', 0, 'Seed of the latents.', lower_bound=0, upper_bound=2**32 - 1, flag_values=into
  )


def define_num(into: flags.FlagValues, default: int | None, help: str) -> None:
  """Declares --num, the number of images."""
  parser = flags.IntegerParser(lower_bound=1, upper_bound=MOST_IMAGES)
  parser.syntactic_help = f'a positive integer, {MOST_IMAGES:,} at most'
  flags.DEFINE(parser, 'num', default, help, flag_values=into)


def define_images(into: flags.FlagValues, what: str) -> None:
  """Declares --images; `what` describes their purpose."""
  flags.DEFINE_string(
    'images',
    None,
    f'{what}: a folder, a picture, an .npy or .npz, or tfds:NAME[:SPLIT], by default the split test.',
    flag_values=into,
  )


def define_statistics(into: flags.FlagValues) -> None:
  """Declares --statistics."""
  flags.DEFINE_enum(
    'statistics',
    None,
    ['stored', 'batch', 'population'],
    'Batch-norm statistics: stored (from training), batch (of each 64 images) or population (of 10,000 '
    "latents); by default the run's sample.statistics.",
    flag_values=into,
  )


def define_pace(into: flags.FlagValues, default: str) -> None:
  """Declares --seconds, --fps and --size of a moving picture.

  Args:
    into: Flags of a mode.
    default: Default duration, in words.
  """
  flags.DEFINE_float(
    'seconds', None, f'Seconds of a moving picture, {pace.SECONDS[1]} at most; {default}.', flag_values=into
  )
  flags.DEFINE_integer(
    'fps',
    None,
    f'Frames per second, {pace.FPS[1]} at most; by default 30, or 10 for a .gif.',
    flag_values=into,
  )
  flags.DEFINE_integer(
    'size',
    None,
    f'Longer side of a moving picture in pixels, {pace.SIZES[1]} at most; by default 720 for an .mp4, 512 '
    'for a .webp, and unscaled for a .gif.',
    flag_values=into,
  )


def asked_pace(values: flags.FlagValues, out: str | None) -> Pace:
  """Returns the values of the flags of `define_pace`.

  Raises:
    InputError: as `pace.check_moving`.
  """
  asked = Pace(values.seconds, values.fps, values.size)
  pace.check_moving(asked, out)
  return asked


def required(values: flags.FlagValues, mode: str, name: str) -> str:
  """Returns the value of a required flag.

  Raises:
    InputError: The flag is missing.
  """
  value = values[name].value
  if not value:
    raise InputError(f'--{name} is missing, which --mode={mode} needs: {values[name].help}')
  return value


def folder(values: flags.FlagValues) -> Path:
  """Returns the workdir, by default runs/NAME for configs/NAME.py.

  Raises:
    InputError: Neither --workdir nor --config is given.
  """
  if values.workdir is not None:
    return files.named('workdir', values.workdir)
  if 'config' not in values or values.config is None:
    raise InputError('--workdir is missing: give the folder of a run, e.g. --workdir=runs/digits')
  return Path('runs') / configs.split(config_flags.get_config_filename(values['config']))[0].stem


def check_run(folder: Path) -> None:
  """Refuses a folder without a run before a mode's slow imports.

  Raises:
    InputError: The folder has no run, or its config is broken.
  """
  workdir.read_settings(folder)


def origin(values: flags.FlagValues) -> Origin | None:
  """Returns the checkpoint to initialise from, given by --init_from; None without it.

  Raises:
    InputError: The folder has no run, or is the workdir itself.
  """
  text = values.init_from
  if text is None:
    return None
  path, colon, checkpoint = text.rpartition(':')
  if not colon or not re.fullmatch('last|best|[0-9]{1,18}', checkpoint):
    path, checkpoint = text, 'last'
  other, own = files.named('init_from', path), folder(values)
  if other.resolve() == own.resolve():
    raise InputError(
      f'init_from={text}: is the workdir of this run itself; leave the flag out to go on with it, or choose '
      'another --workdir'
    )
  # A run with checkpoints resumes from them and does not need the other run.
  if not (other / 'config.json').is_file() and not workdir.is_trained(own):
    raise InputError(
      f'init_from={text}: no run in {other} (no config.json); give WORKDIR, WORKDIR:STEP, WORKDIR:best or '
      'WORKDIR:last'
    )
  return Origin(other.resolve(), str(int(checkpoint)) if checkpoint.isdigit() else checkpoint)


def chosen_settings(values: flags.FlagValues) -> Settings:
  """Returns the settings of --config, or else those of the run in the workdir.

  Raises:
    InputError: Neither is given, or the settings are invalid.
  """
  if values.config is None and values.workdir is not None:
    return workdir.read_settings(folder(values))
  if values.config is None:
    raise InputError(f'--config is missing: {configs.known()}')
  return settings.check(values.config)


def preset(name: str) -> Settings:
  """Returns the settings of configs/NAME.py."""
  return settings.check(configs.load(str(CONFIGS / f'{name}.py')))
