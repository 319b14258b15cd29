"""Flags for runs of several processes, and joining them. JAX is imported only to join."""

import importlib
import os
import re
from collections.abc import Callable

from absl import flags

from dcgan_jax.errors import InputError


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of a mode that can run in several processes."""
  flags.DEFINE_bool(
    'distributed',
    None,
    'Join the other processes of the run through the cluster; by default if the environment shows any.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, if no cluster provides it.', flag_values=into
  )
  flags.DEFINE_integer('num_processes', None, 'Number of processes; with --coordinator.', flag_values=into)
  flags.DEFINE_integer(
    'process_id', None, 'Index of this process, from 0; with --coordinator.', flag_values=into
  )


def run_together(values: flags.FlagValues, function: Callable[[], None]) -> None:
  """Calls a function after joining the other processes of the run, if any.

  Raises:
    InputError: The flags are invalid, or the processes cannot connect.
  """
  named = (values.coordinator, values.num_processes, values.process_id)
  if not is_one_of_many(values.distributed, *named):
    return function()
  joined = importlib.import_module('dcgan_jax.devices.processes')
  joined.initialize(*named)
  try:
    with joined.leaving_when_others_do():
      function()
  except InputError as error:  # maybe of this process alone
    joined.leave(f'error: {error}', status=2)


def is_one_of_many(
  distributed: bool | None, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
  """Returns whether to join other processes.

  Args:
    distributed: Value of --distributed; None to look in the environment.
    coordinator: HOST:PORT of process 0.
    num_processes: Number of processes.
    process_id: Index of this process, from 0.

  Raises:
    InputError: Only some of the last three are given, or one is out of range.
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
  """Returns whether SLURM's srun, Open MPI's mpirun or a TPU pod has started several processes."""
  counts = [os.environ.get(name, '') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
  return any(re.fullmatch('[0-9]{1,9}', count) and int(count) > 1 for count in counts) or len(hosts) > 1
