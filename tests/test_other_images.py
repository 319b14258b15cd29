"""Images other than ordinary pictures, from file to samples: transparent ones, and arrays."""

import json

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import dcgan_jax
from configs import digits
from dcgan_jax import settings
from dcgan_jax.core import pixels
from dcgan_jax.data import cache
from dcgan_jax.evaluation import classifier, extractors
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.runs import experiment
from dcgan_jax.trained.analysis import forget, probe, svm


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))


def _blobs(count, channels, low, high, dtype):
  """Returns images of two classes, bright on the left or on the right, and their classes."""
  random, classes = np.random.default_rng(0), np.arange(count) % 2
  x = random.uniform(0, 0.3, (count, 8, 8, channels))
  x[classes == 0, :, :4] += 0.6
  x[classes == 1, :, 4:] += 0.6
  return (low + (high - low) * x).astype(dtype), classes


def _train(call_main, source, folder, channels, *flags):
  """Trains for two steps; returns the output."""
  steps = ['--config.train.num_steps=2', '--config.sample.every_steps=2', '--config.sample.num=4']
  source = [f'--config.data.source={source}', f'--config.data.channels={channels}']
  status, printed, error = call_main(*TINY, *steps, *source, *flags, f'--workdir={folder}')
  assert status == 0, error
  return printed


@pytest.mark.slow
@pytest.mark.parametrize(('dtype', 'low', 'high'), [('uint16', 0, 65_535), ('float64', -3.0, 5.0)])
def test_five_channels_are_learned_and_given_out_in_their_dtype_and_range(
  dtype, low, high, tmp_path, call_main, standard_promotion
):
  images, _ = _blobs(100, 5, low, high, dtype)
  np.save(tmp_path / 'x.npy', images)
  flags = [f'--config.data.dtype={dtype}', f'--config.data.value_range=({low},{high})']
  flags += ['--config.train.augment=translation,cutout', '--config.data.flip=True']
  _train(call_main, f'npy:{tmp_path}/x.npy', tmp_path / 'run', 5, *flags)
  with Image.open(tmp_path / 'run/samples/step_00000002.png') as picture:
    assert picture.mode == 'L' and picture.size == (9 * (2 * 26 + 6), 9 * (2 * 17 + 6))  # enlarged to 512
  status, _, error = call_main(
    '--mode=sample', f'--workdir={tmp_path}/run', '--num=6', f'--out={tmp_path}/s.npy'
  )
  assert status == 0, error
  made = np.load(tmp_path / 's.npy')
  assert made.dtype == dtype and made.shape == (6, 8, 8, 5)
  assert made.min() >= low and made.max() <= high and made.std() > 0


@pytest.mark.slow
def test_arrays_with_classes_are_scored_and_looked_at(
  tmp_path, call_main, refused, monkeypatch, standard_promotion
):
  """Takes an .npz through the scores in training, and the modes that look at images."""
  monkeypatch.setattr(classifier, 'STEPS', 15)
  images, classes = _blobs(100, 2, 0, 4095, 'uint16')
  np.savez(tmp_path / 'x.npz', x=images, y=classes)
  flags = ['--config.data.dtype=uint16', '--config.data.value_range=(0,4095)']
  flags += ['--config.eval.every_steps=2', '--config.eval.num=100']
  folder = tmp_path / 'run'
  _train(call_main, f'npy:{tmp_path}/x.npz', folder, 2, *flags)
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert any('classifier_frechet_distance' in row for row in rows)
  np.save(tmp_path / 'given.npy', images[:12])
  evaluate = ['--mode=evaluate', f'--workdir={folder}']
  status, _, error = call_main(*evaluate, f'--images={tmp_path}/given.npy')
  assert status == 0, error
  report = json.loads((folder / 'evaluation.json').read_text())
  assert report['num'] == 12 and report['classes']['names'] == ['0', '1']
  assert 'takes images of 1 or 3 channels' in refused(*evaluate, '--features=inception')
  np.save(tmp_path / 'bytes.npy', images.astype(np.uint8))
  assert 'this run has uint16 (N, *(8, 8, 2))' in refused(*evaluate, f'--images={tmp_path}/bytes.npy')
  np.save(tmp_path / 'large.npy', images + np.uint16(4000))
  assert 'not from 0 to 4095' in refused(*evaluate, f'--images={tmp_path}/large.npy')
  (tmp_path / 'pictures').mkdir()
  Image.new('L', (8, 8)).save(tmp_path / 'pictures' / '0.png')
  assert 'has pictures of 8 bits' in refused(*evaluate, f'--images={tmp_path}/pictures')


