"""Images that are no ordinary pictures, from the file to the samples: transparent ones, and arrays."""

import json

import jax
import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import dcgan_jax
from dcgan_jax import experiment, pixels, settings
from dcgan_jax.analysis import probe
from dcgan_jax.data import cache
from dcgan_jax.journal import checkpoints, workdir


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def lenient():
  """Lets libraries mix dtypes, as they do in a process of their own."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def _blobs(count, channels, low, high, dtype):
  """Returns images of two classes, bright on the left or on the right, and their classes."""
  random, classes = np.random.default_rng(0), np.arange(count) % 2
  x = random.uniform(0, 0.3, (count, 8, 8, channels))
  x[classes == 0, :, :4] += 0.6
  x[classes == 1, :, 4:] += 0.6
  return (low + (high - low) * x).astype(dtype), classes


KINDS = {
  'uint16': ('uint16', (), (0, 65_535)),
  'float32': ('float32', (-3.0, 5.0), (-3.0, 5.0)),
  'float64': ('float64', (0.0, 1.0), (0.0, 1.0)),
}


def _train(call_main, source, folder, channels, *flags):
  steps = ['--config.train.num_steps=2', '--config.sample.every_steps=1', '--config.sample.num=4']
  status, printed, error = call_main(
    *TINY, *steps, f'--config.data.source={source}', f'--config.data.channels={channels}', *flags,
    f'--workdir={folder}',
  )  # fmt: skip
  assert status == 0, error
  return printed


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_five_channels_are_trained_and_sampled_in_their_dtype_and_range(kind, tmp_path, call_main, lenient):
  dtype, value_range, (low, high) = KINDS[kind]
  images, _ = _blobs(100, 5, low, high, dtype)
  np.save(tmp_path / 'x.npy', images)
  flags = [f'--config.data.dtype={dtype}', f'--config.data.value_range={value_range}']
  flags += ['--config.train.augment=translation,cutout', '--config.data.flip=True']
  _train(call_main, f'npy:{tmp_path}/x.npy', tmp_path / 'run', 5, *flags)
  with Image.open(tmp_path / 'run/samples/step_00000002.png') as picture:
    assert picture.mode == 'L' and picture.size == (9 * (2 * 26 + 6), 9 * (2 * 17 + 6))  # enlarged to 512
  for out in ('s.npy', 's.npz', 's.png', 'pictures'):
    status, _, error = call_main(
      '--mode=sample', f'--workdir={tmp_path}/run', '--num=6', f'--out={tmp_path / out}'
    )
    assert status == 0, error
  made = np.load(tmp_path / 's.npy')
  assert made.dtype == dtype and made.shape == (6, 8, 8, 5)
  assert made.min() >= low and made.max() <= high and made.std() > 0
  np.testing.assert_array_equal(made, np.load(tmp_path / 's.npz')['x'])
  from_python = dcgan_jax.load(tmp_path / 'run').sample(6)
  assert from_python.dtype == dtype
  np.testing.assert_array_equal(made, from_python)
  with Image.open(tmp_path / 'pictures' / '00003.png') as tiles:
    expected = pixels.of(dtype, value_range).in_eight_bits(made[3, :, :, 1])
    np.testing.assert_array_equal(np.asarray(tiles)[:8, 9:17], expected)


@pytest.mark.slow
def test_arrays_are_evaluated_and_probed(tmp_path, call_main, refused, monkeypatch, lenient):
  """Takes an .npz with classes through the scores in training, and every mode that looks at images."""
  images, classes = _blobs(400, 2, 0, 4095, 'uint16')
  np.savez(tmp_path / 'x.npz', x=images, y=classes)
  flags = ['--config.data.dtype=uint16', '--config.data.value_range=(0,4095)', '--config.data.classes=2']
  flags += ['--config.eval.every_steps=2', '--config.eval.num=100']
  _train(call_main, f'npy:{tmp_path}/x.npz', tmp_path / 'run', 2, *flags)
  rows = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
  assert any('classifier_frechet_distance' in row for row in rows)
  for arguments in (
    ['--mode=evaluate', '--num=60'],
    ['--mode=walk', f'--out={tmp_path}/walk.png'],
    ['--mode=walk', '--class=all', f'--out={tmp_path}/walk.gif'],
    ['--mode=sample', '--class=1', '--num=60', f'--out={tmp_path}/given.npy'],
    ['--mode=evaluate', f'--images={tmp_path}/given.npy'],
  ):
    status, _, error = call_main(*arguments, f'--workdir={tmp_path}/run')
    assert status == 0, error
  monkeypatch.setattr(probe, 'LABELS', 100)
  status, printed, error = call_main('--mode=probe', f'--workdir={tmp_path}/run')
  assert status == 0 and 'pixels' in printed, error
  evaluate = ['--mode=evaluate', f'--workdir={tmp_path}/run']
  assert 'takes images of 1 or 3 channels' in refused(*evaluate, '--features=inception')
  np.save(tmp_path / 'bytes.npy', images.astype(np.uint8))
  assert 'this run has uint16 (N, 8, 8, 2)' in refused(*evaluate, f'--images={tmp_path}/bytes.npy')
  np.save(tmp_path / 'large.npy', images + np.uint16(4000))
  assert 'not from 0 to 4095' in refused(*evaluate, f'--images={tmp_path}/large.npy')
  assert 'has pictures of 8 bits' in refused(*evaluate, f'--images={tmp_path}')


def _glass(folder, count=30):
  """Writes transparent pictures of 8x8 pixels."""
  folder.mkdir()
  random = np.random.default_rng(0)
  for i in range(count):
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[2:6, 2:6] = (*random.integers(0, 256, 3), random.integers(1, 256))
    Image.fromarray(picture).save(folder / f'{i}.png')


@pytest.mark.slow
def test_transparent_pictures_are_learned_and_given_out_as_pngs(tmp_path, call_main, lenient):
  _glass(tmp_path / 'glass')
  flags = ['--config.train.augment=color', '--config.log.tensorboard=True']
  _train(call_main, f'folder:{tmp_path}/glass', tmp_path / 'run', 4, *flags)
  with Image.open(tmp_path / 'run/samples/step_00000002.png') as picture:
    assert picture.mode == 'RGB'
  parts = experiment.build(workdir.read_settings(tmp_path / 'run'))
  real = cache.load(parts.source, 'glass')
  assert real.shape == (30, 8, 8, 4) and (real[..., :3] <= real[..., 3:]).all()
  assert parts.gan.pixels == parts.fit.pixels == pixels.Pixels(transparent=True)
  for out in ('s.npy', 'pngs', 'grid.png'):
    status, _, error = call_main(
      '--mode=sample', f'--workdir={tmp_path}/run', '--num=6', f'--out={tmp_path / out}'
    )
    assert status == 0, error
  made = np.load(tmp_path / 's.npy')
  with Image.open(tmp_path / 'pngs' / '00003.png') as picture:
    assert picture.mode == 'RGBA'
    np.testing.assert_array_equal(np.asarray(picture), made[3])
  with Image.open(tmp_path / 'grid.png') as picture:
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


def test_a_range_on_the_command_line(tmp_path, refused):
  """Reads integers and floats."""
  np.save(tmp_path / 'x.npy', np.full((9, 8, 8), 2.5, np.float32))
  flags = [f'--config.data.source=npy:{tmp_path}/x.npy', '--config.data.dtype=float32']
  for given in ('(0,2)', '(0.0,2.0)'):
    printed = refused(*TINY, *flags, f'--config.data.value_range={given}', f'--workdir={tmp_path}/run')
    assert 'image 0 has 2.5 at row, column, channel (0, 0, 0); all numbers must be from 0 to 2' in printed


def test_a_run_without_these_keys_is_one_of_bytes(untrained):
  content = json.loads((untrained / 'config.json').read_text())
  del content['data']['dtype'], content['data']['value_range']
  parts = experiment.build(settings.from_dict(content))
  assert parts.gan.pixels == pixels.BYTES
  assert checkpoints.steps(untrained / 'checkpoints') == [0]
