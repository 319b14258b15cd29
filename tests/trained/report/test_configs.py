"""Differences of configs, and the command that makes a run again."""

import dataclasses
import shlex
import sys

import pytest
from conftest import ROOT

from configs import cifar10_32, digits, image_folder, svhn
from dcgan_jax import settings
from dcgan_jax.command_line import parsing, shared
from dcgan_jax.trained.report import configs

PRESETS = settings.presets()


def test_differences_are_in_the_order_of_the_last():
  a, b = {'x': 1, 'y': (2, 3), 'z': 0}, {'z': 0, 'y': (2, 4), 'x': 5, 'new': True}
  assert configs.differences([a, b]) == [
    ('y', ('(2,3)', '(2,4)')),
    ('x', ('1', '5')),
    ('new', ('', 'True')),
  ]
  assert configs.differences([a, dict(a), a | {'x': 2}]) == [('x', ('1', '1', '2'))]
  assert configs.differences([a, a]) == []
  # A damaged run has no settings, and differs from no other.
  assert configs.differences([a, {}, a]) == []
  assert configs.differences([a, {}, a | {'x': 2}]) == [('x', ('1', 'unknown', '2'))]


@pytest.mark.parametrize(('module', 'name'), [(digits, 'digits'), (svhn, 'svhn'), (cifar10_32, 'cifar10_32')])
def test_a_preset_is_nearest_to_itself(module, name):
  assert configs.nearest(PRESETS, settings.flat(module.get_config().to_dict())) == name


@pytest.mark.filterwarnings(r'ignore:the load_module\(\) method:DeprecationWarning')  # in ml_collections
def test_the_command_makes_the_same_settings(monkeypatch):
  monkeypatch.chdir(ROOT)
  config = image_folder.get_config()
  config.data.source = "folder:/a b/it's <here>"
  config.data.image_size = (64,)
  config.generator.dense_widths = (30,)
  config.generator_optimizer.learning_rate = 1e-5
  config.train.augment = 'color,cutout'
  config.log.tensorboard = False
  chosen = settings.check(config)
  values = settings.flat(dataclasses.asdict(chosen))
  name = configs.nearest(PRESETS, values)
  parts = configs.command(name, PRESETS[name], values, 'runs/a b')
  assert len(parts) < 12 and parts[0] == 'python main.py'
  _, *argv = shlex.split(' '.join(parts))
  monkeypatch.setattr(sys, 'argv', argv)  # from which ml_collections takes what is changed
  parsed = parsing.parse('train', argv)
  assert shared.chosen_settings(parsed) == chosen and parsed.workdir == 'runs/a b'
