"""Signs of collapse, in rows made up for each."""

import ast
import os
import shlex

import jax
import numpy as np
import pytest
from conftest import narrow

from configs import base, digits
from dcgan_jax import settings
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.errors import InputError
from dcgan_jax.records import collapse

DISTANCE = 'fid'
CHOICES = ('relativistic', 'translation', 'filtered')


def _outputs(gaps):
  return [{'step': 50 * i, 'd_real': (1 + gap) / 2, 'd_fake': (1 - gap) / 2} for i, gap in enumerate(gaps, 1)]


def _scores(distances, coverages, missing):
  columns = zip(distances, coverages, missing)
  return [
    {'step': 1000 * i, DISTANCE: d, 'coverage': c, 'missing_classes': m}
    for i, (d, c, m) in enumerate(columns, 1)
  ]


def _signs_of_outputs(rows):
  return collapse.Watch(None, rows).signs


def _signs_of_scores(rows):
  return collapse.Watch(DISTANCE, rows).signs


def test_a_watch_says_the_same_whether_rows_are_there_or_come():
  rows = [*_scores([60, 50, 90, 400], [0.4, 0.5, 0.1, 0.0], [0, 0, 2, 9]), *_outputs([0.99] * 12)]
  watch = collapse.Watch(DISTANCE)
  for i, row in enumerate(rows, 1):
    assert watch.add(row) == watch.signs == collapse.Watch(DISTANCE, rows[:i]).signs
  assert set(watch.signs) == {'saturated', 'coverage', 'classes', 'far'}
  assert collapse.Watch(None, rows, narrow('base', {'train.loss': 'hinge'})).signs == {}


@pytest.mark.parametrize(
  ('gaps', 'saturated'),
  [
    ([0.99] * 10, True),
    ([0.99] * 9, False),  # It has not lasted for long enough.
    ([0.2] + [0.99] * 10, True),
    ([0.99] * 10 + [0.2] * 3, False),  # D has recovered.
    ([0.85] * 30, False),
  ],
)
def test_d_has_won(gaps, saturated):
  signs = _signs_of_outputs(_outputs(gaps))
  assert ('saturated' in signs) == saturated
  if saturated:
    assert f'D(x) - D(G(z)) is 0.990 on average since step {50 * (len(gaps) - 9)}' in signs['saturated']


def test_names_of_losses_are_those_of_the_library():
  named = {name for name, loss in LOSSES.items() if loss.output is jax.nn.sigmoid}
  assert set(collapse.PROBABILITIES) == named


@pytest.mark.parametrize(('loss', 'saturated'), [(0.01, True), (0.05, False), (0.69, False)])
def test_d_has_won_under_a_relativistic_loss(loss, saturated):
  rows = [{'step': 50 * i, 'loss_d': loss, 'd_real': 9.0, 'd_fake': -9.0} for i in range(1, 11)]
  signs = collapse.Watch(None, rows, narrow('modern')).signs
  assert ('saturated' in signs) == saturated
  if saturated:
    said = 'it tells a real image from a sample with a probability of 0.990 on average since step 50'
    assert said in signs['saturated'] and collapse.grave(signs)
  before = [{'step': i, 'loss_d': -1000.0} for i in range(10)]  # of a Wasserstein loss that was changed
  assert 'saturated' not in collapse.Watch(None, before, narrow('modern')).signs


def test_rows_of_scores_between_those_of_losses_do_not_count():
  rows = _outputs([0.99] * 10)
  assert _signs_of_outputs([*rows, *_scores([5.0], [0.5], [0])]) == _signs_of_outputs(rows) != {}
  many = [row for each in rows for row in (*_scores([5.0] * 3, [0.5] * 3, [0] * 3), each)]
  assert _signs_of_outputs(many) == _signs_of_outputs(rows)


