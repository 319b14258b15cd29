"""Whether this process is one of several, by its flags and its environment; without importing JAX."""

import os

from dcgan_jax.errors import InputError


def is_one_of_many(
  distributed: bool | None, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
  """Whether to join other processes.

  Args:
    distributed: as the user says; None for by the environment.
    coordinator: HOST:PORT of process 0.
    num_processes: of the run.
    process_id: of this one, from 0.

  Raises:
    InputError: the last three are not all given or all None, or do not fit.
  """
  named = {'coordinator': coordinator, 'num_processes': num_processes, 'process_id': process_id}
  given = [name for name, value in named.items() if value is not None]
  if coordinator is None or num_processes is None or process_id is None:
    if given:
      missing = ', '.join(f'--{name}' for name in named if name not in given)
      raise InputError(f'--{given[0]}={named[given[0]]}: is given without {missing}')
    return _started_as_one_of_many() if distributed is None else distributed
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit() or not 0 < int(port) < 2**16:
    raise InputError(f'--coordinator={coordinator}: must be HOST:PORT of process 0, e.g. 10.0.0.1:1234')
  if num_processes < 1:
    raise InputError(f'--num_processes={num_processes}: must be 1 or more')
  if not 0 <= process_id < num_processes:
    raise InputError(f'--process_id={process_id}: must be from 0 to {num_processes - 1}')
  return True


def _started_as_one_of_many() -> bool:
  """As SLURM's srun, Open MPI's mpirun and the slices of a TPU pod let their processes know."""
  counts = [os.environ.get(name, '') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
  return any(count.isdigit() and int(count) > 1 for count in counts) or len(hosts) > 1
