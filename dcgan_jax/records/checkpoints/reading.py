"""Finding and restoring checkpoints. Instead of one that is damaged, the one before is taken.

Damage is a file that is missing, cut short or changed. What else keeps this process from reading a checkpoint
(a permission, too many open files, no memory) says nothing of it, and ends the command in one line.
"""

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dcgan_jax import files
from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.records.checkpoints import quiet, stamp
from dcgan_jax.records.checkpoints.stamp import Score
from dcgan_jax.records.workdir import steps

CUT = 'a file of it is cut short or changed'
# What Orbax and TensorStore say, in whole pages, of a file that is missing, cut or changed, and its meaning.
DAMAGES = {
  'NOT_FOUND': 'a file of it is missing',
  'DATA_LOSS': CUT,
  'OUT_OF_RANGE': CUT,
  'FAILED_PRECONDITION': CUT,
  'line 1 column': CUT,
  'AUTO resolution mode': 'its metadata is missing',
}
PARSING = (ValueError, LookupError, TypeError, AttributeError, StopIteration)  # of broken metadata
STATUS = re.compile('[A-Z_]+: ')  # with which TensorStore begins its errors, which are ValueErrors
MISSING = (errno.ENOENT, errno.ENOTDIR)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
SAID = {errno.ENOSPC: 'no space is left on the disk', errno.EFBIG: 'the disk takes no larger files'}


class DamagedError(InputError):
  """A checkpoint cannot be restored, or not to what was saved."""


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
  folder: Path,
  which: str,
  like: GanState,
  sharding: jax.sharding.Sharding | None = None,
  set_aside: bool = False,
) -> tuple[int, GanState]:
  """Restores the first choice among checkpoints that is sound, and says which are damaged.

  All processes of a run take the same one.

  Args:
    folder: of the checkpoints.
    which: see `candidates`.
    like: see `restore`.
    sharding: see `restore`.
    set_aside: whether damaged ones are moved to the folder `damaged` beside `folder`, as only the process
      that trains there may do. They are not if none is sound, since then something else may be wrong.

  Returns:
    The step, and the state.

  Raises:
    InputError: there is none, none is sound, one cannot be read now, or they are of other networks.
  """
  damaged: dict[int, str] = {}  # what is wrong with each, by its step
  while True:
    try:
      choice = next((step for step in candidates(folder, which) if step not in damaged), -1)
    except InputError:
      if not damaged:
        raise
      choice = -1
    step = int(processes.agreed(choice))
    if step < 0:
      raise InputError(
        f'{[*damaged.values()][-1]}; no other checkpoint of {folder} answers checkpoint={which}; nothing was '
        'moved: copy one back from a backup, or train in another --workdir'
      )
    reason, state = '', None
    try:
      state = restore(folder, step, like, sharding)
    except DamagedError as error:
      reason = str(error)
    if processes.all_agree(state is not None) and state is not None:
      with processes.main_first():
        for other, why in damaged.items() if processes.is_main() else ():
          _tell(folder / str(other), why, step, set_aside)
      return step, state
    damaged[step] = reason or f'{folder / str(step)}: is damaged for another process'


def _tell(path: Path, why: str, taken: int, set_aside: bool) -> None:
  """Says that a checkpoint is damaged, after moving it away if that is wanted, and which is taken instead."""
  where = 'it stays where it is'
  if not os.path.exists(path):  # It was deleted meanwhile, as one of too many.
    return
  if set_aside:
    try:
      where = f'it is kept as {move_aside(path, path.parent, path.name)}'
    except OSError as error:
      where += f' ({error.strerror})'
  print(f'{why}; {where}; step {taken} is taken instead', file=sys.stderr, flush=True)