@pytest.mark.parametrize(
  ('distances', 'coverages', 'missing', 'names'),
  [
    ([], [], [], set()),
    ([90, 60, 50], [0.1, 0.3, 0.4], [3, 0, 0], set()),
    ([90, 60, 74], [0.1, 0.4, 0.3], [3, 0, 0], set()),  # Scores vary so much from one time to the next.
    ([90, 60, 100], [0.1, 0.4, 0.3], [3, 0, 0], {'distance'}),
    ([90, 60, 200], [0.1, 0.4, 0.3], [3, 0, 0], {'far'}),
    ([90, 60, 60], [0.1, 0.4, 0.19], [3, 0, 0], {'coverage'}),
    ([90, 60, 60], [0.1, 0.4, 0.4], [3, 0, 2], {'classes'}),
    ([90, 60, 400], [0.1, 0.4, 0.0], [3, 0, 9], {'far', 'coverage', 'classes'}),
    ([900, 901], [0.04, 0.0], [9, 9], set()),  # There is nothing yet that could collapse.
    ([900] * 4, [0.04, 0.0, 0.01, 0.0], [9] * 4, set()),
    ([900] * 5, [0.04, 0.0, 0.01, 0.0, 0.0], [9] * 5, {'coverage'}),  # There should be something by now.
  ],
)
def test_samples_have_become_worse(distances, coverages, missing, names):
  assert set(_signs_of_scores(_scores(distances, coverages, missing))) == names


def test_signs_are_sentences_with_their_figures():
  signs = _signs_of_scores(_scores([60, 400], [0.4, 0.0], [0, 9]))
  assert 'fallen from 0.400 at step 1000 to 0.000' in signs['coverage']
  assert '9 classes of the data are missing from the samples, where only 0' in signs['classes']
  assert 'fid has grown to 400.0 from 60.0 at step 1000' in signs['far']


def test_scores_by_another_protocol_are_no_sign():
  rows = _scores([60, 400], [0.4, 0.1], [0, 9])
  said = [rows[0] | {'protocol': 'samples=10'}, rows[1] | {'protocol': 'samples=20'}]
  assert _signs_of_scores(rows) and not _signs_of_scores(said)


def test_data_without_classes():
  rows = [{'step': 1, DISTANCE: 5.0, 'coverage': 0.5}, {'step': 2, DISTANCE: 9.0, 'coverage': 0.5}]
  assert set(_signs_of_scores(rows)) == {'distance'}


def test_a_run_with_halved_rates_is_not_resumed_silently(tmp_path):
  chosen, path = settings.check(digits.get_config()), tmp_path / 'rollbacks.json'
  collapse.check_rates(tmp_path, chosen)
  path.write_text('{"from_steps": [30, 20]}')
  with pytest.raises(InputError, match='halved both learning rates of this run 2 times') as error:
    collapse.check_rates(tmp_path, chosen)
  message = str(error.value)
  assert message.startswith(f'{path}: ') and '\n' not in message
  assert '--config.generator_optimizer.learning_rate=5e-05 ' in message
  assert '--config.discriminator_optimizer.learning_rate=2.5e-05 ' in message
  path.write_text('{"from_steps": []}')
  collapse.check_rates(tmp_path, chosen)
  for content in ('{"from_steps": 3}', '{}', '[]'):
    path.write_text(content)
    with pytest.raises(InputError, match='has no list of steps named "from_steps"'):
      collapse.check_rates(tmp_path, chosen)
  path.unlink()
  os.mkfifo(path)
  with pytest.raises(InputError, match='is not a regular file'):
    collapse.check_rates(tmp_path, chosen)


def test_a_lost_class_or_a_somewhat_larger_distance_alone_is_not_grave():
  assert collapse.grave({'classes': 'a', 'distance': 'b'}) == ''
  assert collapse.grave({'far': 'b', 'classes': 'a', 'saturated': 'c'}) == 'c'


def _of_memory(preferred, copied, copied_real, name='base', **changes):
  row = {
    'step': 5,
    DISTANCE: 9.0,
    'd_prefers_training': preferred,
    'copied': copied,
    'copied_real': copied_real,
  }
  return collapse.Watch(DISTANCE, [row], narrow(name, changes)).signs


