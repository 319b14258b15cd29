"""The flags that several modes share, and what they say: a config and a workdir."""

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

MOST_IMAGES = 10_000_000  # that are made at a time, all in memory


def define_config(into: flags.FlagValues) -> None:
  """Declares --config, and with it --config.KEY=VALUE."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A file of configs/; --config.KEY=VALUE changes one of its keys. FILE:ARG calls its get_config(ARG).',
    flag_values=into,
  )
  into['config'].parser = configs.ConfigFile()


def define_workdir(into: flags.FlagValues, help: str = 'Folder of the run.') -> None:
  """Declares --workdir."""
  flags.DEFINE(_Folder(), 'workdir', None, help, flag_values=into)


class _Folder(flags.ArgumentParser):
  """The parser of --workdir."""

  def parse(self, argument: str) -> str:
    """Returns the value as it is.

    Raises:
      ValueError: it is blank, as of a variable that is not set.
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
    'Which checkpoint: last, best (by score) or a step.',
    flag_values=into,
  )


class _Checkpoint(flags.ArgumentParser):
  """The parser of --checkpoint."""

  syntactic_help = 'last, best or a step'

  def parse(self, argument: str) -> str:
    """Returns the value as it is.

    Raises:
      ValueError: it is no choice.
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
  """Declares --num, a number of images."""
  parser = flags.IntegerParser(lower_bound=1, upper_bound=MOST_IMAGES)
  parser.syntactic_help = f'a positive integer, {MOST_IMAGES:,} at most'
  flags.DEFINE(parser, 'num', default, help, flag_values=into)


def define_images(into: flags.FlagValues, what: str) -> None:
  """Declares --images, images from elsewhere; `what` says what they are for."""
  flags.DEFINE_string(
    'images',
    None,
    f'{what}: a folder, a picture, an .npy or .npz, or tfds:NAME[:SPLIT], by default of split test.',
    flag_values=into,
  )


def define_statistics(into: flags.FlagValues) -> None:
  """Declares --statistics."""
  flags.DEFINE_enum(
    'statistics',
    None,
    ['stored', 'batch', 'population'],
    'Batch-norm statistics: of training, of each 64 images, or of 10,000 latents. By default the run says.',
    flag_values=into,
  )


def define_pace(into: flags.FlagValues, default: str) -> None:
  """Declares --seconds, --fps and --size, of a moving picture.

  Args:
    into: the flags of a mode.
    default: how long it is by default, in words.
  """
  flags.DEFINE_float(
    'seconds', None, f'How long a moving picture is, {pace.SECONDS[1]} at most; {default}.', flag_values=into
  )
  flags.DEFINE_integer(
    'fps',
    None,
    f'Its frames in a second, {pace.FPS[1]} at most; by default 30, and of a .gif 10.',
    flag_values=into,
  )
  flags.DEFINE_integer(
    'size',
    None,
    f'Pixels of the longer side of the whole moving picture, {pace.SIZES[1]} at most; by default 720 of an '
    '.mp4, 512 of a .webp, and of a .gif as it is drawn.',
    flag_values=into,
  )


def asked_pace(values: flags.FlagValues, out: str | None) -> Pace:
  """Returns what the flags of `define_pace` say.

  Raises:
    InputError: as `pace.check`.
  """
  asked = Pace(values.seconds, values.fps, values.size)
  pace.check(asked, out)
  return asked


def required(values: flags.FlagValues, mode: str, name: str) -> str:
  """Returns the value of a flag that a mode cannot do without.

  Raises:
    InputError: it was not given.
  """
  value = values[name].value
  if not value:
    raise InputError(f'--{name} is missing, which --mode={mode} needs: {values[name].help}')
  return value


def folder(values: flags.FlagValues) -> Path:
  """Returns the workdir: as given or, with a config, runs/NAME for configs/NAME.py.

  Raises:
    InputError: neither is given.
  """
  if values.workdir is not None:
    return files.named('workdir', values.workdir)
  if 'config' not in values or values.config is None:
    raise InputError('--workdir is missing: give the folder of a run, e.g. --workdir=runs/digits')
  return Path('runs') / configs.split(config_flags.get_config_filename(values['config']))[0].stem


def check_run(folder: Path) -> None:
  """Refuses a folder that has no run, before a mode imports what takes seconds.

  Raises:
    InputError: it has none, or its config is broken.
  """
  workdir.read_settings(folder)


def origin(values: flags.FlagValues) -> Origin | None:
  """Returns the checkpoint of another run that --init_from names, None if it is not given.

  Raises:
    InputError: there is no run in its folder, or it is the new run itself.
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
  # A run that has checkpoints goes on from them, whatever has become of the other one.
  if not (other / 'config.json').is_file() and not workdir.is_trained(own):
    raise InputError(
      f'init_from={text}: no run in {other} (no config.json); give WORKDIR, WORKDIR:STEP, WORKDIR:best or '
      'WORKDIR:last'
    )
  return Origin(other.resolve(), str(int(checkpoint)) if checkpoint.isdigit() else checkpoint)


def chosen_settings(values: flags.FlagValues) -> Settings:
  """Returns the settings of --config or, without one, those of the run in the workdir.

  Raises:
    InputError: neither is given, or the settings could not be trained.
  """
  if values.config is None and values.workdir is not None:
    return workdir.read_settings(folder(values))
  if values.config is None:
    raise InputError(f'--config is missing: {configs.known()}')
  return settings.check(values.config)


def preset(name: str) -> Settings:
  """Returns the settings of configs/NAME.py."""
  return settings.check(configs.load(str(CONFIGS / f'{name}.py')))
