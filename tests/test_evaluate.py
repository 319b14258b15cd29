"""`--mode=evaluate`, and the classifier that it learns."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY, environment
from PIL import Image

from dcgan_jax import checkpoints, data, metrics, programs
from dcgan_jax.commands import extractors
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, inception

FIT = data.Fit((8, 8), 1)


def _main(*arguments, devices=1):
  command = [sys.executable, 'main.py', *map(str, arguments)]
  return subprocess.run(
    command, cwd=ROOT, env=environment(devices, optimized=True), capture_output=True, text=True, check=False
  )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run that is scored after 4 and 8 steps."""
  folder = tmp_path_factory.mktemp('runs') / 'run'
  scored = ['--config.eval.every_steps=4', '--config.eval.num=300']
  done = _main(*TINY, *scored, '--config.train.num_steps=8', f'--workdir={folder}')
  assert done.returncode == 0, done.stderr
  (folder / 'said.txt').write_text(done.stdout)
  return folder


@pytest.fixture(scope='module')
def digits():
  images, _ = data.load(data.Digits(FIT), 'digits')
  return images


@pytest.fixture(scope='module')
def of_run(trained):
  """What the command found and printed."""
  done = _main('--mode=evaluate', f'--workdir={trained}', '--num=300')
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((trained / 'evaluation.json').read_text()), done.stdout


def test_a_run_is_scored(trained, of_run):
  report, printed = of_run
  assert (
    report['num'] == 300 and 'step 8' in report['images'] and '1797 images of digits' in report['against']
  )
  assert '% right on held-out images; not comparable to FID' in report['protocol']
  assert set(report['scores']) == {
    'classifier_frechet_distance',
    'precision',
    'recall',
    'density',
    'coverage',
  }
  assert abs(sum(report['classes']['generated']) - 1) < 1e-9 and len(report['classes']['names']) == 10
  assert 'classifier frechet distance' in printed and 'missing: ' in printed
  with Image.open(trained / 'evaluation.png') as picture:
    assert picture.size[0] > 800


def test_scores_during_training_are_those_of_the_command(trained, of_run):
  rows = [row for row in metrics.read(trained / 'metrics.jsonl') if 'coverage' in row]
  assert [row['step'] for row in rows] == [4, 8] and 'step 4  classifier frechet distance' in (
    trained / 'said.txt'
  ).read_text()
  report, _ = of_run
  scores = report['scores'] | {'missing_classes': len(report['classes']['missing'])}
  assert set(rows[1]) == {'step', *scores}
  for name in ('classifier_frechet_distance', 'missing_classes'):
    np.testing.assert_allclose(rows[1][name], scores[name], rtol=1e-5)  # of the same 300 latents
  best = min(rows, key=lambda row: row['classifier_frechet_distance'])
  assert checkpoints.find(trained / 'checkpoints', 'best') == best['step']
  with Image.open(trained / 'scores.png') as picture:
    assert picture.size[0] > 600


def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(trained, tmp_path):
  folder = shutil.copytree(trained, tmp_path / 'run')
  rates = [f'--config.{name}_optimizer.learning_rate=1e38' for name in ('generator', 'discriminator')]
  done = _main(*TINY, *rates, '--allow_config_change', f'--workdir={folder}')
  assert done.returncode == 2 and done.stderr.count('error: ') == 1
  assert 'diverged: at step 12 numbers of generator and discriminator are not finite' in done.stderr
  assert 'the last good checkpoint is of step 8; try lower learning rates' in done.stderr
  assert checkpoints.steps(folder / 'checkpoints')[-1] == 8
  assert all(row['step'] <= 8 for row in metrics.read(folder / 'metrics.jsonl'))


def _score(trained, path, images):
  np.savez(path, x=images)
  done = _main('--mode=evaluate', f'--workdir={trained}', f'--images={path}', devices=3)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((trained / 'evaluation.json').read_text())


def test_scores_are_in_order(trained, of_run, digits, tmp_path):
  """Half of the real images are near all of them, with a class dropped farther, and noise is farthest."""
  labels, _ = data.Digits(FIT).labels()
  half = _score(trained, tmp_path / 'half.npz', digits[::2])
  dropped = _score(trained, tmp_path / 'dropped.npz', digits[::2][labels[::2] > 2])
  noise = _score(
    trained, tmp_path / 'noise.npz', np.random.default_rng(0).integers(0, 256, (400, 8, 8, 1), np.uint8)
  )
  distances = [r['scores']['classifier_frechet_distance'] for r in (half, dropped, noise)]
  assert 20 * distances[0] < distances[1] < distances[2] / 2
  assert half['scores']['precision'] > 0.95 and noise['scores']['precision'] < 0.3
  assert half['scores']['coverage'] > 0.9 > 0.8 > dropped['scores']['coverage'] > noise['scores']['coverage']
  assert half['classes']['missing'] == [] and dropped['classes']['missing'] == ['0', '1', '2']
  assert distances[0] < of_run[0]['scores']['classifier_frechet_distance']


