import dataclasses
import importlib
import inspect
import json
import re

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from configs import base
from dcgan_jax import data, settings
from dcgan_jax.core import latents, losses, models, regularizers, train_state, train_step
from dcgan_jax.errors import InputError
from dcgan_jax.settings import Settings, checks

NAMES = sorted(p.stem for p in (ROOT / 'configs').glob('*.py') if p.stem not in ('base', '__init__'))


def _get(name):
  return importlib.import_module(f'configs.{name}').get_config()


@pytest.mark.parametrize('name', NAMES)
def test_every_config_is_valid(name):
  config = _get(name)
  if name.startswith('image_folder'):
    config.data.source = 'folder:somewhere'
  settings.check(config)


def _leaves(values, path=''):
  """Yields the dotted names of all keys of a config."""
  for name, value in values.items():
    if isinstance(value, dict):
      yield from _leaves(value, f'{path}{name}.')
    else:
      yield path + name


def test_every_key_of_base_has_a_line_of_help():
  lines = dict(line.split('=', 1) for line in settings.help_lines())
  keys = list(_leaves(base.get_config().to_dict()))
  assert list(lines) == [f'--config.{key}' for key in _leaves(dataclasses.asdict(Settings()))]
  assert set(lines) == {f'--config.{key}' for key in keys} and len(keys) > 60
  for name, line in lines.items():
    default, _, help = line.partition(': ')
    assert len(help) > 8 and '\n' not in help, name
    assert default == str(_value(Settings(), name.removeprefix('--config.')))


def _value(chosen, path):
  for name in path.split('.'):
    chosen = getattr(chosen, name)
  return chosen


def test_settings_are_the_values_of_the_config():
  config = _get('mnist')
  assert dataclasses.asdict(settings.check(config)) == config.to_dict()
  assert settings.from_dict(config.to_dict()) == settings.check(config)


def _choices(path):
  with pytest.raises(InputError, match=': choose ') as error:
    checks.refuse(path, '?')
  return set(str(error.value).partition(': choose ')[2].split(' or '))


def test_choices_are_the_tables_of_the_nouns():
  """The table must not import JAX, so it repeats the choices."""
  assert _choices('train.loss') == set(losses.LOSSES)
  assert _choices('train.order') == set(train_step.ORDERS)
  assert _choices('latent.prior') == set(latents.PRIORS)
  assert _choices('generator.upsample') == set(models.UPSAMPLE)


def test_keys_are_the_arguments_of_the_nouns():
  config = base.get_config()
  assert set(config.discriminator) <= set(models.Discriminator.__dataclass_fields__)
  assert set(config.generator) <= set(models.Generator.__dataclass_fields__)
  of_data = {'classes', 'counts'}
  assert set(config.latent) | of_data == set(latents.Latents.__dataclass_fields__)
  assert set(config.train) >= set(train_step.Recipe.__dataclass_fields__) - {'flip', 'ema_steps', 'penalties'}
  assert set(config.train) >= set(regularizers.PENALTIES)
  for name in ('generator_optimizer', 'discriminator_optimizer'):
    assert set(config[name]) == set(inspect.signature(train_state.make_optimizer).parameters)
  assert {'image_size', 'channels', 'background'} <= set(data.Fit.__dataclass_fields__)


