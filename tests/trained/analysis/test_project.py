"""Projections of images with a run, and what is written of them."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.analysis import project
from dcgan_jax.trained.analysis.inversion import Search

SEARCH = Search(40, 2)


@pytest.fixture(scope='module')
def opened(untrained):
  run = experiment.open_run(untrained, 'last')
  return run, sampling.sampler_of(run)


@pytest.fixture(scope='module')
def images(opened):
  """Five images of the generator, and five of noise."""
  noise = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
  return np.concatenate([opened[1].sample(5, seed=9), noise])


@pytest.fixture(scope='module')
def found(opened, images):
  with jax.numpy_dtype_promotion('standard'):  # Adam mixes int32 with float32.
    return project.project(*opened, images, SEARCH, seed=3)


@pytest.mark.slow
def test_what_the_generator_cannot_make_has_a_higher_score(found):
  assert found.score[5:].min() > 5 * found.score[:5].max()
  assert found.pixel_error[5:].min() > 5 * found.pixel_error[:5].max()


@pytest.mark.slow(2)
def test_errors_are_those_of_the_latents(opened, images, found):
  made = opened[1].from_latents(found.z)
  np.testing.assert_array_equal(found.made, made)
  differences = made.astype(float) - images
  np.testing.assert_allclose(found.pixel_error, np.abs(differences).mean((1, 2, 3)), rtol=1e-5)
  # The images are rounded to 256 levels; the residual is not.
  np.testing.assert_allclose(
    np.sqrt(found.residual), np.sqrt(np.square(differences / 127.5).mean((1, 2, 3))), atol=0.01
  )
  np.testing.assert_allclose(found.score, found.residual + found.feature_error, rtol=1e-6)


@pytest.mark.slow(2)
def test_a_picture_has_pairs_with_their_numbers(images, found):
  picture = project.draw(images, found, np.array([7, 0]))
  pairs = pictures.zoom(np.concatenate([images[[7, 0]], found.made[[7, 0]]], 2), 192)
  _, height, width, _ = pairs.shape
  assert picture.shape == (height + 16 + 12, 2 * width + 18, 1)
  np.testing.assert_array_equal(picture[6 : 6 + height, 6 : 6 + width], pairs[0])
  np.testing.assert_array_equal(picture[6 : 6 + height, 12 + width : 12 + 2 * width], pairs[1])
  assert (picture[6 + height :] < 128).any()


@pytest.fixture
def run(untrained, found, images, monkeypatch, tmp_path):
  """A function that runs the mode on the images with a projection that is done already."""
  monkeypatch.setattr(project, 'project', lambda *given: found)
  np.savez(tmp_path / 'x.npz', x=images)

  def call(out='out', classes=None, source='x.npz'):
    project.run(untrained, 'last', str(tmp_path / out), str(tmp_path / source), 64, 3, classes, SEARCH)
    return tmp_path / out

  return call


def test_what_is_written(run, found, images, capsys):
  folder = run()
  assert sorted(path.name for path in folder.iterdir()) == [
    'project.json',
    'project.png',
    'ranked.png',
    'z.npy',
  ]
  z = np.load(folder / 'z.npy')
  assert z.dtype == np.float32 and z.shape == (10, 10)
  np.testing.assert_array_equal(z, found.z)
  report = json.loads((folder / 'project.json').read_text())
  assert [row['file'] for row in report['images']] == [f'x.npz[{i}]' for i in range(10)]
  np.testing.assert_allclose([row['anomaly_score'] for row in report['images']], found.score)
  np.testing.assert_allclose(report['mean']['pixel_error'], found.pixel_error.mean(), rtol=1e-6)
  assert (report['steps'], report['starts'], report['seed'], report['step']) == (40, 2, 3, 0)
  for name, order in (('project', range(10)), ('ranked', np.argsort(-found.score, kind='stable'))):
    with Image.open(folder / f'{name}.png') as picture:
      np.testing.assert_array_equal(np.asarray(picture), project.draw(images, found, np.array(order))[..., 0])
  assert '10 images by step 0 of ' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ({'out': 'x.npz'}, r'^out=.*x\.npz: is a file; choose a folder'),
    ({'classes': '3'}, '^class=3: this generator is unconditional'),
    ({'source': 'y.npz'}, '^images=.*y.npz: no such file or folder'),
  ],
)
def test_bad_input_is_one_line(run, arguments, text):
  with pytest.raises(InputError, match=text):
    run(**arguments)
