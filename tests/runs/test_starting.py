"""The beginning of a run with another one's networks: what is refused, said, recorded and begun with."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, state_of, untrained_run

from configs import digits
from dcgan_jax import settings
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.records.workdir import Origin
from dcgan_jax.runs import experiment, starting


def _parts(**changes):
  config = digits.get_config()
  tiny = {
    'seed': 3,
    'data.image_size': (8, 8),
    'generator.widths': (8, 6),
    'discriminator.widths': (6, 8),
    'latent.size': 10,
  }
  config.update_from_flattened_dict(tiny | changes)
  return experiment.build(settings.check(config))


LARGER = {
  'data.image_size': (16, 16),
  'generator.widths': (8, 6, 4),
  'generator.strides': (2, 2, 2),
  'generator.norm': (True, True, True),
  'discriminator.widths': (4, 6, 8),
  'discriminator.strides': (2, 2, 2),
  'discriminator.norm': (False, False, True),
}


def _begin(untrained, folder, parts, checkpoint='last'):
  folder.mkdir()
  asked = Origin(untrained.resolve(), checkpoint)
  assert starting.check(asked, folder, parts) == asked
  return starting.first_state(parts, folder, placement.mesh(), asked)


@pytest.mark.slow
def test_a_larger_run_begins_with_a_smaller_one(untrained, tmp_path, capsys):
  """Has its own step, key and size, the other's layers, the rest as it would be from chance; and says so."""
  parts = _parts(**LARGER, **{'train.ema_decay': 0.9, 'generator.leak': 0.1})
  state, old = _begin(untrained, tmp_path / 'run', parts), state_of(untrained, 0)
  chance = parts.first_state()
  for part in ('dense', 'conv1'):
    np.testing.assert_array_equal(
      state.generator.params[part]['kernel'], old.generator.params[part]['kernel']
    )
  np.testing.assert_array_equal(
    state.discriminator.params['conv3']['kernel'], old.discriminator.params['conv2']['kernel']
  )
  for part in ('conv2', 'conv3'):
    np.testing.assert_array_equal(
      state.generator.params[part]['kernel'], chance.generator.params[part]['kernel']
    )
  np.testing.assert_array_equal(state.ema['params']['dense']['kernel'], old.ema['params']['dense']['kernel'])
  np.testing.assert_array_equal(state.key, chance.key)
  said = capsys.readouterr().out.splitlines()
  assert said[0] == f'init_from={untrained.resolve()}:last: step 0'
  assert said[1].startswith('  G: taken: dense, conv1; new: conv2, conv3 (4x4x1x4, was 4x4x1x6); ')
  assert said[2].startswith('  D: taken: conv2 as conv3, dense; new: conv1 (')
  average = 'the moving average is taken like G and begins anew, since some of G is new'
  assert said[3] == f"  Adam's averages start anew; {average}"
  assert 'generator.leak was 0.0 and is 0.1' in said[4] and 'widths' not in said[4] and len(said) == 5
  record = json.loads((tmp_path / 'run' / 'init_from.json').read_text())
  assert record['step'] == record['average_steps'] == 0
  assert record['generator']['taken'] == ['dense', 'conv1']
  assert record['discriminator'].keys() == {'taken', 'new', 'left_out'}
  assert workdir.read_origin(tmp_path / 'run') == Origin(untrained.resolve(), 'last')


def test_the_same_on_any_number_of_devices(untrained, tmp_path):
  """Every device has the whole state, and one device alone would have the same."""
  parts = _parts()
  state, old = _begin(untrained, tmp_path / 'run', parts, '0'), state_of(untrained, 0)
  assert jax.device_count() == 4
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 4
  jax.tree.map(np.testing.assert_array_equal, state.generator.variables, old.generator.variables)
  jax.tree.map(np.testing.assert_array_equal, state.discriminator.variables, old.discriminator.variables)


def _aged(untrained, folder, step, age):
  """Copies a run, and says that it has taken so many steps after those of the average that it began with."""
  shutil.copytree(untrained, folder)
  workdir.write_origin(folder, Origin(folder, 'last'), {'average_steps': age})
  state = state_of(untrained, 0)
  saver = checkpoints.Saver(folder / 'checkpoints', 1)
  saver.save(state.replace(step=jnp.int32(step)))
  saver.close()
  return folder


@pytest.mark.slow(2)
@pytest.mark.parametrize(
  ('changes', 'age', 'said'),
  [
    ({}, 730, 'is taken like G and goes on as it was'),
    ({'discriminator.widths': (6, 7)}, 730, 'is taken like G and goes on as it was'),
    ({'generator.widths': (8, 7)}, 0, 'is taken like G and begins anew, since some of G is new'),
    ({'generator.use_bias': True}, 0, 'is taken like G and begins anew, since some of G is new'),
    ({'train.ema_decay': 0.0}, 0, 'is left out'),
  ],
)
def test_an_average_goes_on_where_all_of_g_is_taken(untrained, tmp_path, capsys, changes, age, said):
  """Also if it was taken over once before; a run knows it when it is resumed, unless it began from chance."""
  other, parts = _aged(untrained, tmp_path / 'other', 700, 30), _parts(**changes)
  state = _begin(other, tmp_path / 'run', parts)
  assert f'; the moving average {said}' in capsys.readouterr().out and int(state.step) == 0
  assert starting.with_age_of_average(parts, tmp_path / 'run').recipe.ema_steps == age
  assert starting.with_age_of_average(parts, tmp_path / 'none').recipe == parts.recipe
  workdir.forget_origin(tmp_path / 'run')
  assert starting.with_age_of_average(parts, tmp_path / 'run').recipe == parts.recipe