@pytest.mark.slow
def test_the_discriminator_and_the_maps_of_arrays_are_looked_at(tmp_path, monkeypatch, capsys):
  images, classes = _blobs(60, 2, -1.0, 1.0, 'float32')
  np.savez(tmp_path / 'x.npz', x=images, y=classes)
  config = digits.get_config()
  config.data.source, config.data.channels, config.data.image_size = f'npy:{tmp_path}/x.npz', 2, (8, 8)
  config.data.dtype, config.data.value_range = 'float32', (-1.0, 1.0)
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.generator.initializer, config.latent.size = 'glorot', 10
  chosen, folder = settings.check(config), tmp_path / 'run'
  workdir.write_settings(folder, chosen)
  saver = checkpoints.Saver(folder / 'checkpoints', 1)
  saver.save(experiment.build(chosen).first_state())
  saver.close()
  monkeypatch.setattr(probe, 'LABELS', 20)
  monkeypatch.setattr(probe, 'DRAWS', 2)
  monkeypatch.setattr(svm, 'COSTS', (0.1,))
  probe.run(folder, None, 'last', None)
  assert json.loads((folder / 'probe.json').read_text())['accuracy']['pixels']['all']['mean'] == 1.0

  def look(images):
    assert images.dtype == np.float32 and images.shape[1:] == (8, 8, 2)
    above, below = images[:, :4].mean((1, 2, 3)), images[:, 4:].mean((1, 2, 3))
    return {'probabilities': np.eye(2)[np.where(above > below, 0, 1)]}

  monkeypatch.setattr(
    extractors, 'classifier_extractor', lambda *_: extractors.Extractor('classifier', '', look)
  )
  forget.run(folder, 100, 0, 'last', '0', None, None)
  with Image.open(folder / 'forget_0.png') as picture:
    assert picture.size[0] > 800


def _glass(folder, count=30):
  """Writes transparent pictures of 8x8 pixels."""
  folder.mkdir()
  random = np.random.default_rng(0)
  for i in range(count):
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[2:6, 2:6] = (*random.integers(0, 256, 3), random.integers(1, 256))
    Image.fromarray(picture).save(folder / f'{i}.png')


@pytest.mark.slow
def test_transparent_pictures_are_learned_and_given_out_as_pngs(tmp_path, call_main, standard_promotion):
  _glass(tmp_path / 'glass')
  flags = ['--config.train.augment=color', '--config.log.tensorboard=True']
  _train(call_main, f'folder:{tmp_path}/glass', tmp_path / 'run', 4, *flags)
  with Image.open(tmp_path / 'run/samples/step_00000002.png') as picture:
    assert picture.mode == 'RGB'
  parts = experiment.build(workdir.read_settings(tmp_path / 'run'))
  real = cache.load(parts.source, 'glass')
  assert real.shape == (30, 8, 8, 4) and (real[..., :3] <= real[..., 3:]).all()
  assert parts.gan.pixels == parts.fit.pixels == pixels.Pixels(transparent=True)
  made = dcgan_jax.load(tmp_path / 'run').sample(6)
  for arguments in (
    ['--mode=sample', '--num=6', f'--out={tmp_path}/pngs'],
    ['--mode=walk', '--points=0,1', f'--out={tmp_path}/walk.png'],
  ):
    status, _, error = call_main(*arguments, f'--workdir={tmp_path}/run')
    assert status == 0, error
  with Image.open(tmp_path / 'pngs' / '00003.png') as picture:
    assert picture.mode == 'RGBA'
    np.testing.assert_array_equal(np.asarray(picture), made[3])
  with Image.open(tmp_path / 'walk.png') as picture:
    assert picture.mode == 'RGB'
  kinds = parts.gan.pixels
  kept = kinds.keep(made)
  assert (kept[..., :3] <= kept[..., 3:]).all()
  np.testing.assert_array_equal(kinds.restore(kept), made)


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    (['--config.data.source=npy:nowhere.npy'], 'No such file or directory'),
    (['--config.data.dtype=float32', '--config.data.source=npy:x.npy'], 'needs the lowest number'),
    (['--config.data.source=npy:'], 'choose digits, tfds:NAME'),
    (['--config.data.channels=2'], 'the digits are gray'),
  ],
)
def test_bad_flags_are_one_line(flags, text, refused, tmp_path):
  assert text in refused(*TINY, *flags, f'--workdir={tmp_path}/run')
  assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_a_range_on_the_command_line(tmp_path, call_main):
  """Reads integers and floats."""
  np.save(tmp_path / 'x.npy', np.full((9, 8, 8), 2.5, np.float32))
  flags = [f'--config.data.source=npy:{tmp_path}/x.npy', '--config.data.dtype=float32']
  for given in ('(0,2)', '(0.0,2.0)'):
    status, _, printed = call_main(
      *TINY, *flags, f'--config.data.value_range={given}', f'--workdir={tmp_path}/run'
    )
    assert status == 2
    assert 'image 0 has 2.5 at row, column, channel (0, 0, 0); all numbers must be from 0 to 2' in printed


def test_a_run_without_these_keys_is_one_of_bytes(untrained):
  content = json.loads((untrained / 'config.json').read_text())
  del content['data']['dtype'], content['data']['value_range']
  parts = experiment.build(settings.from_dict(content))
  assert parts.gan.pixels == pixels.BYTES
  assert checkpoints.steps(untrained / 'checkpoints') == [0]
