"""Replaying a run as a user asks for it."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import start, state_of, succeed

from dcgan_jax import verification
from dcgan_jax.journal import checkpoints


@pytest.mark.slow
def test_a_run_repeats_itself_and_another_does_not(trained, tmp_path):
  """Replays a run in a second process; then changes one number of its last checkpoint."""
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
def test_what_cannot_be_verified_is_one_line(trained):
  done = start('--mode=verify', f'--workdir={trained[0]}', '--checkpoint=24')
  assert done.returncode == 2 and 'checkpoint=24: choose one that another follows: [8, 16]' in done.stderr


def test_differences_are_of_bits():
  a = {'x': np.float32([1, 2]), 'y': np.float32([0.0]), 'n': np.float32([np.nan])}
  b = {'x': np.float32([1, 2.5]), 'y': np.float32([-0.0]), 'n': np.float32([np.nan])}
  assert verification.differences(a, b) == {'x': 0.5, 'y': 0.0}