@pytest.mark.parametrize(
  ('field', 'value', 'text'),
  [
    ('seed', -1, 'seed=-1: must be'),
    ('data.source', 'mnist', 'choose digits, tfds:NAME or folder:PATH'),
    ('data.source', 'folder:', 'choose digits'),
    ('data.image_size', (30,), 'reach multiples of 4 only; choose such a size, e.g. 32'),
    ('data.image_size', (16, 18), 'reach multiples of 4'),
    ('data.image_size', (1, 2, 3), 'height and width'),
    ('data.channels', 2, 'the digits are gray'),
    ('data.channels', 65, 'any whole number up to 64'),
    ('data.dtype', 'int64', 'choose uint8 or int8 or uint16'),
    ('data.dtype', 'uint16', 'is for data.source=npy:PATH'),
    ('data.value_range', (0, 1), 'is for data.source=npy:PATH'),
    ('data.value_range', (1, 0), 'the lowest and the highest number'),
    ('data.value_range', (0.0, float('inf')), 'the lowest and the highest number'),
    ('data.value_range', (1e9, 1e9 + 1), 'distinguishable in float32'),
    ('data.value_range', (0, 1, 2), 'the lowest and the highest number'),
    ('data.channels', 3, 'the digits are gray'),
    ('data.background', (0, 0, 256), 'from 0 to 255'),
    ('latent.size', 0, 'at least 1 and below'),
    ('latent.prior', 'gaussian', 'choose normal or uniform'),
    ('generator.widths', (), 'whole numbers'),
    ('generator.widths', (8, 0), 'whole numbers'),
    ('generator.norm', (True,), 'has 1 entries'),
    ('discriminator.strides', (2, 2, 2), 'has 3 entries'),
    ('discriminator.dropout', 1.0, 'below 1'),
    ('discriminator_optimizer.learning_rate', 0.0, 'above 0'),
    ('generator_optimizer.b1', 1.0, 'below 1'),
    ('train.batch_size', 0, 'at least 1 and below'),
    ('train.loss', 'bce', 'choose non_saturating'),
    ('train.accumulate', 0, 'at least 1 and below'),
    ('train.dtype', 'float16', 'choose float32 or bfloat16'),
    ('train.real_label', 0.5, 'above 0.5'),
    ('data.held_out', 0.5, 'at least 0 and below 0.5'),
    ('checkpoint.keep', 0, 'at least 1 and below'),
  ],
)
def test_bad_values_are_refused_by_field_value_and_choices(field, value, text):
  config = _get('digits')
  *path, key = field.split('.')
  section = config
  for part in path:
    section = section[part]
  section[key] = value
  with pytest.raises(InputError) as error:
    settings.check(config)
  message = str(error.value)
  assert message.startswith(field) or field == 'data.image_size', message
  assert text in message and '\n' not in message


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'order': 'simultaneous', 'd_steps': 2}, 'train.d_steps=2'),
    ({'order': 'one_per_batch', 'fresh_z': True}, 'train.fresh_z'),
    ({'order': 'one_per_batch', 'accumulate': 2}, 'train.accumulate=2'),
    ({'loss': 'hinge', 'real_label': 0.9}, 'no labels'),
    ({'num_steps': 0, 'num_epochs': 0}, 'one of them'),
    ({'freeze': 3}, 'train.freeze=3: D has 2 hidden layers; choose 0 to 2'),
  ],
)
def test_impossible_combinations(changes, text):
  config = _get('digits')
  config.train.update(changes)
  with pytest.raises(InputError, match=re.escape(text)):
    settings.check(config)


@pytest.mark.parametrize(
  ('source', 'channels', 'dtype', 'value_range', 'text'),
  [
    ('folder:x', 2, 'uint8', (), 'data.channels=2: data.source=folder:x has pictures; set it to 1 (gray)'),
    ('tfds:mnist', 5, 'uint8', (), 'data.source=npy:PATH'),
    ('tfds:mnist', 1, 'float32', (), 'data.dtype=float32: is for data.source=npy:PATH'),
    ('npy:x.npy', 5, 'float32', (), 'data.value_range=(): data.dtype=float32 needs the lowest number'),
    ('npy:x.npy', 5, 'uint8', (0, 256), 'two whole numbers from 0 to 255'),
    ('npy:x.npy', 5, 'int16', (-0.5, 100), 'two whole numbers from -32768 to 32767'),
    ('npy:x.npy', 5, 'float16', (0, 1e5), 'float16 has numbers from -65504 to 65504 only'),
  ],
)
def test_numbers_that_images_of_a_source_cannot_have(source, channels, dtype, value_range, text):
  config = _get('image_folder')
  config.data.source, config.data.channels = source, channels
  config.data.dtype, config.data.value_range = dtype, value_range
  with pytest.raises(InputError, match=re.escape(text)):
    settings.check(config)


@pytest.mark.parametrize(
  ('channels', 'dtype', 'value_range'),
  [(1, 'uint16', ()), (5, 'float32', (-1.0, 1.0)), (64, 'float64', (0, 1)), (3, 'int16', (0, 1000))],
)
def test_arrays_have_channels_and_numbers_of_many_kinds(channels, dtype, value_range):
  config = _get('image_folder')
  config.data.source, config.data.channels = 'npy:x.npy', channels
  config.data.dtype, config.data.value_range = dtype, value_range
  chosen = settings.check(config)
  assert chosen.data.is_array and not chosen.data.transparent
  assert settings.from_dict(json.loads(json.dumps(dataclasses.asdict(chosen)))) == chosen


def test_four_channels_are_an_opacity_unless_they_are_an_array():
  config = _get('image_folder')
  config.data.source, config.data.channels, config.train.augment = 'folder:x', 4, 'color'
  assert settings.check(config).data.transparent
  config.data.source = 'npy:x.npy'
  with pytest.raises(InputError, match=r'train\.augment=color: color is for gray, RGB and RGBA'):
    settings.check(config)
  config.train.augment = 'translation'
  assert not settings.check(config).data.transparent
  config.eval.every_steps, config.eval.features = 100, 'inception'
  with pytest.raises(InputError, match=r'takes images of 1 or 3 channels, and data\.channels=4'):
    settings.check(config)


