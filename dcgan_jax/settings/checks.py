"""Validates a whole config and converts it to `Settings`.

Ranges, choices and combinations are checked here. ml_collections finds unknown keys and wrong types on the
command line; `command_line` rewords its errors with `check_key` and `refuse`.
"""

import dataclasses
import difflib
import itertools
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ml_collections import ConfigDict

from dcgan_jax.errors import InputError
from dcgan_jax.settings.rules import DTYPES
from dcgan_jax.settings.table import Data, Settings

MOST_NUMBERS = 2**31  # numbers in a batch of images or in a kernel, 8 GiB


def default_config() -> ConfigDict:
  """Returns a config with all keys at their defaults."""
  return ConfigDict(dataclasses.asdict(Settings()))


def check(config: ConfigDict) -> Settings:
  """Returns the settings of a config that can be trained.

  Raises:
    InputError: A field is invalid; the message has its name, its value and the valid choices.
  """
  return _check(config.to_dict())


def _check(values: Mapping[str, Any], of_earlier_run: bool = False) -> Settings:
  """Returns the settings with these values, see `check`; an earlier run may have retired values."""
  settings = _build(Settings, values, '', of_earlier_run)
  _check_pixels(settings.data)
  _check_networks(settings)
  _check_sizes(settings)
  _check_combinations(settings)
  return settings


def from_dict(content: Mapping[str, Any]) -> Settings:
  """Returns the settings of a config.json, which may lack new keys and have retired values.

  Raises:
    InputError: See `check`.
  """
  return _check(_fill(dataclasses.asdict(Settings()), content), of_earlier_run=True)


def check_retired(settings: Settings) -> None:
  """Refuses to train with a value that only the config.json of an earlier run may have.

  Raises:
    InputError: one line with the field, its value and what would be valid.
  """
  values = flat(dataclasses.asdict(settings))
  for name, field in _keys(Settings):
    rule = field.metadata['rule']
    if values[name] in rule.retired:
      raise InputError(
        f'{name}={values[name]}: is retired; {rule.choices}, by --config=FILE and --config.{name}=VALUE'
      )