def test_runs_that_began_before_the_age_was_kept_go_on_as_they_did(tmp_path):
  workdir.write_origin(tmp_path, Origin(tmp_path / 'other', 'last'), {'step': 700})
  assert workdir.read_average_steps(tmp_path) == 0
  for broken in ('{"average_steps": -1}', '{"average_steps": "3"}', '[]', 'no'):
    (tmp_path / 'init_from.json').write_text(broken)
    with pytest.raises(InputError, match=r'init_from\.json') as error:
      workdir.read_average_steps(tmp_path)
    assert '\n' not in str(error.value)


def test_a_run_that_goes_on_says_that_its_beginning_is_past(untrained, tmp_path, capsys):
  """Needs the other run no longer."""
  own, other = untrained_run(tmp_path / 'own'), Origin(tmp_path / 'gone', 'last')
  workdir.write_origin(own, other, {})
  assert starting.check(other, own, _parts()) is None
  assert 'continues from its own checkpoints' in capsys.readouterr().out
  assert starting.check(None, own, _parts()) is None
  with pytest.raises(InputError, match=r'of a run that began with .*gone:last; leave the flag out'):
    starting.check(Origin(untrained, 'last'), own, _parts())
  (own / 'init_from.json').unlink()
  with pytest.raises(InputError, match='of a run that began without it; leave the flag out'):
    starting.check(other, own, _parts())


def test_a_run_that_begins_from_chance_has_no_record_of_another_beginning(tmp_path):
  """An earlier start was killed before its first checkpoint."""
  workdir.write_origin(tmp_path, Origin(tmp_path / 'other', 'last'), {})
  state = starting.first_state(_parts(), tmp_path, placement.mesh(), None)
  assert int(state.step) == 0 and workdir.read_origin(tmp_path) is None


def test_layers_are_frozen_where_another_run_has_trained_them(untrained, tmp_path):
  frozen, other = _parts(**{'train.freeze': 1}), Origin(untrained.resolve(), 'last')
  assert starting.check(other, tmp_path, frozen) == other
  with pytest.raises(InputError, match=r'^train.freeze=1: keeps layers of D .* by --init_from=WORKDIR'):
    starting.check(None, tmp_path, frozen)
  assert starting.check(None, untrained, frozen) is None  # It has checkpoints to go on from.
  for changes, new in ((LARGER, 'conv1, conv2'), ({'discriminator.use_bias': True}, 'conv1, conv2')):
    with pytest.raises(InputError, match=f'^train.freeze=2: {new} of D would stay at random, for init_from='):
      starting.check(other, tmp_path, _parts(**changes, **{'train.freeze': 2}))


@pytest.mark.parametrize('content', ['{}', '[]', '{"workdir": 3, "checkpoint": 1}', 'no'])
def test_a_broken_record_is_one_line(untrained, tmp_path, content):
  own = tmp_path / 'own'
  shutil.copytree(untrained, own)
  (own / 'init_from.json').write_text(content)
  with pytest.raises(InputError, match=r'init_from\.json'):
    starting.check(Origin(untrained, 'last'), own, _parts())


@pytest.mark.parametrize(
  ('asked', 'message'),
  [
    ('{tmp}/nothing', r'no run in .*nothing \(no config.json\); give WORKDIR, WORKDIR:STEP'),
    ('{run}:first', r'no run in .*:first \(no config.json\)'),
    ('{run}:7', r'no checkpoint of step 7; there are \[0\]'),
    ('{run}:best', 'checkpoint=best: none of .* has a score'),
    ('{tmp}/new', 'is the workdir of this run itself; leave the flag out'),
    ('{tmp}/new:3', 'is the workdir of this run itself; leave the flag out'),
  ],
)
def test_what_cannot_be_begun_with(untrained, tmp_path, refused, asked, message):
  text = asked.format(tmp=tmp_path, run=untrained)
  error = refused(*TINY, f'--workdir={tmp_path}/new', f'--init_from={text}')
  assert error.startswith('error: init_from=') and re.search(message, error)
  assert not (tmp_path / 'new').exists()


def test_a_run_of_which_nothing_fits(untrained, tmp_path, refused):
  other = [
    '--config.generator.kernel_size=3',
    '--config.discriminator.kernel_size=3',
    '--config.latent.size=9',
    '--config.data.image_size=12',
  ]
  tiny = [x for x in TINY if 'image_size' not in x]
  error = refused(*tiny, *other, f'--workdir={tmp_path}/new', f'--init_from={untrained}')
  assert 'no layer of it fits this config: G: dense (9x72, was 10x32), conv1 (' in error
  assert not (tmp_path / 'new').exists()


def test_the_flag_is_in_the_help(call_main):
  status, printed, _ = call_main('--mode=train', '--help')
  assert status == 0 and '--init_from=TEXT' in printed
  assert 'WORKDIR, or WORKDIR:STEP, :best or :last' in ' '.join(printed.split())
