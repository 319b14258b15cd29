"""Replaying a run from the command line."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import start, state_of, succeed

from dcgan_jax.records import checkpoints, lock
from dcgan_jax.training import verification


@pytest.mark.slow
def test_a_run_repeats_itself_and_another_does_not(trained, tmp_path):
  """Replays a run in a second process; then changes one value of its last checkpoint."""
  folder, _ = trained
  printed = succeed('--mode=verify', f'--workdir={folder}')
  assert 'steps 16 to 24' in printed and 'every bit of all' in printed
  changed = tmp_path / 'changed'
  shutil.copytree(folder, changed)
  shutil.rmtree(changed / 'checkpoints' / '24')
  state = state_of(folder, 24)
  params = jax.tree.map(jnp.asarray, state.generator.params)
  params['dense']['kernel'] = params['dense']['kernel'].at[0, 0].multiply(1 + 1e-6)
  saver = checkpoints.Saver(changed / 'checkpoints', 3)
  saver.save(state.replace(generator=state.generator.replace(params=params)))
  saver.close()
  done = start('--mode=verify', f'--workdir={changed}', '--checkpoint=16')
  assert (
    done.returncode == 1 and '1 of ' in done.stdout and 'generator/params/dense/kernel most' in done.stdout
  )


@pytest.mark.slow
def test_what_cannot_be_verified_is_one_line(trained, refused):
  line = refused('--mode=verify', f'--workdir={trained[0]}', '--checkpoint=24')
  assert 'checkpoint=24: choose one that another follows: [8, 16]' in line


@pytest.mark.slow(2)
@pytest.mark.parametrize('at_once', [True, False])
@pytest.mark.parametrize('deleted', [0, 3])
def test_a_checkpoint_that_the_training_deletes_meanwhile_is_not_called_damaged(
  monkeypatch, refused, untrained, tmp_path, deleted, at_once
):
  """Deletes one when it is about to be read; or only its arrays, and the rest while the damage is told."""
  folder = shutil.copytree(untrained, tmp_path / 'run')
  for step in (3, 5, 7):
    shutil.copytree(folder / 'checkpoints' / '0', folder / 'checkpoints' / str(step))
  gone, restore = folder / 'checkpoints' / str(deleted), checkpoints.restore

  def restore_late(kept, step, *others):
    if step == deleted:
      shutil.rmtree(gone if at_once else next(gone.glob('*/d')))
    return restore(kept, step, *others)

  def is_elsewhere(workdir):
    shutil.rmtree(gone)
    return True

  monkeypatch.setattr(checkpoints, 'restore', restore_late)
  monkeypatch.setattr(lock, 'is_elsewhere', is_elsewhere)
  error = refused('--mode=verify', f'--workdir={folder}', '--checkpoint=0')
  others = [step for step in (0, 3, 5) if step != deleted]
  assert f'checkpoint={deleted}: the training in {folder} has deleted it meanwhile' in error
  assert f'choose another of {others}, or wait' in error and 'damaged' not in error


@pytest.mark.slow(2)
def test_a_damaged_checkpoint_beside_a_training_is_called_so(monkeypatch, refused, untrained, tmp_path):
  folder = shutil.copytree(untrained, tmp_path / 'run')
  shutil.copytree(folder / 'checkpoints' / '0', folder / 'checkpoints' / '3')
  shutil.rmtree(next((folder / 'checkpoints' / '0').glob('*/d')))
  monkeypatch.setattr(verification, 'DELETION', 0.1)
  monkeypatch.setattr(lock, 'is_elsewhere', lambda workdir: True)
  assert 'checkpoints/0: is damaged' in refused('--mode=verify', f'--workdir={folder}')


def test_differences_are_of_bits():
  a = {'x': np.float32([1, 2]), 'y': np.float32([0.0]), 'n': np.float32([np.nan])}
  b = {'x': np.float32([1, 2.5]), 'y': np.float32([-0.0]), 'n': np.float32([np.nan])}
  assert verification.differences(a, b) == {'x': 0.5, 'y': 0.0}