def _fill(defaults: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the content with lists as tuples and missing keys at their defaults."""
  filled = dict(defaults)
  for name, value in content.items():
    below = defaults.get(name)
    if isinstance(value, Mapping) and isinstance(below, Mapping):
      filled[name] = _fill(below, value)
    else:
      filled[name] = tuple(value) if isinstance(value, list) else value
  return filled


def _build(kind: type, values: Any, path: str, of_earlier_run: bool) -> Any:
  """Returns a dataclass of the table with these values, each checked by its rule."""
  fields = {field.name: field for field in dataclasses.fields(kind)}
  if not isinstance(values, Mapping):
    raise InputError(f'{path.removesuffix(".")}={values!r}: is a section; it has {", ".join(fields)}')
  for name in values:
    if name not in fields:
      raise InputError(
        f'{path}{name}: unknown key; {path.removesuffix(".") or "config"} has {", ".join(fields)}'
      )
  built = {}
  for name, field in fields.items():
    if name not in values:
      raise InputError(f'{path}{name}: missing; start from configs/base.py')
    value = values[name]
    if dataclasses.is_dataclass(field.type):
      built[name] = _build(field.type, value, f'{path}{name}.', of_earlier_run)  # type: ignore[arg-type]
      continue
    rule = field.metadata['rule']
    if not _is_of(field.type, value) or not (rule.holds(value) or (of_earlier_run and value in rule.retired)):
      raise InputError(f'{path}{name}={_short(value)}: {rule.choices}')
    built[name] = value
  return kind(**built)


def _is_of(kind: Any, value: Any) -> bool:
  """Returns whether a value has the declared type of its field."""
  kind = typing.get_origin(kind) or kind
  if kind is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _short(value: Any) -> str:
  """Returns the repr of a value; Python refuses integers of thousands of digits."""
  try:
    return repr(value)
  except (ValueError, RecursionError):
    return f'({type(value).__name__})'


def _check_pixels(data: Data) -> None:
  """Refuses channels, dtypes and value ranges that do not go with the source."""
  if data.source == 'digits' and data.channels != 1:
    raise InputError(f'data.channels={data.channels}: the digits are gray; set it to 1')
  if not data.is_array:
    if data.channels not in (1, 3, 4):
      raise InputError(
        f'data.channels={data.channels}: data.source={data.source} has pictures; set it to 1 (gray), 3 (RGB) '
        'or 4 (RGBA), or give an array, data.source=npy:PATH'
      )
    if data.dtype != 'uint8' or data.value_range:
      key, value = ('value_range', data.value_range) if data.value_range else ('dtype', data.dtype)
      raise InputError(
        f'data.{key}={value}: is for data.source=npy:PATH; data.source={data.source} has pictures of 8 bits'
      )
    return
  limits, wanted = DTYPES[data.dtype], data.value_range
  if not limits and not wanted:
    raise InputError(
      f'data.value_range=(): data.dtype={data.dtype} needs the lowest number and the highest, '
      "e.g. '(0.0, 1.0)'"
    )
  if limits and wanted and not (limits[0] <= wanted[0] < wanted[1] <= limits[1] and _are_whole(wanted)):
    raise InputError(
      f'data.value_range={wanted}: of data.dtype={data.dtype} it must be two whole numbers from {limits[0]} '
      f'to {limits[1]}'
    )
  if data.dtype == 'float16' and max(map(abs, wanted)) > 65_504:
    raise InputError(f'data.value_range={wanted}: float16 has numbers from -65504 to 65504 only')


def _are_whole(numbers: tuple[float, ...]) -> bool:
  return all(number == int(number) for number in numbers)


def _check_networks(settings: Settings) -> None:
  height, width = settings.data.size
  for name in ('generator', 'discriminator'):
    network = getattr(settings, name)
    for key in ('strides', 'norm'):
      values = getattr(network, key)
      if len(values) != len(network.widths):
        raise InputError(
          f'{name}.{key}={values}: has {len(values)} entries, '
          f'{name}.widths={network.widths} has {len(network.widths)}; give one for each layer'
        )
    total = math.prod(network.strides)
    if height % total or width % total:
      raise InputError(
        f'data.image_size={settings.data.image_size}: {name}.strides={network.strides} reach multiples '
        f'of {total} only; choose such a size, e.g. {max(1, round(height / total)) * total}'
      )


def _check_sizes(settings: Settings) -> None:
  """Refuses sizes beyond any device's memory, which libraries would report in pages of text."""
  data, train = settings.data, settings.train
  numbers = train.batch_size * math.prod(data.size) * data.channels
  if numbers > MOST_NUMBERS:
    raise InputError(
      f'train.batch_size={train.batch_size}: a batch of images of {data.size} pixels has {numbers:,} '
      f'numbers; choose a smaller batch or data.image_size, for {MOST_NUMBERS:,} at most'
    )
  for name in ('generator', 'discriminator'):
    network = getattr(settings, name)
    ends = (data.channels + data.classes, *network.widths, data.channels + data.classes)
    largest = max(a * b for a, b in itertools.pairwise(ends)) * network.kernel_size**2
    if network.kernel_size > 2 * max(data.size):
      raise InputError(
        f'{name}.kernel_size={network.kernel_size}: is more than twice data.image_size={data.image_size}; '
        f'choose a smaller one, e.g. {min(4, 2 * max(data.size))}'
      )
    if largest > MOST_NUMBERS:
      raise InputError(
        f'{name}.widths={network.widths}: with {name}.kernel_size={network.kernel_size} a layer has '
        f'{largest:,} parameters; choose smaller ones, for {MOST_NUMBERS:,} at most'
      )


def _check_combinations(settings: Settings) -> None:
  train = settings.train
  if not train.num_steps and not train.num_epochs:
    raise InputError('train.num_steps=0 and train.num_epochs=0: one of them must be 1 or more')
  if train.d_steps > 1 and train.order != 'alternating':
    raise InputError(
      f'train.d_steps={train.d_steps}: train.order={train.order} takes only 1; set it so, or '
      'train.order=alternating'
    )
  if train.fresh_z and train.order != 'alternating':
    raise InputError(f'train.fresh_z=True: train.order={train.order} draws one z per step; set it to False')
  if train.accumulate > 1 and train.order == 'one_per_batch':
    raise InputError(f'train.accumulate={train.accumulate}: train.order=one_per_batch takes only 1')
  if train.ema_decay and train.ema_half_life:
    raise InputError(
      f'train.ema_half_life={train.ema_half_life}: is train.ema_decay={train.ema_decay} in another unit; '
      'set one of them to 0'
    )
  if train.real_label < 1 and train.loss in ('hinge', 'wasserstein', 'relativistic'):
    raise InputError(
      f'train.real_label={train.real_label}: the {train.loss} loss has no labels; set it to 1.0'
    )
  hidden = len(settings.discriminator.widths) + len(settings.discriminator.dense_widths)
  if train.freeze > hidden:
    raise InputError(f'train.freeze={train.freeze}: D has {hidden} hidden layers; choose 0 to {hidden}')
  for name in ('r1', 'r2', 'gradient_penalty'):
    value, norm = getattr(train, name), settings.discriminator.norm
    if value and any(norm):
      raise InputError(
        f'train.{name}={value}: the penalty is for each image alone, but batch norm in D mixes images; '
        f'set discriminator.norm to {(False,) * len(norm)}'
      )
  for name in ('generator_optimizer', 'discriminator_optimizer'):
    optimizer = getattr(settings, name)
    if optimizer.final_rate and not optimizer.decay_steps:
      raise InputError(
        f'{name}.final_rate={optimizer.final_rate}: {name}.decay_steps=0 keeps the rate constant; set it to '
        'the number of steps of the decay'
      )
  for name in ('log', 'sample', 'eval', 'checkpoint'):
    section = getattr(settings, name)
    if section.every_images and section.every_epochs:
      raise InputError(
        f'{name}.every_epochs={section.every_epochs}: {name}.every_images={section.every_images} is set, '
        'too; set one of them to 0'
      )
  data = settings.data
  if data.classes and settings.generator.condition == 'norm' and not any(settings.generator.norm):
    raise InputError(
      f'generator.condition=norm: generator.norm={settings.generator.norm} has no batch norm; '
      'choose concat or embedding'
    )
  if data.classes and settings.generator.condition == 'norm' and not settings.generator.norm_affine:
    raise InputError(
      'generator.condition=norm: tells the class by the scale and bias of batch norm, and '
      'generator.norm_affine=False leaves them out; set it to True, or choose concat or embedding'
    )
  if 'color' in train.augment and data.channels not in (1, 3) and not data.transparent:
    raise InputError(
      f'train.augment={train.augment}: color is for gray, RGB and RGBA; leave it out for the '
      f'{data.channels} channels of data.source={data.source}'
    )
  if settings.eval.happens and settings.eval.features == 'inception' and data.channels not in (1, 3):
    raise InputError(
      f'eval.features=inception: takes images of 1 or 3 channels, and data.channels={data.channels}; choose '
      'classifier'
    )


def check_devices(settings: Settings, devices: int, trained: bool = False) -> None:
  """Refuses a batch size that devices, accumulation and packing do not divide.

  Args:
    settings: Settings of the run.
    devices: Number of devices.
    trained: Whether the run has checkpoints, so that another batch size needs --allow_config_change.

  Raises:
    InputError: The batch size is not divisible.
  """
  batch_size, parts = settings.train.batch_size, settings.train.accumulate
  packing = settings.discriminator.packing
  unit = devices * parts * packing
  if batch_size % unit:
    fitting = max(1, round(batch_size / unit)) * unit
    each = f' times train.accumulate={parts}' if parts > 1 else ''
    each += f' times discriminator.packing={packing}' if packing > 1 else ''
    allowed = ' with --allow_config_change' if trained else ''
    fewer = ' or '.join(str(n) for n in range(1, devices) if batch_size % (n * parts * packing) == 0)
    instead = f', or run on {fewer} of them (CUDA_VISIBLE_DEVICES chooses among GPUs)' if fewer else ''
    raise InputError(
      f'train.batch_size={batch_size}: not divisible by the {devices} devices{each}; choose e.g. '
      f'{fitting}{allowed}{instead}'
    )


def check_key(path: str) -> None:
  """Refuses an unknown dotted key.

  Raises:
    InputError: The key is unknown; the message lists the known ones.
  """
  kind, above = Settings, 'config'
  for name in path.split('.'):
    fields = {f.name: f.type for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    if name not in fields:
      close = difflib.get_close_matches(name, fields, 1)
      hint = f'did you mean {close[0]}? ' if close else ''
      raise InputError(
        f'config.{path}: unknown key; {hint}{above} has {", ".join(fields) or "no keys below it"}'
      )
    kind, above = fields[name], f'{above}.{name}'  # type: ignore[assignment]


def refuse(path: str, value: str) -> NoReturn:
  """Refuses an unparsable value of a known dotted key.

  Raises:
    InputError: Always; the message has the valid choices.
  """
  rule = {name: field.metadata['rule'] for name, field in _keys(Settings)}.get(path)
  inside = [name for name, _ in _keys(Settings) if name.startswith(f'{path}.')]
  choices = rule.choices if rule else f'set one of its keys {", ".join(inside)}'
  raise InputError(f'{path}={value}: {choices}')


def helps() -> dict[str, str]:
  """Returns the help of each key, by dotted name."""
  return {name: field.metadata['help'] for name, field in _keys(Settings)}


def help_lines() -> list[str]:
  """Returns a line `--config.KEY=DEFAULT: HELP` for each key."""
  defaults = flat(dataclasses.asdict(Settings()))
  return [f'--config.{name}={defaults[name]}: {text}' for name, text in helps().items()]


def differences(old: Settings, new: Settings) -> list[str]:
  """Returns the changes of keys that are fixed for a run, as sorted lines 'KEY was A and is B'."""
  before, after = (flat(dataclasses.asdict(each)) for each in (old, new))
  fixed = sorted(name for name, field in _keys(Settings) if not field.metadata['free'])
  return [f'{name} was {before[name]} and is {after[name]}' for name in fixed if before[name] != after[name]]


def _keys(kind: type, path: str = '') -> Iterator[tuple[str, dataclasses.Field]]:
  """Yields the dotted name and field of every key."""
  for field in dataclasses.fields(kind):
    if dataclasses.is_dataclass(field.type):
      yield from _keys(field.type, f'{path}{field.name}.')  # type: ignore[arg-type]
    else:
      yield path + field.name, field


def flat(values: Mapping[str, Any], path: str = '') -> dict[str, Any]:
  """Flattens nested dictionaries to dotted names."""
  found: dict[str, Any] = {}
  for name, value in values.items():
    found |= flat(value, f'{path}{name}.') if isinstance(value, Mapping) else {path + name: value}
  return found
