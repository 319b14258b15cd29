import importlib.util

import pytest

from dcgan_jax.errors import InputError
from dcgan_jax.trained.targets import names


@pytest.fixture
def installed(monkeypatch):
  """Lets every compiler be found."""
  monkeypatch.setattr(importlib.util, 'find_spec', lambda module: module)


def test_targets(installed):
  assert names.parse('h100') == names.Target('h100', 'h100', 'gpu', (1,), 81_559)
  assert names.parse('h100:8').devices == 8
  assert names.parse('v5e:2x4') == names.Target('v5e:2x4', 'v5e', 'tpu', (2, 4), 16_384)
  assert names.parse('v5p:2x2x1').devices == 4 and names.parse('v6e:4x4').memory == 32_768
  cpu = names.parse('cpu')
  assert cpu.platform == 'cpu' and cpu.devices == 1 and cpu.memory > 100


@pytest.mark.parametrize(
  ('name', 'choices'),
  [
    ('', 'choose cpu, h100, h100:N'),
    ('h200', 'choose cpu, h100, h100:N'),
    ('cpu:2', 'choose cpu, h100, h100:N'),
    ('h100:9', 'choose h100 or h100:2 to h100:8'),
    ('h100:', 'choose h100 or h100:2 to h100:8'),
    ('v5e', 'choose v5e:1x1, v5e:2x2'),
    ('v5e:3x3', 'choose v5e:1x1, v5e:2x2'),
    ('v5p:2x2', 'choose v5p:2x2x1, '),
  ],
)
def test_wrong_targets_are_refused(refused, installed, name, choices):
  error = refused('--mode=summary', '--config=configs/digits.py', f'--target={name}')
  assert error.startswith(f'error: --target={name}: choose ') and choices in error


def test_a_missing_compiler_is_named(refused, monkeypatch):
  monkeypatch.setattr(names, '_is_installed', lambda module: False)
  flags = ['--mode=summary', '--config=configs/digits.py']
  assert "pip install -e '.[aot]'" in refused(*flags, '--target=v5e:2x4')
  assert "pip install -e '.[aotcuda]'" in refused(*flags, '--target=h100')


def test_a_module_is_found_or_not():
  assert names._is_installed('jax.numpy') and not names._is_installed('no_such_package.part')


def test_num_is_of_targets_only(refused):
  assert '--num=5: is given without --target' in refused(
    '--mode=summary', '--config=configs/digits.py', '--num=5'
  )


def test_unknown_memory(monkeypatch):
  def sysconf(name):
    raise ValueError(name)

  monkeypatch.setattr('os.sysconf', sysconf)
  assert names.parse('cpu').memory == 0


def test_refusals_are_errors_of_the_user():
  with pytest.raises(InputError, match='--target=h200'):
    names.parse('h200')
