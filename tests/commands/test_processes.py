"""Runs of two real processes, which talk to each other through gloo, as a user starts them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY, assert_same_state, environment, state_of

from dcgan_jax.journal import checkpoints

pytestmark = pytest.mark.slow


def _start(arguments, processes=2, devices=1):
  """Starts the processes of a run, as one would by hand on each host."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  command = [sys.executable, 'main.py', *arguments]
  if processes > 1:
    command += [f'--coordinator=127.0.0.1:{port}', f'--num_processes={processes}']
  ids = [[f'--process_id={i}'] if processes > 1 else [] for i in range(processes)]
  pipe = subprocess.PIPE
  return [
    subprocess.Popen(
      command + own, cwd=ROOT, env=environment(devices), stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    for own in ids
  ]


def _succeed(*arguments, **topology):
  """Runs the processes, which must succeed; returns what each printed."""
  started = _start(arguments, **topology)
  printed = [process.communicate(timeout=240)[0] for process in started]
  assert [process.returncode for process in started] == [0] * len(started), printed
  return printed


def _wait_for(process, text):
  for line in process.stdout:
    if text in line:
      return
  raise AssertionError(f'{text} was never printed')


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  """The workdir of an uninterrupted run of two processes with two devices each."""
  folder = tmp_path_factory.mktemp('runs') / 'together'
  first, second = _succeed(*TINY, f'--workdir={folder}', devices=2)
  assert 'on 4 cpu devices of 2 processes' in first and 'trained to step 24' in first
  assert 'step' not in second  # Process 0 speaks for all.
  return folder


def test_one_run_one_writer(together):
  rows = [json.loads(line) for line in (together / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == list(range(4, 25, 4))
  assert checkpoints.steps(together / 'checkpoints') == [8, 16, 24]
  assert (together / 'samples.gif').exists() and (together / 'losses.png').exists()


def test_two_processes_are_near_one(together, tmp_path):
  """Compares up to the order of sums, also where each process reads its own part of a stream."""
  alone, streamed = tmp_path / 'alone', tmp_path / 'streamed'
  short = [*TINY, '--config.train.num_steps=8', '--config.sample.every_steps=0']
  _succeed(*short, f'--workdir={alone}', processes=1)
  _succeed(*short, f'--workdir={streamed}', '--config.data.memory_limit=0')
  for folder in (together, streamed):
    a, b = state_of(alone, 8).generator, state_of(folder, 8).generator
    for one, two in zip(*(map(np.asarray, x) for x in (jax.tree.leaves(a), jax.tree.leaves(b)))):
      np.testing.assert_allclose(one, two, rtol=1e-4, atol=2e-5)


def test_checkpoints_are_of_any_topology(tmp_path):
  """Saves with two processes of two devices and reads the same bits with one, and the other way round."""
  script = """
import hashlib, json, pathlib, sys
import jax, numpy as np
from configs import digits
from dcgan_jax import experiment, parallel, settings
from dcgan_jax.journal import checkpoints
folder, save, *join = sys.argv[1:]
folder = pathlib.Path(folder)
if join:
  parallel.initialize(join[0], 2, int(join[1]))
mesh = parallel.replicated(parallel.all_devices())
config = digits.get_config()
config.seed = 7
create = experiment.build(settings.check(config)).initial_state
if save == 'save':
  state = jax.jit(create, out_shardings=mesh)()
  saver = checkpoints.open_for_writing(folder, 1)
  checkpoints.save(saver, state)
  saver.close()
else:
  state = checkpoints.restore(folder, 0, jax.eval_shape(create), mesh)
leaves = [np.asarray(x) for x in jax.tree.leaves(state)]
print('digest', hashlib.sha256(b''.join(x.tobytes() for x in leaves)).hexdigest(), len(jax.devices()))
"""

  def digest(folder, verb, processes):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      join = [f'127.0.0.1:{free.getsockname()[1]}']
    command = [sys.executable, '-c', script, str(folder), verb]
    started = [
      subprocess.Popen(
        [*command, *join, str(i)] if processes > 1 else command,
        cwd=ROOT,
        env=environment(processes),
        stdout=subprocess.PIPE,
        text=True,
      )
      for i in range(processes)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    found = re.search(r'digest (\w+) (\d)', printed[0])
    assert int(found[2]) == processes**2
    return found[1]

  for a, b in ((2, 1), (1, 2)):
    folder = tmp_path / f'saved_by_{a}'
    assert digest(folder, 'save', a) == digest(folder, 'restore', b)


def test_continues_in_one_process_and_in_two_again(together, tmp_path):
  folder = tmp_path / 'moved'
  _succeed(*TINY, '--config.train.num_steps=8', f'--workdir={folder}', devices=2)
  assert_same_state(together, folder, 8)
  assert (
    'steps 8 to 16' in _succeed(*TINY, '--config.train.num_steps=16', f'--workdir={folder}', processes=1)[0]
  )
  assert 'steps 16 to 24' in _succeed(*TINY, f'--workdir={folder}', devices=2)[0]
  for a, b in zip(jax.tree.leaves(state_of(together, 24)), jax.tree.leaves(state_of(folder, 24))):
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3)


ENDLESS = [*TINY, '--config.train.num_steps=100000', '--config.sample.every_steps=0']


def _assert_goes_on_as_if_never_stopped(folder, fresh):
  """Compares a restart, for some more steps, with a run from the start."""
  steps = [f'--config.train.num_steps={checkpoints.steps(folder / "checkpoints")[-1] + 8}']
  _succeed(*ENDLESS, *steps, f'--workdir={folder}', devices=2)
  _succeed(*ENDLESS, *steps, f'--workdir={fresh}', devices=2)
  assert_same_state(fresh, folder, checkpoints.steps(fresh / 'checkpoints')[-1])


def test_sigterm_to_one_saves_all_at_one_step(tmp_path):
  folder = tmp_path / 'stopped'
  first, second = _start(
    [*ENDLESS, f'--workdir={folder}', '--config.checkpoint.every_steps=10000'], devices=2
  )
  _wait_for(first, 'step 8/')
  second.send_signal(signal.SIGTERM)
  printed = [process.communicate(timeout=120)[0] for process in (first, second)]
  assert (first.returncode, second.returncode) == (143, 143), printed
  (step,) = checkpoints.steps(folder / 'checkpoints')
  assert f'SIGTERM: saved step {step}' in printed[0]
  _assert_goes_on_as_if_never_stopped(folder, tmp_path / 'fresh')


def test_a_killed_process_ends_the_others_and_the_last_checkpoint_is_good(tmp_path):
  folder = tmp_path / 'killed'
  # It saves rarely: a process that saves when the other dies waits for the runtime's time-out.
  first, second = _start([*ENDLESS, f'--workdir={folder}', '--config.checkpoint.every_steps=200'], devices=2)
  _wait_for(first, 'step 240/')
  second.kill()
  printed, _ = first.communicate(timeout=150)
  second.communicate()
  assert first.returncode not in (0, 143) and second.returncode == -signal.SIGKILL
  assert 'another process has died' in printed or 'another task died' in printed
  _assert_goes_on_as_if_never_stopped(folder, tmp_path / 'fresh')


def test_samples_of_two_processes_are_those_of_one(together, tmp_path):
  """Compares any numbers of devices; 70 images are no whole number of batches."""
  made = []
  for i, topology in enumerate(({'devices': 2}, {'processes': 1}, {'processes': 1, 'devices': 3})):
    for statistics in ('stored', 'batch'):
      out = tmp_path / f'{i}{statistics}.npz'
      arguments = ('--mode=sample', f'--workdir={together}', '--num=70', f'--statistics={statistics}')
      _succeed(*arguments, f'--out={out}', **topology)
      made.append(np.load(out)['x'])
  for i in (2, 3, 4, 5):
    np.testing.assert_array_equal(made[i], made[i % 2])


def test_no_cluster_is_one_line():
  env = {k: v for k, v in environment().items() if not k.startswith(('SLURM', 'OMPI', 'TPU', 'KUBERNETES'))}
  command = [sys.executable, 'main.py', *TINY, '--distributed', f'--workdir={os.devnull}/x']
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
  assert done.returncode == 2 and '--distributed: no cluster' in done.stderr.splitlines()[-1]
