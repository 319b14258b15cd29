import json

import jax
import numpy as np
import pytest
from conftest import state_of, untrained_run
from PIL import Image

import dcgan_jax
from dcgan_jax.core import layers, norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors
from dcgan_jax.trained.analysis import attribution, forget


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
  monkeypatch.setattr(extractors, 'classifier_extractor', lambda *_: extractor)


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


@pytest.fixture(scope='module')
def told(tmp_path_factory):
  """A run with classes beside every layer and fully connected layers, which samples with its population."""
  keys = {'data.classes': 10, 'generator.condition': 'concat', 'generator.dense_widths': (7, 5)}
  keys |= {'generator.use_bias': True, 'sample.statistics': 'population'}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(norm_statistics, 'SAMPLES', 200)
    folder = untrained_run(tmp_path_factory.mktemp('runs') / 'told', keys)
    dcgan_jax.load(folder).sample(1)  # It keeps the statistics.
  return folder


def _by_hand(folder, z, statistics, layer, kept):
  """Applies the layers of `told` one after the other; returns the maps of a layer and images, uint8."""
  params = jax.tree.map(np.asarray, state_of(folder, 0).sampling_variables['params'])
  y = z[:, 10:]

  def beside(x):
    shape = (len(x), *(1,) * (x.ndim - 2), 10)
    return np.concatenate([x, np.broadcast_to(y.reshape(shape), (*x.shape[:-1], 10))], -1)

  def apply(x, name, module=None):
    if module is not None:
      return np.asarray(jax.jit(module.apply)({'params': params[name]}, x))
    x = x @ params[name]['kernel']
    return x + np.tile(params[name]['bias'], x.shape[-1] // len(params[name]['bias']))

  def activated(x, name):
    axes = tuple(range(x.ndim - 1))
    mean, var = statistics(name, x.mean(axes), x.var(axes))
    x = (x - mean) / np.sqrt(var + 1e-5) * params[name]['scale'] + params[name]['bias']
    return np.maximum(x, 0)

  x = beside(z[:, :10])
  for i in (1, 2):
    x = beside(activated(apply(x, f'hidden{i}'), f'hidden_norm{i}'))
  maps = [activated(apply(x, 'dense').reshape(len(z), 2, 2, 8), 'norm0')]
  for i, features in ((1, 6), (2, 1)):
    x = beside(maps[-1] * (kept if layer == i - 1 else 1)).astype(np.float32)
    module = layers.ConvTranspose(features, 4, 2, 'same', True, jax.nn.initializers.zeros, np.float32, False)
    x = apply(x, f'conv{i}', module)
    maps.append(activated(x, f'norm{i}') if i == 1 else np.tanh(x))
  return maps[layer], np.rint((maps[-1] + 1) * 127.5)


@pytest.mark.slow
@pytest.mark.parametrize('statistics', [None, 'batch'])
@pytest.mark.parametrize('layer', [0, 1])
def test_the_layer_that_is_changed_is_the_one_that_was_asked_for(told, monkeypatch, layer, statistics):
  looked, weighed = [], []

  def look(images):
    looked.append(images)
    bright = images.mean((1, 2, 3))
    return {'probabilities': np.eye(10)[np.where(bright > np.median(bright), 3, 5)]}

  def responsible(features, of_class):
    weighed.append(features)
    return np.arange(features.shape[1]) - 2.5

  extractor = extractors.Extractor('classifier', '', look)
  monkeypatch.setattr(extractors, 'classifier_extractor', lambda *_: extractor)
  monkeypatch.setattr(attribution, 'responsible', responsible)
  forget.run(told, 64, 3, 'last', '3', layer, 2, statistics)

  sampler = dcgan_jax.load(told)
  population = jax.tree.map(np.asarray, sampler.variables('population')['batch_stats'])

  def used(name, mean, var):
    return (population[name]['mean'], population[name]['var']) if statistics is None else (mean, var)

  z = Latents(10, 'normal', 10).draw(3, 64)
  width = (8, 6)[layer]
  maps, before = _by_hand(told, z, used, layer, np.ones(width))
  kept = np.ones(width)
  kept[-2:] = 0  # what has the largest weights
  _, after = _by_hand(told, z, used, layer, kept)
  np.testing.assert_array_equal(looked[0], sampler.sample(64, 3, statistics))
  np.testing.assert_allclose(weighed[0], maps.mean((1, 2)), atol=1e-5)
  for got, want in zip(looked, (before, after)):
    assert np.abs(got - want).max() <= 1  # of 255, where the rounding differs
  assert np.abs(before - after).max() > 5
  report = json.loads((told / 'forget_3.json').read_text())
  assert report['checkpoint'].endswith(f'64 samples, {statistics or "population"} statistics')
