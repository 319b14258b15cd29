"""Checks a config as a whole, without importing JAX, so that an error answers at once.

Unknown keys and wrong types are ml_collections' to find (`main.py` words them); ranges, choices and
combinations are found here.
"""

import difflib
import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from ml_collections import ConfigDict

from dcgan_jax.errors import InputError


class Rule(NamedTuple):
  """What a value must be."""

  holds: Callable[[Any], bool]
  choices: str


def _one_of(*choices: Any) -> Rule:
  return Rule(lambda v: v in choices, 'choose ' + ' or '.join(str(c) for c in choices))


def _all_of(item: Callable[[Any], bool], text: str) -> Rule:
  return Rule(lambda v: len(v) > 0 and all(item(x) for x in v), text)


def _is_int(value: Any, least: int) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= least


NATURAL = Rule(lambda v: v >= 0, 'must be a whole number, 0 or more')
COUNT = Rule(lambda v: v >= 1, 'must be a whole number, 1 or more')
POSITIVE = Rule(lambda v: 0 < v < math.inf, 'must be a number above 0')
NOT_NEGATIVE = Rule(lambda v: 0 <= v < math.inf, 'must be a number, 0 or more')
FRACTION = Rule(lambda v: 0 <= v < 1, 'must be a number, at least 0 and below 1')
FLAG = Rule(lambda v: isinstance(v, bool), 'choose True or False')
COUNTS = _all_of(lambda x: _is_int(x, 1), 'must be whole numbers of 1 or more, one a layer')
FLAGS = _all_of(lambda x: isinstance(x, bool), 'must be True or False, one a layer')

_NETWORK = {
  'widths': COUNTS,
  'strides': COUNTS,
  'norm': FLAGS,
  'kernel_size': COUNT,
  'padding': _one_of('same', 'symmetric'),
  'use_bias': FLAG,
  'norm_epsilon': POSITIVE,
  'norm_momentum': FRACTION,
  'leak': FRACTION,
  'dropout': FRACTION,
  'initializer': _one_of('normal', 'glorot'),
}
_OPTIMIZER = {
  'learning_rate': POSITIVE,
  'b1': FRACTION,
  'b2': FRACTION,
  'epsilon': POSITIVE,
  'l2': NOT_NEGATIVE,
  'decay_after': NATURAL,
  'decay_steps': NATURAL,
}

RULES: dict[str, Any] = {
  'seed': Rule(lambda v: 0 <= v < 2**32, 'must be a whole number, at least 0 and below 2**32'),
  'data': {
    'source': Rule(
      lambda v: v == 'digits' or (v.partition(':')[0] in ('tfds', 'folder') and v.partition(':')[2] != ''),
      'choose digits, tfds:NAME or folder:PATH',
    ),
    'split': Rule(bool, 'must name a split, e.g. train'),
    'image_size': Rule(
      lambda v: len(v) in (1, 2) and all(_is_int(x, 1) for x in v),
      "must be height and width in pixels, e.g. '(64, 64)', or one number for a square",
    ),
    'channels': _one_of(1, 3),
    'fit': _one_of('crop', 'squash'),
    'background': Rule(
      lambda v: len(v) == 3 and all(_is_int(x, 0) and x <= 255 for x in v),
      "must be red, green and blue from 0 to 255, e.g. '(255, 255, 255)'",
    ),
    'flip': FLAG,
    'memory_limit': NATURAL,
    'workers': NATURAL,
  },
  'latent': {'size': COUNT, 'prior': _one_of('normal', 'uniform')},
  'generator': _NETWORK
  | {'dense_norm': _one_of('channel', 'unit'), 'upsample': _one_of('transposed', 'bilinear')},
  'discriminator': _NETWORK,
  'generator_optimizer': _OPTIMIZER,
  'discriminator_optimizer': _OPTIMIZER,
  'train': {
    'batch_size': COUNT,
    'num_steps': NATURAL,
    'num_epochs': NATURAL,
    'order': _one_of('alternating', 'simultaneous', 'one_per_batch'),
    'd_steps': COUNT,
    'fresh_z': FLAG,
    'loss': _one_of('non_saturating', 'minimax', 'least_squares', 'hinge', 'wasserstein'),
    'real_label': Rule(lambda v: 0.5 < v <= 1, 'must be a number above 0.5 and at most 1'),
    'ema_decay': FRACTION,
    'accumulate': COUNT,
    'sync_norm': FLAG,
    'dtype': _one_of('float32', 'bfloat16'),
    'steps_per_dispatch': NATURAL,
    'fast_conv': FLAG,
  },
  'log': {'every_steps': COUNT, 'tensorboard': FLAG},
  'sample': {'every_steps': NATURAL, 'num': COUNT},
  'eval': {
    'every_steps': NATURAL,
    'num': Rule(lambda v: v >= 100, 'must be a whole number, 100 or more'),
    'features': _one_of('classifier', 'inception'),
    'weights': Rule(lambda v: isinstance(v, str), 'must be a path, or empty for the file in the cache'),
  },
  'checkpoint': {'every_steps': COUNT, 'keep': COUNT},
}