@pytest.mark.parametrize(
  ('preferred', 'copied', 'copied_real', 'names'),
  [
    (0.5, 0.4, 0.4, set()),
    (0.9, 0.83, 0.3, set()),  # A third of the others than copies is not near.
    (0.91, 0.83, 0.3, {'memorised'}),
    (0.8, 0.84, 0.3, {'copied'}),
    (0.8, 0.84, 0.9, set()),  # Real images are as near to each other.
    (0.8, 1.0, 1.0, set()),  # Each image is there twice.
    (1.0, 1.0, 0.4, {'memorised', 'copied'}),
  ],
)
def test_images_are_learnt_by_heart(preferred, copied, copied_real, names):
  signs = _of_memory(preferred, copied, copied_real)
  assert set(signs) == names and not collapse.grave(signs)


def test_by_heart_is_rare_by_chance():
  """Draws the ranks of 5 held-out among 100 images that D has not learned."""
  ranks = np.random.default_rng(0).random((20_000, 100)).argsort(1)[:, :5]
  preferred = 1 - (np.sort(ranks, 1) - np.arange(5)).mean(1) / 95
  assert 0.0002 < (preferred > collapse.BY_HEART).mean() < 0.002 and abs(preferred.mean() - 0.5) < 0.01


def test_signs_of_memory_go_with_their_row():
  rows = [{'step': 5, DISTANCE: 9.0, 'd_prefers_training': 0.95}, {'step': 6, 'loss_d': 1.0}]
  watch = collapse.Watch(DISTANCE, rows)
  assert set(watch.signs) == {'memorised'}
  assert watch.add({'step': 7, DISTANCE: 9.0, 'd_prefers_training': 0.85}) == {}


def _flags(sentence):
  """Returns the flags of keys in a sentence, as a shell passes them on."""
  return [word for word in shlex.split(sentence) if word.startswith('--config.')]


def test_advice_can_be_copied():
  """Sets the keys of each flag, and asks for what the run does not do already."""
  classic = narrow('base')
  (won,) = collapse.Watch(None, _outputs([0.99] * 10), classic).signs.values()
  signs = _of_memory(1.0, 1.0, 0.4)
  for sentence in (won, *signs.values()):
    config = base.get_config()
    config.data.channels = 1
    for flag in _flags(sentence):
      key, value = flag.removeprefix('--config.').split('=')
      config.update_from_flattened_dict({key: value if value in CHOICES else ast.literal_eval(value)})
    chosen = settings.check(config)
    if sentence is won:
      assert (chosen.train.loss, chosen.train.r1, chosen.train.r2) == ('relativistic', 1, 1)
      assert chosen.generator.upsample == 'filtered'
      assert chosen.generator_optimizer.b1 == 0 and chosen.discriminator_optimizer.b2 == 0.99
    else:
      assert chosen.data.flip and chosen.train.augment == 'translation'
      assert max(chosen.discriminator.widths) == 6
  done = {'data.flip': True, 'train.augment': 'color,translation'}
  (sentence,) = _of_memory(1.0, 0.0, 0.0, **done).values()
  assert 'flip' not in sentence and 'translation' not in sentence and '--checkpoint=best' in sentence


def test_what_has_helped_is_not_named_to_a_run_that_does_it():
  rows = _scores([60, 400], [0.4, 0.0], [0, 9])
  for name, said in (('cifar10_32', True), ('modern', False)):
    signs = collapse.Watch(DISTANCE, rows, narrow(name)).signs
    assert ('--config.train.loss=relativistic' in signs['coverage']) == said
    assert '--config.generator.upsample=filtered' in signs['coverage']
  signs = collapse.Watch(DISTANCE, rows, narrow('image_folder', {'data.source': 'folder:x'})).signs
  assert '--config' not in signs['coverage']
  assert 'the recipe of configs/modern.py' in collapse.Watch(DISTANCE, rows).signs['coverage']