@pytest.mark.parametrize(('size', 'advised'), [((1, 1), 2), ((64, 64), 4)])
def test_the_kernel_size_that_is_advised_is_valid(size, advised):
  """Follows the advice of the error for a kernel that is too large; for images of 1 pixel it was 4 again."""
  config = base.get_config()
  config.data.update(source='npy:x', channels=1, image_size=size)
  for name in ('generator', 'discriminator'):
    config[name].update(widths=(4,), strides=(1,), norm=(False,), kernel_size=999)
  with pytest.raises(InputError, match=f'kernel_size=999: .* choose a smaller one, e.g. {advised}$'):
    settings.check(config)
  config.generator.kernel_size = config.discriminator.kernel_size = advised
  settings.check(config)


def test_devices_must_share_the_batch():
  config = _get('digits')
  settings.check_devices(settings.check(config), 8)
  with pytest.raises(InputError, match=r'not divisible by the 6 devices; choose e\.g\. 66'):
    settings.check_devices(settings.check(config), 6)
  with pytest.raises(
    InputError, match=r'66 with --allow_config_change, or run on 1 or 2 or 4 of them \(CUDA_'
  ):
    settings.check_devices(settings.check(config), 6, trained=True)
  config.train.accumulate = 4
  settings.check_devices(settings.check(config), 8)
  with pytest.raises(InputError, match=r'by the 32 devices times train\.accumulate=4; choose e\.g\. 128'):
    settings.check_devices(settings.check(config), 32)


def test_a_retired_value_is_read_from_an_earlier_run_and_not_trained_with():
  config = _get('digits')
  settings.check_retired(settings.check(config))
  config.train.on_collapse = 'rollback'
  with pytest.raises(InputError, match=r"^train\.on_collapse='rollback': choose continue or stop$"):
    settings.check(config)
  old = settings.from_dict(json.loads(json.dumps(config.to_dict())))
  assert old.train.on_collapse == 'rollback'
  with pytest.raises(InputError, match='is retired; choose continue or stop, by --config=FILE and'):
    settings.check_retired(old)


def test_unknown_keys():
  with pytest.raises(InputError, match='did you mean batch_size'):
    settings.check_key('train.batchsize')
  with pytest.raises(InputError, match='config has seed, data'):
    settings.check_key('lr')
  config = _get('digits')
  with config.unlocked():
    config.train.extra = 1
  with pytest.raises(InputError, match='extra: unknown key'):
    settings.check(config)


@pytest.mark.parametrize(
  ('field', 'value', 'text'),
  [
    ('train.batch_size', 16.5, 'whole number'),
    ('train.batch_size', True, 'whole number'),
    ('train.batch_size', 2**31, r'below 2\*\*31'),
    ('train.batch_size', 10**9, 'choose a smaller batch'),
    ('train.num_steps', '10', 'whole number'),
    ('seed', None, 'whole number'),
    ('data.flip', 1, 'choose True or False'),
    ('data.split', 3, 'must name a split'),
    ('data.image_size', (2**14, 2**14), 'up to 8192'),
    ('data.image_size', 'x', 'height and width'),
    ('data.background', ('a', 'b', 'c'), 'from 0 to 255'),
    ('generator.widths', (2**15, 2**15), 'choose smaller ones'),
    ('generator.kernel_size', 999, 'more than twice'),
    ('generator.leak', '0.2', 'number'),
    ('generator_optimizer.learning_rate', 10**400, 'float32'),
    ('generator_optimizer.learning_rate', float('nan'), 'float32'),
    ('eval.weights', 1, 'must be a path'),
    ('data.classes', 10**6, 'from 2 to 10,000'),
  ],
)
def test_values_of_other_types_and_sizes_in_a_config_json(field, value, text):
  """Refuses values that a file may contain, but that the command line rejects by type."""
  content = _get('digits').to_dict()
  *path, key = field.split('.')
  section = content
  for part in path:
    section = section[part]
  section[key] = value
  with pytest.raises(InputError, match=text):
    settings.from_dict(content)


@given(
  st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_json_is_settings_or_refused(content):
  for name in ('train', 'seed', 'data', 'x'):
    with pytest.raises(InputError):
      settings.from_dict({name: content if content != 0 else -1, 'lr': 1})