def test_a_folder_of_pictures_is_scored(trained, of_run, digits, tmp_path):
  for i in range(40):
    Image.fromarray(digits[i, :, :, 0]).resize((20, 20)).save(tmp_path / f'{i}.png')
  done = _main('--mode=evaluate', f'--workdir={trained}', f'--images={tmp_path}')
  assert done.returncode == 0 and f'40 images of {tmp_path}' in done.stdout


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['--num=5'], 'scores take 10 images or more'),
    (['--features=inception', '--weights=/nonexistent'], 'No such file'),
    (['--features=inception', '--weights=README.md'], 'is not pt_inception-2015-12-05-6726825d.pth (SHA-256'),
    (['--features=inception'], '--mode=evaluate gets them by --download'),
    (['--images=README.md'], 'is no folder and no .npz of images'),
    (['--images={small}'], 'has 4 images; scores take 10'),
    (['--images={other}'], 'uint8 (20, 9, 8, 1); this run has uint8 (N, *(8, 8, 1))'),
    (['--checkpoint=best-ever'], 'choose last, best or the number of a step'),
    (['--checkpoint=7'], 'no checkpoint of step 7'),
  ],
)
def test_bad_input_is_one_line(trained, tmp_path, arguments, text):
  paths = {'small': tmp_path / 'small.npz', 'other': tmp_path / 'other.npz'}
  np.savez(paths['small'], x=np.zeros((4, 8, 8, 1), np.uint8))
  np.savez(paths['other'], x=np.zeros((20, 9, 8, 1), np.uint8))
  done = _main('--mode=evaluate', f'--workdir={trained}', *(a.format(**paths) for a in arguments))
  assert done.returncode == 2 and text in done.stderr, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1


def test_a_classifier_that_has_learned_nothing_is_refused(monkeypatch, tmp_path, digits):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(classifier, 'STEPS', 2)
  source = data.Digits(FIT)
  refused = pytest.raises(InputError, match=r'of the held-out images; below 60%')
  with refused, jax.numpy_dtype_promotion('standard'):  # optax mixes int32 with float32
    extractors.of_classifier(source, digits, extractors.Labels(*source.labels()))


def test_labels():
  labels, names = data.Digits(FIT).labels()
  assert len(labels) == 1797 and names == tuple('0123456789') and set(labels) == set(range(10))


def test_labels_of_a_folder_are_its_folders(tmp_path):
  for name in ('cats', 'dogs'):
    (tmp_path / name).mkdir()
    Image.new('L', (8, 8)).save(tmp_path / name / 'a.png')
  labels, names = data.open_folder(tmp_path, FIT).labels()
  assert names == ('cats', 'dogs') and list(labels) == [0, 1]
  with pytest.raises(InputError, match='have no classes'):
    data.open_folder(tmp_path / 'cats', FIT).labels()


def test_labels_of_tfds(tfds_data):
  source = data.open_tfds('mnist', 'test', data.Fit((28, 28), 1))
  labels, names = source.labels()
  assert len(labels) == 10_000 and names == tuple('0123456789')
  assert np.bincount(labels)[:2].tolist() == [980, 1135]  # of MNIST's test set


@pytest.mark.parametrize('devices', [1, 3])
def test_rows_are_mapped_whatever_their_number(devices):
  """Over devices, in batches, the last ones filled up by their own rows."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (programs.AXIS,))

  def function(scale, x):
    return {'double': scale * x, 'mean': jax.numpy.broadcast_to(x.mean(), x.shape)}

  mapped = programs.map_rows(function, mesh)
  for count in (1, 4, 5, 12, 13, 30):
    rows = np.arange(count, dtype=np.float32)
    got = mapped(np.float32(2), rows, 4)
    np.testing.assert_array_equal(got['double'], 2 * rows)
    batches = [np.resize(rows[i : i + 4], 4).mean() for i in range(0, count, 4)]
    np.testing.assert_allclose(got['mean'], np.repeat(batches, 4)[:count])


def test_downloads_are_checked(monkeypatch, tmp_path):
  """By SHA-256, before the file gets its name."""
  (tmp_path / 'server').write_bytes(b'not the weights')
  monkeypatch.setattr(inception, 'URL', (tmp_path / 'server').as_uri())
  with pytest.raises(InputError, match='SHA-256'):
    inception.download(tmp_path / 'cache' / 'weights.pth')
  assert not (tmp_path / 'cache' / 'weights.pth').exists()
  monkeypatch.setattr(inception, 'URL', 'file:///nonexistent')
  with pytest.raises(InputError, match='cannot be downloaded'):
    inception.download(tmp_path / 'cache' / 'weights.pth')
