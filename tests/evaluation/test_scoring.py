"""How scores are taken during training, with a stand-in for the classifier."""

import json

import numpy as np
import pytest
from conftest import TINY, narrow
from PIL import Image

from configs import digits
from dcgan_jax import files, settings
from dcgan_jax.data import cache
from dcgan_jax.devices import placement
from dcgan_jax.evaluation import classifier, extractors, scoring
from dcgan_jax.evaluation.extractors import Extractor
from dcgan_jax.records import metrics
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.training import loop


@pytest.fixture
def by_pixels(monkeypatch, tmp_path):
  """A stand-in for the classifier, whose features are the pixels."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))

  def look(images):
    flat = images.reshape(len(images), -1)[:, ::8].astype(np.float32)
    return {'features': flat, 'probabilities': np.eye(10)[np.arange(len(images)) % 10]}

  extractor = Extractor('classifier', 'features=pixels weights=none', look)
  monkeypatch.setattr(extractors, 'classifier_extractor', lambda *_: extractor)


@pytest.mark.parametrize(
  ('num', 'statistics', 'split', 'said'),
  [
    (100, 'stored', 'train', 'samples=100 neighbours=100 split=train statistics=stored'),
    (2000, 'population', 'test', 'samples=2000 neighbours=1797 split=test statistics=population'),
  ],
)
def test_a_scorer_says_how_it_scores(by_pixels, num, statistics, split, said):
  config = digits.get_config()
  config.data.image_size, config.data.split = (8, 8), split
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.eval.num, config.sample.statistics = num, statistics
  parts = experiment.build(settings.check(config))
  scorer = scoring.make_scorer(parts, placement.mesh())
  assert scorer.protocol == f'features=pixels weights=none {said}'
  if statistics == 'stored':
    found = scorer(parts.first_state())
    assert found['missing_classes'] == 0 and found['classifier_frechet_distance'] > 0


def test_held_out_images_add_scores_and_leave_the_others_as_they_are(by_pixels):
  """Scores still compare with all images, so that runs with and without can be compared."""
  parts, held_out = (
    experiment.build(narrow('digits', {'data.image_size': (8, 8), 'eval.num': 100, 'data.held_out': share}))
    for share in (0.0, 0.05)
  )
  state = parts.first_state(placement.replicated(placement.mesh()))
  scorer, more = (scoring.make_scorer(it, placement.mesh()) for it in (parts, held_out))
  want, found = scorer(state), more(state)
  added = ['copied', 'copied_real', 'd_training', 'd_held_out', 'd_prefers_training']
  assert [*found] == [*want, *added] and {name: found[name] for name in want} == want
  assert more.protocol == scorer.protocol
  assert 0.4 < found['d_prefers_training'] < 0.6


def test_the_protocol_of_inception_has_its_file_and_the_resizer():
  protocol = extractors.inception_extractor({}, 'pytorch').protocol
  assert protocol == 'features=inception weights=6726825d resizer=pytorch'


@pytest.mark.slow(2)
def test_scores_and_pictures_take_the_population_of_the_data(by_pixels, monkeypatch):
  """Both measure the statistics of G with classes that are as frequent as in the data."""
  parts = experiment.build(narrow('digits', {'data.classes': 10, 'sample.statistics': 'population'}))
  seen = []

  def with_population(generator, latents, variables):
    seen.append(latents.counts)
    return variables

  monkeypatch.setattr(sampling, 'with_population', with_population)
  state = parts.first_state(placement.replicated(placement.mesh()))
  scoring.make_scorer(parts, placement.mesh())(state)
  loop._make_draw(parts)(state)
  assert seen == [(178, 182, 177, 183, 181, 182, 181, 179, 174, 180)] * 2


def test_a_data_set_without_room_is_compared_in_part(monkeypatch, capsys):
  parts = experiment.build(narrow('digits'))
  whole = scoring.load_real(parts)
  monkeypatch.setattr(scoring, 'MOST_WITHOUT_ROOM', 300)
  monkeypatch.setattr(files, 'free_memory', lambda: 1000)
  np.testing.assert_array_equal(scoring.load_real(parts), whole)  # There is room on the disk.
  monkeypatch.setattr(cache, 'load_large', lambda *_: None)
  capsys.readouterr()
  np.testing.assert_array_equal(scoring.load_real(parts), whole[:300])
  assert capsys.readouterr().out == ('digits: scores compare with the first 300 images, for want of room\n')


@pytest.mark.slow
def test_a_folder_of_pictures_is_scored_without_classes(tmp_path, monkeypatch, call_main, standard_promotion):
  """Scores each folder that may be learned: pictures in one folder, and many folders of a few."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(classifier, 'ROTATIONS_STEPS', 10)
  monkeypatch.setattr(classifier, 'STEPS', 2)
  random = np.random.default_rng(0)
  for name in ('flat', 'deep'):
    for i in range(30):
      folder = tmp_path / name / (str(i % 15) if name == 'deep' else '')
      folder.mkdir(parents=True, exist_ok=True)
      picture = random.integers(0, 100, (9, 8, 3)).astype(np.uint8)
      picture[:4] += 100
      Image.fromarray(picture).save(folder / f'{i}.png')
    run = tmp_path / f'run_{name}'
    flags = [f'--config.data.source=folder:{tmp_path}/{name}', '--config.data.channels=3', f'--workdir={run}']
    flags += ['--config.eval.every_steps=4', '--config.eval.num=100', '--config.train.num_steps=8']
    status, printed, error = call_main(*TINY, *flags)
    assert status == 0, error
    assert (
      'training a network that tells rotations, once for this data (a minute or two on a CPU)\n' in printed
    )
    assert '(4.3 epochs of 30)' in printed and 'similar sets: 100 emoji gave' in printed
    assert ('scores are by rotations and not by a classifier: its accuracy' in printed) == (name == 'deep')
    rows = [row for row in metrics.read(run / 'metrics.jsonl') if 'coverage' in row]
    assert [row['step'] for row in rows] == [4, 8] and 'missing_classes' not in rows[0]
    assert {row['protocol'].split()[0] for row in rows} == {'features=rotations/2'}
    status, printed, error = call_main(
      '--mode=evaluate', f'--workdir={run}', '--num=100', '--checkpoint=best'
    )
    assert status == 0, error
    assert 'training' not in printed and 'that tells how images of the data are rotated' in printed
    report = json.loads((run / 'evaluation.json').read_text())
    assert set(report['scores']) == {
      'classifier_frechet_distance',
      'precision',
      'recall',
      'density',
      'coverage',
    }
    assert 'classes' not in report and report['protocol'].split()[:2] == rows[0]['protocol'].split()[:2]