def move_aside(path: Path, folder: Path, name: str) -> Path:
  """Moves a checkpoint of a folder, or a part of one, to `damaged` beside it; returns where it is then.

  Raises:
    OSError: it cannot be moved.
  """
  aside = folder.with_name('damaged')
  target = next(t for t in (aside / f'{name}{"-again" * n}' for n in range(100)) if not t.exists())
  aside.mkdir(exist_ok=True)
  shutil.move(path, target)  # The folder may be a link to another disk.
  return target


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
    DamagedError: a file of it is missing, cut or changed, or its numbers are not those that were saved.
    InputError: the checkpoint cannot be read now, or is of other networks or a newer version of this package.
  """
  path = folder.absolute() / str(step)
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
  failed = None
  with quiet.quietly():
    try:
      _open_all(path)
      metadata = ocp.metadata(path)
      found = stamp.read(path, metadata.custom_metadata)
      stored = stamp.shapes_of(metadata.metadata)
      if stored:  # Orbax has none where it meets an error, which `load` raises.
        if found.shapes and found.shapes != stored:
          raise DamagedError(f'{path}: is damaged: its files do not agree on its arrays')
        _check_arrays(path, stored, stamp.shapes_of(like), 'shape')
        _check_arrays(path, stamp.dtypes_of(metadata.metadata), stamp.dtypes_of(like), 'dtype')
      state = ocp.load(path, wanted)
    except InputError:
      raise
    except Exception as error:  # Orbax and TensorStore have many, and no common class, for broken files.
      failed = _refusal(path, error)
    if failed:
      quiet.settle()
  if failed:
    raise failed
  now = stamp.checksums(state) if found.checksums else {}
  wrong = [name for name, value in found.checksums.items() if now.get(name) != value]
  if wrong:
    raise DamagedError(f'{path}: is damaged: the numbers of {wrong[0]} are not those that were saved')
  return state


def in_one_line(error: BaseException) -> str:
  """Returns what an error of Orbax or TensorStore means, or the beginning of its message."""
  root = _root(error)
  text = ' '.join(str(root).split())
  if number := os_error(root):
    return SAID.get(number) or getattr(root, 'strerror', None) or os.strerror(number)
  if isinstance(root, MemoryError) or 'RESOURCE_EXHAUSTED' in text:
    return 'out of memory'
  meaning = next((words for sign, words in DAMAGES.items() if sign in text), '')
  return meaning or text[:160] or type(root).__name__


def os_error(error: BaseException) -> int:
  """Returns the number of the operating system's error that has caused an error; 0 if none has."""
  root = _root(error)
  if isinstance(root, OSError):
    return root.errno or 0
  found = re.search(r"(?:os_error_code='|OS error )(\d+)", str(root))  # in TensorStore's words, old and new
  return int(found[1]) if found else 0


def _root(error: BaseException) -> BaseException:
  """Returns what has caused an error."""
  while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
    error = cause
  return error


def _open_all(path: Path) -> None:
  """Opens each file of a checkpoint, because Orbax takes one that it may not open for one that is not there.

  Raises:
    OSError: one cannot be opened.
  """

  def refuse(error: OSError) -> None:
    raise error

  for folder, _, names in os.walk(path, onerror=refuse):
    for name in names:
      with files.opened(Path(folder, name)):
        pass


def _refusal(path: Path, error: Exception) -> InputError:
  """Returns what to say of an error in reading a checkpoint: that it is damaged, or cannot be read now."""
  root = _root(error)
  number, reason = os_error(root), in_one_line(root)
  if number in MISSING:
    reason = DAMAGES['NOT_FOUND']
  elif not number and isinstance(root, PARSING) and not STATUS.match(str(root)):
    reason = reason if reason in DAMAGES.values() else f'{CUT}: {type(root).__name__} {reason}'
  elif number or reason not in DAMAGES.values():
    return InputError(f'{path}: cannot be read ({reason}); it is left as it is, for when it can be')
  return DamagedError(f'{path}: is damaged and cannot be restored ({reason})')


def _check_arrays(path: Path, stored: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
  """Compares names and shapes, or dtypes, before any array is read: Orbax's own error is pages long.

  Raises:
    InputError: they differ.
  """
  for name in sorted(wanted.keys() | stored.keys()):
    if wanted.get(name) != stored.get(name):
      raise InputError(
        f'{path}: is not of these networks: {name} has {what} {stored.get(name, "none")} in the '
        f'checkpoint and {wanted.get(name, "none")} by the config'
      )
