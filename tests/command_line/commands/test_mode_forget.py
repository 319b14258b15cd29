"""Forgetting from the command line, with a fake classifier."""

import json
import shutil

import numpy as np
import pytest

from dcgan_jax.evaluation import extractors


@pytest.fixture
def by_brightness(monkeypatch):
  """A fake classifier: images that are brighter at the top are a 3, others a 5."""

  def look(images):
    above, below = images[:, :4].mean((1, 2, 3)), images[:, 4:].mean((1, 2, 3))
    return {'probabilities': np.eye(10)[np.where(above > below, 3, 5)]}

  monkeypatch.setattr(
    extractors, 'classifier_extractor', lambda *_: extractors.Extractor('classifier', '', look)
  )


def test_from_the_flags_to_the_files(call_main, by_brightness, untrained, tmp_path):
  folder = shutil.copytree(untrained, tmp_path / 'run')
  flags = ['--class=5', '--num=100', '--seed=4', '--layer=1', '--drop=2']
  status, printed, error = call_main('--mode=forget', f'--workdir={folder}', *flags)
  assert (status, error) == (0, '') and printed.endswith(f'{folder}/forget_5.json and .png\n')
  assert f'step 0 of {folder}, seed 4, 100 samples' in printed and '2 of 6 maps of hidden layer 1' in printed
  report = json.loads((folder / 'forget_5.json').read_text())
  assert (report['class'], report['layer'], report['maps'], report['dropped']) == ('5', 1, 6, 2)
  assert (folder / 'forget_5.png').stat().st_size > 5000


def test_a_class_that_is_not_there_is_one_line(refused, untrained):
  assert 'class=cat: no such class' in refused('--mode=forget', f'--workdir={untrained}', '--class=cat')
  assert '--class is missing: give one of 0, 1' in refused('--mode=forget', f'--workdir={untrained}')
