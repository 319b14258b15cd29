"""Training from the command line, in a new process wherever a step is taken."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY, assert_same_state, environment, start_together, state_of, succeed
from PIL import Image

from dcgan_jax.records import checkpoints, metrics, timing, workdir

pytestmark = pytest.mark.slow


SPEED = {'images_per_second', 'input_wait', 'time/other', *(f'time/{part}' for part in timing.PARTS)}


def _metrics(folder):
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in row.items() if k not in SPEED} for row in rows]


def test_train_writes_everything(trained):
  folder, printed = trained
  assert 'step 24/24  loss_d' in printed and 'images/s' in printed and 'left' in printed
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == [4, 8, 12, 16, 20, 24]
  keys = {'loss_d', 'loss_g', 'd_real', 'd_fake', 'd_fake_after', 'grad_norm_d', 'grad_norm_g'}
  assert {'step'} | keys | {f'{name}_mean' for name in keys} | SPEED == rows[0].keys()
  assert all(np.isfinite(list(row.values())).all() for row in rows)
  assert [p.name for p in workdir.samples(folder)] == [f'step_{s:08d}.png' for s in (0, 8, 16, 24)]
  with Image.open(folder / 'samples.gif') as gif:
    assert gif.n_frames >= 2  # Frames that are alike are one.
  assert (folder / 'losses.png').stat().st_size > 5000
  assert checkpoints.steps(folder / 'checkpoints') == [8, 16, 24]
  assert json.loads((folder / 'config.json').read_text())['train']['batch_size'] == 16


def test_done_is_done(trained, printed_by):
  folder, _ = trained
  assert 'is trained to step 24' in printed_by(*TINY, f'--workdir={folder}')


def test_killed_and_started_again_is_bit_equal(tmp_path):
  """Kills a run with the optimised programs of users: at the start, and between two checkpoints."""
  whole, folder = tmp_path / 'whole', tmp_path / 'killed'
  succeed(*TINY, f'--workdir={whole}', optimized=True)
  command = [sys.executable, 'main.py', *TINY, f'--workdir={folder}']
  for reached in (lambda: folder.exists(), lambda: _last_row(folder) >= 12):
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
      command, cwd=ROOT, env=environment(optimized=True), stdout=nowhere, stderr=nowhere
    )
    while not reached() and process.poll() is None:
      time.sleep(0.002)
    process.kill()
    process.wait()
  succeed(*TINY, f'--workdir={folder}', optimized=True)
  assert_same_state(whole, folder, 24)
  assert _metrics(folder) == _metrics(whole)
  for a, b in zip(workdir.samples(whole), workdir.samples(folder), strict=True):
    assert a.name == b.name and a.read_bytes() == b.read_bytes()


def _last_row(folder):
  path = folder / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  try:
    return json.loads(lines[-1])['step'] if lines else 0
  except json.JSONDecodeError:
    return 0


@pytest.mark.slow(12)
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_saves_and_goes_on(tmp_path, number, status):
  folder, whole = tmp_path / 'stopped', tmp_path / 'whole'
  arguments = [*TINY, '--config.log.every_steps=1', '--config.checkpoint.every_steps=100000']
  # With as many steps as TINY has, a busy machine may end the run before the signal arrives.
  (process,) = start_together(
    [*arguments, '--config.train.num_steps=100000', f'--workdir={folder}'], processes=1
  )
  for line in process.stdout:
    if line.startswith('step 3/'):
      process.send_signal(number)
      break
  rest = process.communicate()[0]
  assert process.returncode == status and f'{number.name}: saved step' in rest
  (step,) = checkpoints.steps(folder / 'checkpoints')
  assert step >= 3 and (folder / 'losses.png').exists() and (folder / 'samples.gif').exists()
  last = step + 8
  for run in (folder, whole):
    succeed(*arguments, f'--config.train.num_steps={last}', f'--workdir={run}')
  assert_same_state(whole, folder, last)


def test_other_hyper_parameters_are_refused_and_nothing_is_lost(trained, refused):
  folder, _ = trained
  before = (folder / 'config.json').read_text()
  line = refused(*TINY, f'--workdir={folder}', '--config.discriminator_optimizer.learning_rate=0.5')
  assert 'discriminator_optimizer.learning_rate was 0.0001 and is 0.5' in line
  assert (folder / 'config.json').read_text() == before


def test_a_change_that_does_not_fit_the_checkpoints_leaves_the_run_as_it_was(
  trained, tmp_path, printed_by, refused
):
  folder = shutil.copytree(trained[0], tmp_path / 'copy')
  before = (folder / 'config.json').read_bytes()
  line = refused(*TINY, '--config.latent.size=12', '--allow_config_change', f'--workdir={folder}')
  assert 'belongs to other networks' in line and (folder / 'config.json').read_bytes() == before
  assert 'is trained to step 24' in printed_by(*TINY, f'--workdir={folder}')


def test_a_lost_config_is_written_anew_if_the_checkpoints_fit(trained, tmp_path, printed_by, refused):
  folder = shutil.copytree(trained[0], tmp_path / 'copy')
  path = folder / 'config.json'
  before = path.read_bytes()
  path.unlink()
  again = [*TINY, '--allow_config_change', f'--workdir={folder}']
  assert 'belongs to other networks' in refused(*again, '--config.latent.size=12')
  assert not path.exists()
  assert 'is trained to step 24' in printed_by(*again) and path.read_bytes() == before


def test_a_run_with_64_bits_goes_on_without_them(tmp_path):
  """Trains without JAX_ENABLE_X64, then with it, and without it again."""
  for steps, enabled in ((4, '0'), (8, '1'), (12, '0')):
    command = [*TINY, f'--workdir={tmp_path}/run', f'--config.train.num_steps={steps}']
    done = subprocess.run(
      [sys.executable, 'main.py', *command],
      cwd=ROOT,
      env=environment() | {'JAX_ENABLE_X64': enabled},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0 and 'damaged' not in done.stderr, done.stderr
  assert checkpoints.steps(tmp_path / 'run' / 'checkpoints') == [4, 8, 12]
  assert not (tmp_path / 'run' / 'damaged').exists()


def test_longer_and_with_changes_allowed(trained, tmp_path):
  folder, _ = trained
  copy = tmp_path / 'copy'
  subprocess.run(['cp', '-r', folder, copy], check=True)
  more = ['--config.train.num_steps=28', '--config.train.loss=hinge', '--allow_config_change']
  assert 'steps 24 to 28' in succeed(*TINY, *more, f'--workdir={copy}')
  assert checkpoints.steps(copy / 'checkpoints')[-1] == 28


def test_several_steps_in_one_program_stopped_and_traced(trained, tmp_path):
  """Runs two rounds of 4 of 24 steps, then the rest and 2 more with a trace: bit-equal to all at once."""
  together = [*TINY, '--config.train.steps_per_dispatch=4']
  succeed(*together, f'--workdir={tmp_path}/whole')
  stop = '--config.train.num_steps=8'
  succeed(*together, f'--workdir={tmp_path}/parts', stop)
  rest = ['--config.train.steps_per_dispatch=10', '--config.train.num_steps=26', '--profile']
  printed = succeed(*TINY, *rest, f'--workdir={tmp_path}/parts')
  assert 'trace of steps 20 to 26' in printed
  rows = metrics.read(tmp_path / 'parts' / 'metrics.jsonl')
  # Each process compiles before its first row, and a round of 2 steps has a program of its own.
  assert [row['step'] for row in rows if row['time/compilation']] == [4, 12, 26]
  assert [row['step'] for row in rows] == [4, 8, 12, 16, 20, 24, 26]
  assert_same_state(tmp_path / 'whole', tmp_path / 'parts', 24)
  one, many = state_of(trained[0], 8), state_of(tmp_path / 'whole', 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one.generator, many.generator
  )


def test_profile(tmp_path):
  printed = succeed(*TINY, f'--workdir={tmp_path}/run', '--profile')
  assert 'trace of steps 10 to 20' in printed
  assert list((tmp_path / 'run' / 'profile').rglob('*.xplane.pb'))


def test_two_devices_are_near_one(trained, tmp_path, refused):
  """Trains on all devices unasked; the run is the same up to the order of sums."""
  folder = tmp_path / 'two'
  assert 'on 2 cpu devices' in succeed(*TINY, f'--workdir={folder}', devices=2)
  one, two = state_of(trained[0], 8), state_of(folder, 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one.generator, two.generator
  )
  line = refused(*TINY, f'--workdir={tmp_path}/three', '--config.train.batch_size=15')
  assert 'train.batch_size=15: not divisible by the 4 devices' in line


@pytest.mark.slow(8)
def test_a_run_without_held_out_images_is_the_same_if_resumed_and_from_the_disk(trained, tmp_path, refused):
  """Compares with a run on all images, too. From the disk it is the same up to the order of sums."""
  held_out = [*TINY, '--config.data.held_out=0.2']
  resumed, mapped = [*held_out, f'--workdir={tmp_path}/resumed'], '--config.data.memory_limit=0'
  succeed(*held_out, f'--workdir={tmp_path}/whole')
  succeed(*resumed, '--config.train.num_steps=8')
  assert 'data.held_out was 0.2 and is 0.1' in refused(*resumed, '--config.data.held_out=0.1')
  succeed(*resumed)
  assert_same_state(tmp_path / 'whole', tmp_path / 'resumed', 24)
  succeed(*held_out, mapped, f'--workdir={tmp_path}/mapped')
  on_all, whole, from_disk = (
    jax.tree.leaves(state_of(folder, 24).generator.params)
    for folder in (trained[0], tmp_path / 'whole', tmp_path / 'mapped')
  )
  for a, b in zip(whole, from_disk):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
  assert not all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(whole, on_all))
