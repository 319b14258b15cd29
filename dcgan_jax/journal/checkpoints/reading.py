"""Finding and restoring checkpoints. One that is damaged is set aside, and the one before is taken."""

import shutil
import sys
from pathlib import Path

import jax
from orbax.checkpoint import v1 as ocp

from dcgan_jax import files, parallel
from dcgan_jax.errors import InputError
from dcgan_jax.journal import lock
from dcgan_jax.journal.checkpoints import quiet, stamp
from dcgan_jax.journal.checkpoints.stamp import Score
from dcgan_jax.train_state import GanState

CUT, DENIED = 'a file of it is cut short or changed', 'you may not read it'
# What Orbax and TensorStore say, in whole pages, and what it means; the first that is found counts.
MEANINGS = {
  'Permission denied': DENIED,
  'PERMISSION_DENIED': DENIED,
  'No space left on device': 'no space is left on the disk',
  'File too large': 'the disk takes no larger files',
  'NOT_FOUND': 'a file of it is missing',
  'DATA_LOSS': CUT,
  'OUT_OF_RANGE': CUT,
  'while reading array': CUT,
  'line 1 column': CUT,
  'AUTO resolution mode': 'its metadata is missing',
}


class DamagedError(InputError):
  """A checkpoint cannot be restored, or not to what was saved."""


def steps(folder: Path) -> list[int]:
  """Returns the steps of the finished checkpoints in ascending order."""
  return sorted(int(p.name) for p in files.entries(folder) if p.name.isascii() and p.name.isdigit())


def best(folder: Path, protocol: str | None = None) -> list[tuple[int, Score]]:
  """Returns steps and scores of the checkpoints that have one, the best first.

  Args:
    folder: of the checkpoints.
    protocol: of the scores, since no others can be compared; None for that of the last one.
  """
  found = [(step, stamp.read_score(folder / str(step))) for step in steps(folder)]
  scored = [(step, score) for step, score in found if score is not None]
  if scored and protocol is None:
    protocol = scored[-1][1].protocol
  return sorted((x for x in scored if x[1].protocol == protocol), key=lambda x: (x[1].distance, x[0]))


def candidates(folder: Path, which: str) -> list[int]:
  """Returns the steps of the checkpoints that answer what a user asks for, the first choice first.

  Args:
    folder: of the checkpoints.
    which: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: there is no such checkpoint; the message tells which there are.
  """
  known = steps(folder)
  if which not in ('last', 'best') and not (which.isascii() and which.isdigit()):
    raise InputError(f'checkpoint={which}: choose last, best or the number of a step')
  if not known:
    raise InputError(f'{folder}: no checkpoint yet; train there first')
  if which == 'last':
    return known[::-1]
  if which == 'best':
    scored = [step for step, _ in best(folder)]
    if not scored:
      raise InputError(
        f'checkpoint=best: none of {folder} has a score; train with --config.eval.every_steps=N, or choose '
        f'one of {known}'
      )
    return scored
  if int(which) not in known:
    raise InputError(f'{folder}: no checkpoint of step {int(which)}; there are {known}')
  return [int(which)]


def restore_any(
  folder: Path, which: str, like: GanState, sharding: jax.sharding.Sharding | None = None
) -> tuple[int, GanState]:
  """Restores the first choice among checkpoints that is sound, and says which are damaged.

  Damaged ones are moved to the folder `damaged` beside `folder`, unless that cannot be written. All processes
  of a run take the same one.

  Args:
    folder: of the checkpoints.
    which: see `candidates`.
    like: see `restore`.
    sharding: see `restore`.

  Returns:
    The step, and the state.

  Raises:
    InputError: there is none, none is sound, or they are of other networks.
  """
  damaged: list[str] = []
  tried: set[int] = set()
  while True:
    try:
      choice = next((step for step in candidates(folder, which) if step not in tried), -1)
    except InputError:
      if not damaged:
        raise
      choice = -1
    step = int(parallel.agreed(choice))
    if step < 0:
      raise InputError(f'{damaged[-1]}; no other checkpoint of {folder} answers checkpoint={which}')
    tried.add(step)
    reason, state = '', None
    try:
      state = restore(folder, step, like, sharding)
    except DamagedError as error:
      reason = str(error)
    if parallel.all_agree(state is not None) and state is not None:
      return step, state
    damaged.append(reason or f'{folder / str(step)}: is damaged for another process')
    _set_aside(folder / str(step), damaged[-1])


