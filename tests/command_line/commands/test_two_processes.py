"""Runs of two real processes, connected by gloo, from the command line."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import (
  ROOT,
  TINY,
  assert_same_state,
  environment,
  state_of,
  succeed_together,
  untrained_run,
)

import dcgan_jax
from dcgan_jax.records import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  """The workdir of an uninterrupted run of two processes with two devices each."""
  folder = tmp_path_factory.mktemp('runs') / 'together'
  first, second = succeed_together(*TINY, f'--workdir={folder}', devices=2)
  assert 'on 4 cpu devices of 2 processes' in first and 'trained to step 24' in first
  assert 'step' not in second  # Process 0 speaks for all.
  return folder


def test_one_run_one_writer(together):
  rows = [json.loads(line) for line in (together / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == list(range(4, 25, 4))
  assert checkpoints.steps(together / 'checkpoints') == [8, 16, 24]
  assert (together / 'samples.gif').exists() and (together / 'losses.png').exists()


def test_two_processes_are_near_one(trained, together, tmp_path):
  """Compares up to the order of sums, also where each process reads its own part of a batch."""
  mapped = tmp_path / 'mapped'
  short = [*TINY, '--config.train.num_steps=8', '--config.sample.every_steps=0']
  succeed_together(*short, f'--workdir={mapped}', '--config.data.memory_limit=0')
  for folder in (together, mapped):
    a, b = state_of(trained[0], 8).generator, state_of(folder, 8).generator
    for one, two in zip(*(map(np.asarray, x) for x in (jax.tree.leaves(a), jax.tree.leaves(b)))):
      np.testing.assert_allclose(one, two, rtol=1e-4, atol=2e-5)


def test_checkpoints_are_of_any_topology(tmp_path):
  """Reads in two processes what this one has saved, and the other way round, with the same bits."""
  script = """
import hashlib, pathlib, sys
import jax, numpy as np
from dcgan_jax.devices import placement, processes
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.runs import experiment
alone, together, address, i = sys.argv[1:]
processes.initialize(address, 2, int(i))
create = experiment.build(workdir.read_settings(pathlib.Path(alone))).initial_state
mesh = placement.replicated(placement.mesh())
state = checkpoints.restore(pathlib.Path(alone, 'checkpoints'), 0, create, mesh)
saver = checkpoints.Saver(pathlib.Path(together, 'checkpoints'), 1)
saver.save(state)
saver.close()
leaves = [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]
print(len(jax.devices()), hashlib.sha256(b''.join(leaves)).hexdigest())
"""
  alone, together = untrained_run(tmp_path / 'alone'), tmp_path / 'together'
  shutil.copytree(alone, together, ignore=shutil.ignore_patterns('checkpoints'))
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  command = [sys.executable, '-c', script, alone, together, address]
  pipes = {'cwd': ROOT, 'env': environment(2), 'stdout': subprocess.PIPE, 'text': True}
  started = [subprocess.Popen([*command, str(i)], **pipes) for i in range(2)]
  printed = [process.communicate(timeout=120)[0] for process in started]
  leaves = [np.asarray(x).tobytes() for x in jax.tree.leaves(state_of(alone, 0))]
  digest = hashlib.sha256(b''.join(leaves)).hexdigest()
  assert f'4 {digest}\n' in printed[0]  # The other process says nothing.
  assert [process.returncode for process in started] == [0, 0]
  assert_same_state(alone, together, 0)


def test_continues_in_one_process_and_in_two_again(together, tmp_path):
  folder = tmp_path / 'moved'
  shutil.copytree(together, folder)
  for later in ('16', '24'):
    shutil.rmtree(folder / 'checkpoints' / later)
  stop = '--config.train.num_steps=16'
  assert 'steps 8 to 16' in succeed_together(*TINY, stop, f'--workdir={folder}', processes=1)[0]
  assert 'steps 16 to 24' in succeed_together(*TINY, f'--workdir={folder}', devices=2)[0]
  for a, b in zip(jax.tree.leaves(state_of(together, 24)), jax.tree.leaves(state_of(folder, 24))):
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3)


def test_processes_agree_on_the_checkpoint_before_a_damaged_one(together, tmp_path):
  folder = tmp_path / 'damaged_run'
  shutil.copytree(together, folder)
  files = [path for path in (folder / 'checkpoints' / '24').rglob('*') if path.is_file()]
  os.truncate(max(files, key=lambda path: path.stat().st_size), 100)
  first, second = succeed_together(*TINY, f'--workdir={folder}', devices=2)
  assert 'steps 16 to 24' in first and '24: is damaged' in first and 'is damaged' not in second
  assert (folder / 'damaged' / '24').is_dir()
  assert_same_state(together, folder, 24)


@pytest.mark.parametrize(
  ('statistics', 'topology'), [('stored', {'processes': 1, 'devices': 3}), ('batch', {'devices': 2})]
)
def test_samples_of_two_processes_are_those_of_one(together, tmp_path, statistics, topology):
  """Compares with those of this process and its four devices; 70 images are no whole number of batches."""
  arguments = ('--mode=sample', f'--workdir={together}', '--num=70', f'--statistics={statistics}')
  succeed_together(*arguments, f'--out={tmp_path}/x.npz', **topology)
  made = dcgan_jax.load(together).sample(70, statistics=statistics)
  np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['x'], made)


def test_no_cluster_is_one_line():
  env = {k: v for k, v in environment().items() if not k.startswith(('SLURM', 'OMPI', 'TPU', 'KUBERNETES'))}
  command = [sys.executable, 'main.py', *TINY, '--distributed', f'--workdir={os.devnull}/x']
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
  assert done.returncode == 2 and '--distributed: no cluster' in done.stderr.splitlines()[-1]
