"""Scores from the command line, and their classifier."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import TINY, start
from PIL import Image

from dcgan_jax import data
from dcgan_jax.data.sources import Digits
from dcgan_jax.records import checkpoints, metrics

FIT = data.Fit((8, 8), 1)
pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.fixture(scope='module')
def scored(digits_classifier, tmp_path_factory):
  """A run scored after 4 and 8 steps."""
  folder = tmp_path_factory.mktemp('runs') / 'run'
  flags = ['--config.eval.every_steps=4', '--config.eval.num=300']
  done = start(*TINY, *flags, '--config.train.num_steps=8', f'--workdir={folder}')
  assert done.returncode == 0, done.stderr
  (folder / 'said.txt').write_text(done.stdout)
  return folder


@pytest.fixture(scope='module')
def digits():
  images, _ = data.load(Digits(FIT), 'digits')
  return images


@pytest.fixture(scope='module')
def of_run(scored):
  """The report of the command and its output."""
  done = start('--mode=evaluate', f'--workdir={scored}', '--num=300')
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((scored / 'evaluation.json').read_text()), done.stdout


@pytest.mark.slow
def test_a_run_is_scored(scored, of_run):
  report, printed = of_run
  assert (
    report['num'] == 300 and 'step 8' in report['images'] and '1797 images of digits' in report['against']
  )
  assert '% right on held-out images; not comparable to FID' in report['about']
  how = 'samples=300 neighbours=1797 split=train statistics=stored'
  assert re.fullmatch(rf'features=classifier/2 weights=[0-9a-f]{{8}} {how}', report['protocol'])
  assert report['protocol'] in printed and report['about'] in printed
  assert set(report['scores']) == {
    'classifier_frechet_distance',
    'precision',
    'recall',
    'density',
    'coverage',
  }
  assert abs(sum(report['classes']['generated']) - 1) < 1e-9 and len(report['classes']['names']) == 10
  assert 'frechet distance' in printed and 'missing: ' in printed
  with Image.open(scored / 'evaluation.png') as picture:
    assert picture.size[0] > 800
  with Image.open(scored / 'neighbours.png') as picture:
    assert picture.width / picture.height == 62 / 82  # eight rows of six images of 8x8


@pytest.mark.slow
def test_scores_during_training_are_those_of_the_command(scored, of_run):
  rows = [row for row in metrics.read(scored / 'metrics.jsonl') if 'coverage' in row]
  assert [row['step'] for row in rows] == [4, 8] and 'step 4  frechet distance' in (
    scored / 'said.txt'
  ).read_text()
  report, _ = of_run
  scores = report['scores'] | {'missing_classes': len(report['classes']['missing'])}
  assert set(rows[1]) == {'step', 'protocol', *scores}
  protocol = report['protocol'].replace('neighbours=1797', 'neighbours=300')
  assert [row['protocol'] for row in rows] == [protocol] * 2
  for name in ('classifier_frechet_distance', 'missing_classes'):
    np.testing.assert_allclose(rows[1][name], scores[name], rtol=1e-5)  # of the same 300 latents
  best = min(rows, key=lambda row: row['classifier_frechet_distance'])
  assert next(step for step, _ in checkpoints.best(scored / 'checkpoints')) == best['step']
  with Image.open(scored / 'scores.png') as picture:
    assert picture.size[0] > 600


@pytest.mark.slow
def test_a_run_is_scored_by_its_own_classifier_also_without_the_cache(
  scored, of_run, monkeypatch, tmp_path, printed_by
):
  folder = shutil.copytree(scored, tmp_path / 'run')
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))
  assert 'training a classifier' not in printed_by('--mode=evaluate', f'--workdir={folder}', '--num=300')
  report = json.loads((folder / 'evaluation.json').read_text())
  assert report['protocol'] == of_run[0]['protocol']
  distance = 'classifier_frechet_distance'
  np.testing.assert_allclose(report['scores'][distance], of_run[0]['scores'][distance], rtol=1e-5)


@pytest.mark.slow
def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(scored, tmp_path):
  folder = shutil.copytree(scored, tmp_path / 'run')
  rates = [f'--config.{name}_optimizer.learning_rate=1e38' for name in ('generator', 'discriminator')]
  done = start(*TINY, *rates, '--allow_config_change', f'--workdir={folder}')
  assert done.returncode == 2 and done.stderr.count('error: ') == 1
  assert 'diverged: at step 12 numbers of generator and discriminator are not finite' in done.stderr
  assert 'the last good checkpoint is of step 8; try lower learning rates' in done.stderr
  assert checkpoints.steps(folder / 'checkpoints')[-1] == 8
  assert all(row['step'] <= 8 for row in metrics.read(folder / 'metrics.jsonl'))


@pytest.mark.slow
def test_scores_are_in_order(scored, of_run, digits, tmp_path, printed_by):
  """Finds half of the real images near all of them, farther without some classes, and noise farthest."""

  def score(images):
    np.savez(tmp_path / 'x.npz', x=images)
    printed_by('--mode=evaluate', f'--workdir={scored}', f'--images={tmp_path}/x.npz')
    return json.loads((scored / 'evaluation.json').read_text())

  labels, _ = Digits(FIT).labels()
  half = score(digits[::2])
  dropped = score(digits[::2][labels[::2] > 2])
  noise = score(np.random.default_rng(0).integers(0, 256, (400, 8, 8, 1), np.uint8))
  distances = [r['scores']['classifier_frechet_distance'] for r in (half, dropped, noise)]
  assert 20 * distances[0] < distances[1] < distances[2] / 2
  assert half['scores']['precision'] > 0.95 and noise['scores']['precision'] < 0.3
  assert half['scores']['coverage'] > 0.9 > 0.8 > dropped['scores']['coverage'] > noise['scores']['coverage']
  assert half['classes']['missing'] == [] and dropped['classes']['missing'] == ['0', '1', '2']
  assert distances[0] < of_run[0]['scores']['classifier_frechet_distance']


@pytest.mark.slow
def test_a_folder_of_pictures_is_scored(scored, of_run, digits, tmp_path, printed_by):
  for i in range(40):
    Image.fromarray(digits[i, :, :, 0]).resize((20, 20)).save(tmp_path / f'{i}.png')
  assert f'40 images of {tmp_path}' in printed_by(
    '--mode=evaluate', f'--workdir={scored}', f'--images={tmp_path}'
  )


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['--num=5'], 'scores take 10 images or more'),
    (['--features=inception', '--weights=/nonexistent'], 'No such file'),
    (['--features=inception', '--weights=README.md'], 'is not pt_inception-2015-12-05-6726825d.pth (SHA-256'),
    (['--features=inception'], '--mode=evaluate gets them by --download'),
    (['--images=README.md'], 'is not a folder, a picture, or an .npy or .npz of images'),
    (['--images={small}'], 'has 4 images; 10 or more are needed'),
    (['--images={other}'], 'uint8 (20, 9, 8, 1); this run has uint8 (N, *(8, 8, 1))'),
    (['--checkpoint=best-ever'], 'choose last, best or the number of a step'),
    (['--checkpoint=7'], 'no checkpoint of step 7'),
  ],
)
def test_bad_input_is_one_line(refused, untrained, tmp_path, arguments, text):
  paths = {'small': tmp_path / 'small.npz', 'other': tmp_path / 'other.npz'}
  np.savez(paths['small'], x=np.zeros((4, 8, 8, 1), np.uint8))
  np.savez(paths['other'], x=np.zeros((20, 9, 8, 1), np.uint8))
  assert text in refused('--mode=evaluate', f'--workdir={untrained}', *(a.format(**paths) for a in arguments))
