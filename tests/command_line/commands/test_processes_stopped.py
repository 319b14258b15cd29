"""Runs of two real processes, one of which is stopped or killed."""

import re
import signal

import pytest
from conftest import TINY, assert_same_state, start_together, succeed_together

from dcgan_jax.records import checkpoints

pytestmark = pytest.mark.slow(20)

ENDLESS = [*TINY, '--config.train.num_steps=100000', '--config.sample.every_steps=0']


def _wait_for(process, pattern):
  for line in process.stdout:
    if re.search(pattern, line):
      return
  raise AssertionError(f'{pattern} was never printed')


def _assert_goes_on_as_if_never_stopped(folder, fresh):
  """Compares a resumed and extended run with an uninterrupted one."""
  steps = [f'--config.train.num_steps={checkpoints.steps(folder / "checkpoints")[-1] + 8}']
  steps.append('--config.checkpoint.every_steps=10000')  # The last step is saved anyway.
  succeed_together(*ENDLESS, *steps, f'--workdir={folder}', devices=2)
  succeed_together(*ENDLESS, *steps, f'--workdir={fresh}', devices=2)
  assert_same_state(fresh, folder, checkpoints.steps(fresh / 'checkpoints')[-1])


@pytest.mark.parametrize(
  'number', [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.nightly(20))]
)
def test_a_signal_to_one_saves_all_at_one_step(tmp_path, number):
  folder = tmp_path / 'stopped'
  first, second = start_together(
    [*ENDLESS, f'--workdir={folder}', '--config.checkpoint.every_steps=10000'], devices=2
  )
  _wait_for(first, 'step 8/')
  second.send_signal(number)
  printed = [process.communicate(timeout=120)[0] for process in (first, second)]
  assert (first.returncode, second.returncode) == (143, 143), printed
  (step,) = checkpoints.steps(folder / 'checkpoints')
  assert f'SIGTERM: saved step {step}' in printed[0]
  _assert_goes_on_as_if_never_stopped(folder, tmp_path / 'fresh')


def test_a_killed_process_ends_the_others_and_the_last_checkpoint_is_good(tmp_path):
  folder = tmp_path / 'killed'
  # It saves rarely: a process that saves when the other dies waits for the runtime's time-out.
  first, second = start_together(
    [*ENDLESS, f'--workdir={folder}', '--config.checkpoint.every_steps=20'], devices=2, heartbeat=20
  )
  _wait_for(first, r' saved \d')  # On a busy machine that is long after step 20.
  second.kill()
  printed, _ = first.communicate(timeout=150)
  second.communicate()
  assert first.returncode not in (0, 143) and second.returncode == -signal.SIGKILL
  assert 'another process has died' in printed or 'another task died' in printed
  _assert_goes_on_as_if_never_stopped(folder, tmp_path / 'fresh')
