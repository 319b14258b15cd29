"""The page of configs and keys, which is written from the code."""

import dataclasses
import subprocess
import sys

from conftest import ROOT

from dcgan_jax import settings
from dcgan_jax.settings import table
from docs import configs_and_keys

PAGE = (ROOT / 'docs' / 'configs_and_keys.md').read_text()


def test_the_page_is_what_the_command_writes():
  assert configs_and_keys.page() == PAGE, 'run python -m docs.configs_and_keys'


def test_it_has_every_key_with_its_default_and_help():
  words = ' '.join(PAGE.split())
  defaults = settings.flat(settings.default_config().to_dict())
  for name, text in settings.helps().items():
    value = defaults[name]
    value = value if isinstance(value, str) else repr(value).replace(' ', '')
    assert f'`{name}={value}`' in words and f': {text}' in words.replace('`', ''), name


def test_it_has_the_choices_of_every_key():
  words = ' '.join(PAGE.split())
  assert '`train.batch_size=128`: images per batch, over all devices. *A whole number, at least 1.*' in words
  for field in dataclasses.fields(table.Train):
    choices = field.metadata['rule'].choices
    if choices.startswith('choose ') and ',' not in choices:
      entry = words.split(f'`train.{field.name}=')[1].split('- `')[0]
      assert all(choice in entry for choice in choices.removeprefix('choose ').split(' or ')), field.name


def test_it_has_what_a_preset_changes_alone():
  part = PAGE.split('### `cifar10`\n')[1].split('\n### ')[0]
  assert [line for line in part.splitlines() if line.startswith('- ')] == [
    '- `data`: `source=tfds:cifar10`',
    '- `sample`: `num=128`',
    '- `eval`: `every_steps=1000`',
  ]
  assert '### `base`' not in PAGE and all(
    f'### `{name}`' in PAGE for name in settings.presets() if name != 'base'
  )


def test_it_is_written_without_jax():
  program = "import sys, docs.configs_and_keys as it; it.page(); sys.exit('jax' in sys.modules)"
  subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)
