"""Replays a part of a run and compares every bit, to see whether this machine reproduces it."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, collapse, lock, workdir
from dcgan_jax.records.schedule import of_run
from dcgan_jax.runs.experiment import build
from dcgan_jax.training import rounds

DELETION = 5.0  # seconds that another process takes at most to delete a checkpoint


def run(folder: Path, checkpoint: str | None) -> None:
  """Restores a checkpoint of a run, trains to the next one, and compares with what was saved there.

  Nothing is written to the workdir.

  Args:
    folder: The workdir.
    checkpoint: Step of the checkpoint to begin with; None for the last but one.

  Raises:
    InputError: There are no two checkpoints, or they cannot be restored.
    SystemExit: 1, the states differ.
  """
  chosen = workdir.read_settings(folder)
  collapse.check_rates(folder, chosen)
  experiment = build(chosen)
  begin, end = _choose(checkpoints.steps(folder / 'checkpoints'), folder, checkpoint)
  cache.keep_compiled_programs()
  mesh = placement.mesh()
  sharding = placement.replicated(mesh)
  state, wanted = (_restore(folder, step, experiment.initial_state, sharding) for step in (begin, end))
  schedule = of_run(chosen, experiment.num_images, begin, end)
  take_round, feed = rounds.prepare(experiment, folder, schedule, mesh)
  step = begin
  with contextlib.closing(feed):
    while step < end:
      inputs = next(feed)
      state, *_ = take_round(state, inputs.batches)
      step += inputs.steps
  wrong = differences(state, wanted)
  total = len(jax.tree.leaves(wanted))
  print(f'{folder}: steps {begin} to {end}, on {jax.device_count()} {jax.default_backend()} device(s)')
  if not wrong:
    print(f'every bit of all {total} arrays agrees')
    return
  name, size = max(wrong.items(), key=lambda item: item[1])
  print(
    f'{len(wrong)} of {total} arrays differ, {name} most, by {size:.3g}: another number or kind of devices, '
    'other versions, or a GPU without train.deterministic'
  )
  raise SystemExit(1)


def _choose(known: list[int], folder: Path, checkpoint: str | None) -> tuple[int, int]:
  """Returns the steps of a checkpoint and of the one after it.

  Raises:
    InputError: There are none.
  """
  if len(known) < 2:
    raise InputError(f'{folder}: verify needs two checkpoints, and the run has {known}; see checkpoint.keep')
  if checkpoint is None:
    return known[-2], known[-1]
  if not (checkpoint.isascii() and checkpoint.isdigit()) or int(checkpoint) not in known[:-1]:
    raise InputError(f'checkpoint={checkpoint}: choose one that another follows: {known[:-1]}')
  index = known.index(int(checkpoint))
  return known[index], known[index + 1]


def _restore(
  folder: Path, step: int, initial_state: Callable[[], GanState], sharding: jax.sharding.Sharding
) -> GanState:
  """Restores a checkpoint, which a process that trains in the workdir may delete at the same time.

  Raises:
    InputError: It has been deleted, is damaged or belongs to other networks.
  """
  kept = folder / 'checkpoints'
  try:
    return checkpoints.restore(kept, step, initial_state, sharding)
  except checkpoints.DamagedError as error:
    until = time.monotonic() + DELETION
    while (kept / str(step)).exists() and lock.is_elsewhere(folder) and time.monotonic() < until:
      time.sleep(0.05)  # Its files go one by one, and the folder last.
    if (kept / str(step)).exists():
      raise
    raise InputError(
      f'checkpoint={step}: the training in {folder} has deleted it meanwhile, as one of too many; choose '
      f'another of {checkpoints.steps(kept)[:-1]}, or wait for the training to end'
    ) from error


def differences(a: Any, b: Any) -> dict[str, float]:
  """Returns the largest difference in each array whose bits differ in two trees, by the array's path."""
  found = {}
  pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
  for (path, x), y in pairs:
    x, y = np.asarray(x), np.asarray(y)
    if x.tobytes() != y.tobytes():
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      found[name] = float(np.abs(x.astype(np.float64) - y.astype(np.float64)).max())
  return found