def check(config: ConfigDict) -> None:
  """Refuses a config that could not be trained.

  Raises:
    InputError: one line with the first bad field, its value and what would be valid.
  """
  _check_rules(config, RULES, '')
  _check_networks(config)
  train = config.train
  if not train.num_steps and not train.num_epochs:
    raise InputError('train.num_steps=0 and train.num_epochs=0: one of them must be 1 or more')
  if train.d_steps > 1 and train.order != 'alternating':
    raise InputError(f'train.d_steps={train.d_steps}: train.order={train.order} takes only 1')
  if train.fresh_z and train.order != 'alternating':
    raise InputError(f'train.fresh_z=True: train.order={train.order} has one z a step; set it to False')
  if train.accumulate > 1 and train.order == 'one_per_batch':
    raise InputError(f'train.accumulate={train.accumulate}: train.order=one_per_batch takes only 1')
  if train.real_label < 1 and train.loss in ('hinge', 'wasserstein'):
    raise InputError(
      f'train.real_label={train.real_label}: the {train.loss} loss has no labels; set it to 1.0'
    )
  if config.data.source == 'digits' and config.data.channels != 1:
    raise InputError(f'data.channels={config.data.channels}: the digits are gray; set it to 1')


def check_key(path: str) -> None:
  """Refuses a dotted key that no config has.

  Raises:
    InputError: in one line, with the keys there are.
  """
  rules, above = RULES, 'config'
  for key in path.split('.'):
    if not isinstance(rules, dict) or key not in rules:
      known = list(rules) if isinstance(rules, dict) else []
      close = difflib.get_close_matches(key, known, 1)
      hint = f'did you mean {close[0]}? ' if close else ''
      known_keys = ', '.join(known) or 'no keys below it'
      raise InputError(f'config.{path}: unknown key; {hint}{above} has {known_keys}')
    rules, above = rules[key], f'{above}.{key}'


def refuse(path: str, value: str) -> NoReturn:
  """Says what a known dotted key takes instead of a value that cannot be read.

  Raises:
    InputError: always.
  """
  rules: Any = RULES
  for key in path.split('.'):
    rules = rules[key]
  choices = rules.choices if isinstance(rules, Rule) else f'set one of its keys {", ".join(rules)}'
  raise InputError(f'{path}={value}: {choices}')


def _check_rules(config: ConfigDict, rules: dict[str, Any], path: str) -> None:
  for key in config:
    if key not in rules:
      raise InputError(f'{path}{key}: unknown key; {path or "config"} has {", ".join(rules)}')
  for key, rule in rules.items():
    if key not in config:
      raise InputError(f'{path}{key}: missing; start from configs/base.py')
    value = config[key]
    if isinstance(rule, dict):
      _check_rules(value, rule, f'{path}{key}.')
      continue
    try:
      holds = rule.holds(value)
    except (TypeError, AttributeError):  # a value of another type, from a config file
      holds = False
    if not holds:
      raise InputError(f'{path}{key}={value!r}: {rule.choices}')


def _check_networks(config: ConfigDict) -> None:
  height, width = image_size(config)
  for name in ('generator', 'discriminator'):
    network = config[name]
    for key in ('strides', 'norm'):
      if len(network[key]) != len(network.widths):
        raise InputError(
          f'{name}.{key}={network[key]}: has {len(network[key])} entries, '
          f'{name}.widths={network.widths} has {len(network.widths)}; give one for each layer'
        )
    total = math.prod(network.strides)
    if height % total or width % total:
      raise InputError(
        f'data.image_size={config.data.image_size}: {name}.strides={network.strides} reach multiples '
        f'of {total} only; choose such a size, e.g. {max(1, round(height / total)) * total}'
      )


def image_size(config: ConfigDict) -> tuple[int, int]:
  """Height and width in pixels, of one number or two."""
  size = tuple(config.data.image_size)
  return (size[0], size[-1])


def check_devices(config: ConfigDict, devices: int) -> None:
  """Refuses a batch that the devices cannot share evenly, in as many parts as are asked.

  Raises:
    InputError: in one line.
  """
  batch_size, parts = config.train.batch_size, config.train.accumulate
  if batch_size % (devices * parts):
    fitting = max(1, round(batch_size / devices / parts)) * devices * parts
    each = f' times train.accumulate={parts}' if parts > 1 else ''
    raise InputError(
      f'train.batch_size={batch_size}: not divisible by the {devices} devices{each}; choose e.g. {fitting}'
    )
