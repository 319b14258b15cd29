import json

import numpy as np
import pytest
from conftest import untrained_run
from PIL import Image

from dcgan_jax.analysis import forget
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run that has not learned yet, to which results are written."""
  return untrained_run(tmp_path_factory.mktemp('runs') / 'run')


@pytest.fixture
def by_brightness(monkeypatch):
  """A stand-in for the classifier: images that are brighter above are 3, others 5."""

  def look(images):
    above, below = images[:, :4].mean((1, 2, 3)), images[:, 4:].mean((1, 2, 3))
    return {'probabilities': np.eye(10)[np.where(above > below, 3, 5)]}

  extractor = extractors.Extractor('classifier', '', look)
  monkeypatch.setattr(extractors, 'of_classifier', lambda *_: extractor)


@pytest.mark.slow
def test_a_class_is_forgotten(folder, by_brightness, capsys):
  forget.run(folder, 200, 0, 'last', '3', None, None)
  report = json.loads((folder / 'forget_3.json').read_text())
  assert report['layer'] == 0 and report['maps'] == 8 and 0 < report['dropped'] < 8
  assert report['shares']['before'][3] + report['shares']['before'][5] == pytest.approx(1)
  assert report['still']['after'][0] is None and report['still']['after'][3] < report['still']['random'][3]
  assert '> 3' in capsys.readouterr().out
  with Image.open(folder / 'forget_3.png') as picture:
    assert picture.size[0] > 800


@pytest.mark.parametrize(
  ('name', 'layer', 'drop', 'text'),
  [
    ('cat', None, None, 'class=cat: no such class; the classes of the data are: 0, 1, 2'),
    (None, None, None, '--class is missing: give one of 0, 1, 2'),
    ('3', 2, None, 'layer=2: the hidden layers of this generator are 0 to 1'),
    ('3', 1, 7, 'drop=7: layer 1 has 6 maps'),
    ('4', 1, 2, 'class=4: 0 of 64 samples look like it'),
  ],
)
def test_bad_input_to_forget(folder, by_brightness, name, layer, drop, text):
  with pytest.raises(InputError) as error:
    forget.run(folder, 64, 0, 'last', name, layer, drop)
  assert text in str(error.value)
