import importlib
import inspect
import itertools
import json
import pathlib
import re

import pytest

from dcgan_jax import data, latents, losses, models, state, steps
from dcgan_jax.commands import validation, workdir
from dcgan_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(p.stem for p in (ROOT / 'configs').glob('*.py') if p.stem not in ('base', '__init__'))


def _get(name):
  return importlib.import_module(f'configs.{name}').get_config()


@pytest.mark.parametrize('name', NAMES)
def test_every_config_is_valid(name):
  config = _get(name)
  if name.startswith('image_folder'):
    config.data.source = 'folder:somewhere'
  validation.check(config)


def test_every_key_of_base_has_a_comment():
  lines = (ROOT / 'configs' / 'base.py').read_text().splitlines()
  for above, line in itertools.pairwise(lines):
    if re.match(r'  config[.\w]* = (?!ConfigDict|network|optimizer)', line):
      assert '  # ' in line or above.startswith('  # '), line


def _choices(*path):
  rule = validation.RULES
  for key in path:
    rule = rule[key]
  return set(rule.choices.removeprefix('choose ').split(' or '))


def test_choices_are_the_tables_of_the_nouns():
  """Validation must not import JAX, so it names the choices again."""
  assert _choices('train', 'loss') == set(losses.LOSSES)
  assert _choices('train', 'order') == set(steps.ORDERS)
  assert _choices('latent', 'prior') == set(latents.PRIORS)
  assert _choices('generator', 'upsample') == set(models.UPSAMPLE)


def test_keys_are_the_arguments_of_the_nouns():
  fields = set(models.Discriminator.__dataclass_fields__)
  assert set(validation.RULES['discriminator']) <= fields
  assert set(validation.RULES['generator']) <= set(models.Generator.__dataclass_fields__)
  assert set(validation.RULES['generator_optimizer']) == set(
    inspect.signature(state.make_optimizer).parameters
  )
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
    ('data.channels', 2, 'choose 1 or 3'),
    ('data.channels', 3, 'the digits are gray'),
    ('data.background', (0, 0, 256), 'from 0 to 255'),
    ('latent.size', 0, '1 or more'),
    ('latent.prior', 'gaussian', 'choose normal or uniform'),
    ('generator.widths', (), 'whole numbers'),
    ('generator.widths', (8, 0), 'whole numbers'),
    ('generator.norm', (True,), 'has 1 entries'),
    ('discriminator.strides', (2, 2, 2), 'has 3 entries'),
    ('discriminator.dropout', 1.0, 'below 1'),
    ('discriminator_optimizer.learning_rate', 0.0, 'above 0'),
    ('generator_optimizer.b1', 1.0, 'below 1'),
    ('train.batch_size', 0, '1 or more'),
    ('train.loss', 'bce', 'choose non_saturating'),
    ('train.accumulate', 0, '1 or more'),
    ('train.dtype', 'float16', 'choose float32 or bfloat16'),
    ('train.real_label', 0.5, 'above 0.5'),
    ('checkpoint.keep', 0, '1 or more'),
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
    validation.check(config)
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
  ],
)
def test_impossible_combinations(changes, text):
  config = _get('digits')
  config.train.update(changes)
  with pytest.raises(InputError, match=re.escape(text)):
    validation.check(config)


def test_devices_must_share_the_batch():
  config = _get('digits')
  validation.check_devices(config, 8)
  with pytest.raises(InputError, match=r'not divisible by the 6 devices; choose e\.g\. 66'):
    validation.check_devices(config, 6)
  config.train.accumulate = 4
  validation.check_devices(config, 8)
  with pytest.raises(InputError, match=r'by the 32 devices times train\.accumulate=4; choose e\.g\. 128'):
    validation.check_devices(config, 32)


def test_unknown_keys():
  with pytest.raises(InputError, match='did you mean batch_size'):
    validation.check_key('train.batchsize')
  with pytest.raises(InputError, match='config has seed, data'):
    validation.check_key('lr')
  config = _get('digits')
  with config.unlocked():
    config.train.extra = 1
  with pytest.raises(InputError, match='extra: unknown key'):
    validation.check(config)


def test_runs_from_before_a_key_was_added(tmp_path):
  """Go on as they were trained."""
  config = _get('digits')
  workdir.write_config(tmp_path, config)
  path = tmp_path / 'config.json'
  old = json.loads(path.read_text())
  for key in ('accumulate', 'sync_norm', 'steps_per_dispatch'):
    del old['train'][key]
  path.write_text(json.dumps(old))
  workdir.check_unchanged(tmp_path, config, allow_change=False)
  assert workdir.read_config(tmp_path).train.accumulate == 1
  config.train.accumulate = 2
  with pytest.raises(InputError, match=r'train\.accumulate was 1 and is 2'):
    workdir.check_unchanged(tmp_path, config, allow_change=False)
