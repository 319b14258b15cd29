"""The processes of a run: joining, agreeing, waiting for process 0, and leaving when another one fails.

JAX's distributed runtime joins them. A single process has nothing to wait for.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from dcgan_jax.errors import InputError

LONGEST_WAIT = 7 * 24 * 3600 * 1000  # milliseconds that processes wait for process 0, while it lives
_BARRIERS = itertools.count()  # Each barrier needs a name of its own.


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes of the run. Call it before anything else asks JAX for devices.

  Afterwards process 0 speaks for all: the standard output of the others is dropped.

  Args:
    coordinator: HOST:PORT of process 0, which all can reach; None asks the cluster.
    num_processes: Number of processes; None asks the cluster.
    process_id: Number of this process, from 0; None asks the cluster.

  Raises:
    InputError: There is no cluster, the others did not come within five minutes, or there are no devices.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    if coordinator is None:
      what = '--distributed: no cluster found here; give --coordinator, --num_processes and --process_id'
    else:
      what = f'--coordinator={coordinator}: the {num_processes} processes did not find each other'
    raise InputError(f'{what} ({str(error).splitlines()[0]})') from error
  devices()  # If there are none, this says so in one line.
  if not is_main():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  It stays open as long as the process lives.


def devices() -> list[jax.Device]:
  """Returns every device of every process; the devices of a process are adjacent.

  Raises:
    InputError: There are none of the kind that JAX_PLATFORMS names.
  """
  try:
    found = jax.devices()
  except Exception as error:  # RuntimeError or, without a GPU, whatever an empty list of devices leads to
    asked = jax.config.jax_platforms or ''  # type: ignore[attr-defined]
    reason = ' '.join(str(error).partition(' (')[0].split())[:200] or 'it does not say why'
    raise InputError(
      f'JAX_PLATFORMS={asked}: JAX finds no such device here ({reason}); choose cpu, or leave it out for the '
      'best that there is; cuda and tpu take a device and the extra of that name'
    ) from error
  return sorted(found, key=lambda device: (device.process_index, device.id))


def is_main() -> bool:
  """Returns whether this process writes what a run writes once: metrics, pictures, the config."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first() -> Iterator[None]:
  """Runs the block in process 0 before the others, so that it can prepare what they then find.

  The others wait for as long as it lives, be it hours of downloading. They wait at the coordination service,
  because a collective of the devices would time out.
  """
  if not is_main():
    _wait_for_all()
  yield
  if is_main():
    _wait_for_all()


def _wait_for_all() -> None:
  """Blocks until all processes are here."""
  if jax.process_count() > 1:
    from orbax.checkpoint import multihost  # slow to import; JAX itself has no public name for this barrier

    multihost.get_barrier_sync_fn()(key=f'dcgan_jax_{next(_BARRIERS)}', timeout_ms=LONGEST_WAIT)


def agreed(values: Any) -> Any:
  """Returns process 0's values: a tree of numbers and arrays with the same shapes in each process."""
  return values if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(values)


def all_agree(value: bool) -> bool:
  """Returns whether a condition holds in every process."""
  return value if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(value)).all())


@contextlib.contextmanager
def leaving_when_others_do() -> Iterator[None]:
  """Ends this process, with a message, when something that all processes do together fails.

  It ends at once, without the exits of enclosing blocks, because those could wait forever for a dead process.
  A process that hangs instead is ended by JAX's runtime after 100 seconds without a sign of life.
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
  """Ends this process now. An ordinary exit would wait for the other processes, which may be gone."""
  print(message, file=sys.stderr, flush=True)
  os._exit(status)
