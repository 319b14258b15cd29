"""Several processes as one run, by JAX's distributed runtime. In a single process all of it does nothing."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from dcgan_jax.errors import InputError


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes; to be called before anything else asks JAX for devices.

  Process 0 speaks for all from here on: the others' standard output is dropped.

  Args:
    coordinator: HOST:PORT of process 0, reachable from all; None asks the cluster.
    num_processes: of the run; None asks the cluster.
    process_id: of this one, from 0; None asks the cluster.

  Raises:
    InputError: in one line; no cluster, or the others did not come within five minutes.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    if coordinator is None:
      what = '--distributed: no cluster found here; give --coordinator, --num_processes and --process_id'
    else:
      what = f'--coordinator={coordinator}: the {num_processes} processes did not find each other'
    raise InputError(f'{what} ({str(error).splitlines()[0]})') from error
  if not is_main():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  for as long as the process lives


def is_main() -> bool:
  """Whether this process writes what is written once: metrics, pictures, config."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first() -> Iterator[None]:
  """Process 0 goes through the block before the others do: it may prepare what they then find."""
  if not is_main():
    multihost_utils.sync_global_devices('main first')
  yield
  if is_main() and jax.process_count() > 1:
    multihost_utils.sync_global_devices('main first')


def agreed(values: Any) -> Any:
  """Process 0's values: a tree of numbers and arrays, of the same shapes in each process."""
  return values if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(values)


@contextlib.contextmanager
def leaving_when_others_do() -> Iterator[None]:
  """Ends this process, with a message, when something that all do together fails.

  Whoever waits for a dead process waits in vain: so no block around this one is left in order. What hangs
  without failing is ended by JAX's runtime, after 100 seconds without a sign of life.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = str(error).strip().splitlines()[0][:200]
    leave(
      f'error: process {jax.process_index()} of {jax.process_count()} ends: {reason}; as a rule because '
      'another process has died: start all again, and training goes on from its last checkpoint',
      status=1,
    )


def leave(message: str, status: int) -> NoReturn:
  """Ends this process now, without waiting for others that may be no more, as an ordinary end would."""
  print(message, file=sys.stderr, flush=True)
  os._exit(status)
