"""Runs of several processes: their flags, and joining them, until which nothing here imports JAX."""

import importlib
import os
import re
from collections.abc import Callable

from absl import flags

from dcgan_jax.errors import InputError


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of a mode that several processes can share."""
  flags.DEFINE_bool(
    'distributed',
    None,
    'Join the other processes of the run that the cluster knows; by default the environment decides.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, where no cluster tells it.', flag_values=into
  )
  flags.DEFINE_integer(
    'num_processes', None, 'How many processes there are; with --coordinator.', flag_values=into
  )
  flags.DEFINE_integer('process_id', None, 'Which one this is, from 0; with --coordinator.', flag_values=into)


def run_together(values: flags.FlagValues, function: Callable[[], None]) -> None:
  """Calls the function, after joining the other processes of the run, if there are any.

  Raises:
    InputError: the flags are wrong, or the processes did not find each other.
  """
  named = (values.coordinator, values.num_processes, values.process_id)
  if not is_one_of_many(values.distributed, *named):
    return function()
  parallel = importlib.import_module('dcgan_jax.devices.parallel')
  parallel.initialize(*named)
  try:
    with parallel.leaving_when_others_do():
      function()
  except InputError as error:  # maybe of this process alone
    parallel.leave(f'error: {error}', status=2)


def is_one_of_many(
  distributed: bool | None, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
  """Returns whether to join other processes.

  Args:
    distributed: what the user says; None decides by the environment.
    coordinator: HOST:PORT of process 0.
    num_processes: how many there are.
    process_id: which one this is, from 0.

  Raises:
    InputError: the last three are neither all given nor all None, or one is out of range.
  """
  named = {'coordinator': coordinator, 'num_processes': num_processes, 'process_id': process_id}
  given = [name for name, value in named.items() if value is not None]
  if coordinator is None or num_processes is None or process_id is None:
    if given:
      missing = ', '.join(f'--{name}' for name in named if name not in given)
      raise InputError(f'--{given[0]}={named[given[0]]}: is given without {missing}')
    return _started_as_one_of_many() if distributed is None else distributed
  host, _, port = coordinator.rpartition(':')
  if not host or not re.fullmatch('[0-9]{1,5}', port) or not 0 < int(port) < 2**16:
    raise InputError(f'--coordinator={coordinator}: must be HOST:PORT of process 0, e.g. 10.0.0.1:1234')
  if num_processes < 1:
    raise InputError(f'--num_processes={num_processes}: must be 1 or more')
  if not 0 <= process_id < num_processes:
    raise InputError(f'--process_id={process_id}: must be from 0 to {num_processes - 1}')
  return True


def _started_as_one_of_many() -> bool:
  """Returns what SLURM's srun, Open MPI's mpirun or a TPU pod say in the environment."""
  counts = [os.environ.get(name, '') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
  return any(re.fullmatch('[0-9]{1,9}', count) and int(count) > 1 for count in counts) or len(hosts) > 1
