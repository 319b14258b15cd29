"""Runs initialised from another run, from the command line."""

import json
import shutil

import jax
import numpy as np
import pytest
from conftest import TINY, assert_same_state, state_of, succeed, succeed_together

pytestmark = pytest.mark.slow

LARGER = [
  *(x for x in TINY if 'widths' not in x and 'image_size' not in x),  # A tuple given twice is both together.
  '--config.seed=5',
  '--config.data.image_size=16',
  '--config.generator.widths=(8,6,4)',
  '--config.generator.strides=(2,2,2)',
  '--config.generator.norm=(True,True,True)',
  '--config.discriminator.widths=(4,6,8)',
  '--config.discriminator.strides=(2,2,2)',
  '--config.discriminator.norm=(False,False,True)',
  '--config.train.num_steps=16',
]


@pytest.fixture(scope='module')
def grown(trained, tmp_path_factory):
  """The workdir and output of a run at 16x16 initialised from one at 8x8, on one device."""
  folder = tmp_path_factory.mktemp('runs') / 'grown'
  return folder, succeed(*LARGER, f'--workdir={folder}', f'--init_from={trained[0]}:16')


def test_it_says_and_records_what_it_takes(trained, grown):
  folder, printed = grown
  assert f'init_from={trained[0]}:16: step 16\n' in printed
  assert 'G: taken: dense, conv1; new: conv2' in printed and 'trained to step 16' in printed
  record = json.loads((folder / 'init_from.json').read_text())
  assert (record['workdir'], record['checkpoint'], record['step']) == (str(trained[0]), '16', 16)


def test_stopped_and_started_again_it_is_bit_equal_also_without_the_other_run(trained, grown, tmp_path):
  """Repeats the command after the other run was removed, and then without the flag."""
  other, folder = tmp_path / 'other', tmp_path / 'parts'
  shutil.copytree(trained[0], other)
  flag = f'--init_from={other}:16'
  succeed(*LARGER, '--config.train.num_steps=8', f'--workdir={folder}', flag)
  shutil.rmtree(other)
  shutil.copytree(folder, tmp_path / 'without')
  printed = succeed(*LARGER, f'--workdir={folder}', flag)
  assert 'continues from its own checkpoints' in printed and 'steps 8 to 16' in printed
  succeed(*LARGER, f'--workdir={tmp_path}/without')
  for again in (folder, tmp_path / 'without'):
    assert_same_state(grown[0], again, 16)


def test_four_devices_of_two_processes_are_near_one_device(trained, grown, tmp_path):
  folder = tmp_path / 'four'
  printed = succeed_together(
    *LARGER,
    '--config.train.num_steps=8',
    f'--workdir={folder}',
    f'--init_from={trained[0]}:16',
    devices=2,
  )
  assert 'on 4 cpu devices' in printed[0] and 'G: taken: dense, conv1' in printed[0]
  one, four = state_of(grown[0], 8), state_of(folder, 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one.generator, four.generator
  )


def test_the_average_that_is_taken_goes_on_also_after_a_stop(trained, tmp_path):
  """It is of 24 steps already, and so of 25/34 and then of 26/35 of itself in the first two steps."""
  flags = [*TINY, '--config.seed=5', f'--workdir={tmp_path}/run']
  printed = succeed(*flags, '--config.train.num_steps=1', f'--init_from={trained[0]}')
  succeed(*flags, '--config.train.num_steps=2')
  old, *after = state_of(trained[0], 24), state_of(tmp_path / 'run', 1), state_of(tmp_path / 'run', 2)
  average = old.ema
  for state, share in zip(after, (25 / 34, 26 / 35)):
    average = jax.tree.map(lambda x, y, s=share: s * x + (1 - s) * y, average, state.generator.variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.ema, average)
  assert 'the moving average is taken like G and goes on as it was' in printed
