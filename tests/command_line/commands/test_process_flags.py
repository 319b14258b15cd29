"""Detection of runs of several processes."""

import re

import pytest

from dcgan_jax.command_line import processes
from dcgan_jax.errors import InputError


@pytest.mark.parametrize(
  ('environment', 'several'),
  [
    ({}, False),
    ({'SLURM_STEP_NUM_TASKS': '32'}, True),
    ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
  ],
)
def test_a_cluster_is_known_by_its_environment(monkeypatch, environment, several):
  for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert processes.is_one_of_many(None, None, None, None) is several
  assert processes.is_one_of_many(False, None, None, None) is False
  assert processes.is_one_of_many(True, None, None, None) is True


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    (('10.0.0.1:1234', None, 0), '--coordinator=10.0.0.1:1234: is given without --num_processes'),
    ((None, 2, None), '--num_processes=2: is given without --coordinator, --process_id'),
    (('10.0.0.1', 2, 0), 'must be HOST:PORT'),
    (('10.0.0.1:123456', 2, 0), 'must be HOST:PORT'),
    (('10.0.0.1:1234', 0, 0), '--num_processes=0'),
    (('10.0.0.1:1234', 2, 2), '--process_id=2: must be from 0 to 1'),
  ],
)
def test_incomplete_flags_are_refused(flags, text):
  with pytest.raises(InputError, match=re.escape(text)):
    processes.is_one_of_many(None, *flags)
  assert processes.is_one_of_many(None, '10.0.0.1:1234', 2, 1)