def leave_after(folder: Path, step: int, target: Path) -> None:
  """Moves all checkpoints after a step to another folder, instead of those of the same steps there."""
  target.mkdir(exist_ok=True)
  for later in (s for s in steps(folder) if s > step):
    shutil.rmtree(target / str(later), ignore_errors=True)
    (folder / str(later)).rename(target / str(later))


def _set_aside(path: Path, reason: str) -> None:
  """Moves a damaged checkpoint out of the way, where that is possible, and says so; process 0 does."""
  with parallel.main_first():
    if not parallel.is_main() or not path.exists():  # The last may have been deleted as one of too many.
      return
    if lock.is_elsewhere(path.parent.parent):
      print(f'{reason}; another process trains there, so it stays; the one before is taken', file=sys.stderr)
      return
    try:
      where = f'it is kept as {move_aside(path, path.parent, path.name)}'
    except OSError as error:
      where = f'it stays where it is ({error.strerror})'
    print(f'{reason}; {where}; the one before is taken', file=sys.stderr, flush=True)


def move_aside(path: Path, folder: Path, name: str) -> Path:
  """Moves a checkpoint of a folder, or a part of one, to `damaged` beside it; returns where it is then.

  Raises:
    OSError: it cannot be moved.
  """
  aside = folder.with_name('damaged')
  target = next(t for t in (aside / f'{name}{"-again" * n}' for n in range(100)) if not t.exists())
  aside.mkdir(exist_ok=True)
  return path.rename(target)


def restore(
  folder: Path, step: int, like: GanState, sharding: jax.sharding.Sharding | None = None
) -> GanState:
  """Reads a state back, bit for bit.

  Args:
    folder: of the checkpoints.
    step: of the checkpoint.
    like: a state with the same shapes, concrete or abstract (`jax.eval_shape`).
    sharding: of the arrays that are read, whatever they were saved from; None for the first device of this
      process.

  Raises:
    DamagedError: it cannot be read, or its numbers are not those that were saved.
    InputError: the checkpoint is of other networks, of a newer version of this package or of another user.
  """
  path = folder.absolute() / str(step)
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
  reason = ''
  with quiet.quietly():
    try:
      found = stamp.read(path)
      stored = found.shapes or stamp.shapes_of(ocp.metadata(path).metadata)
      _check_shapes(path, stored, stamp.shapes_of(like))
      state = ocp.load(path, wanted)
    except InputError:
      raise
    except Exception as error:  # Orbax and TensorStore have many, and no common class, for broken files.
      reason = in_one_line(error)
    if reason:
      quiet.settle()
  if reason == DENIED:  # It is whole for its owner, so it must neither be set aside nor trained again.
    raise InputError(f'{path}: {DENIED}; ask its owner, or take another workdir')
  if reason:
    raise DamagedError(f'{path}: is damaged and cannot be restored ({reason})')
  now = stamp.checksums(state) if found.checksums else {}
  wrong = [name for name, value in found.checksums.items() if now.get(name) != value]
  if wrong:
    raise DamagedError(f'{path}: is damaged: the numbers of {wrong[0]} are not those that were saved')
  return state


def in_one_line(error: BaseException) -> str:
  """Returns what an error of Orbax or TensorStore means, or the beginning of its message."""
  text = ' '.join(str(error).split())
  meaning = next((words for sign, words in MEANINGS.items() if sign in text), '')
  return meaning or text[:160] or type(error).__name__


def _check_shapes(path: Path, stored: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
  """Compares names and shapes before any array is read, because Orbax's own error is pages long.

  Raises:
    InputError: they differ.
  """
  for name in sorted(wanted.keys() | stored.keys()):
    if wanted.get(name) != stored.get(name):
      raise InputError(
        f'{path}: is not of these networks: {name} has shape {stored.get(name, "none")} in the '
        f'checkpoint and {wanted.get(name, "none")} by the config'
      )
