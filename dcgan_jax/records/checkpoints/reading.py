"""Finds and restores checkpoints. If one is damaged, the one before is taken instead.

Damage is a file that is missing, cut short or changed. Anything else that keeps this process from reading a
checkpoint (a permission, too many open files, no memory) is not damage; it ends the command with a one-line
error.
"""

import contextlib
import errno
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from dcgan_jax import files
from dcgan_jax.core import compiling
from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.records.checkpoints import quiet, stamp
from dcgan_jax.records.checkpoints.stamp import Score
from dcgan_jax.records.workdir import steps

CUT = 'a file of it is cut short or changed'
# Signs of damage in the long messages of Orbax and TensorStore, and their meaning.
DAMAGES = {
  'NOT_FOUND': 'a file of it is missing',
  'DATA_LOSS': CUT,
  'OUT_OF_RANGE': CUT,
  'FAILED_PRECONDITION': CUT,
  'line 1 column': CUT,
  'AUTO resolution mode': 'its metadata is missing',
}
PARSING = (ValueError, LookupError, TypeError, AttributeError, StopIteration)  # of broken metadata
# Names of arrays that have no default.
REQUIRED = re.compile('step$|key$|(generator|discriminator)/(params|batch_stats)/')
STATUS = re.compile('[A-Z_]+: ')  # start of TensorStore's errors, which are ValueErrors
MISSING = (errno.ENOENT, errno.ENOTDIR)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
DESCRIPTORS = 24  # files that Orbax may have open at a time, its event loops included
SAID = {errno.ENOSPC: 'no space is left on the disk', errno.EFBIG: 'the disk takes no larger files'}


class DamagedError(InputError):
  """A checkpoint cannot be restored to the state that was saved."""


def best(folder: Path, protocol: str | None = None) -> list[tuple[int, Score]]:
  """Returns steps and scores of the checkpoints that have a score, the best first.

  Args:
    folder: Folder of the checkpoints.
    protocol: Only scores of this protocol count, since others do not compare; None for the last score's.
  """
  found = [(step, stamp.read_score(folder / str(step))) for step in steps(folder)]
  scored = [(step, score) for step, score in found if score is not None]
  if scored and protocol is None:
    protocol = scored[-1][1].protocol
  return sorted((x for x in scored if x[1].protocol == protocol), key=lambda x: (x[1].distance, x[0]))


def candidates(folder: Path, which: str) -> list[int]:
  """Returns the steps of the checkpoints that match a user's choice, the first choice first.

  Args:
    folder: Folder of the checkpoints.
    which: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: There is no such checkpoint; the message lists those that exist.
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
  initial_state: Callable[[], GanState],
  sharding: jax.sharding.Sharding | None = None,
  set_aside: bool = False,
) -> tuple[int, GanState]:
  """Restores the first choice among checkpoints that is sound, and says which are damaged.

  All processes of a run take the same one.

  Args:
    folder: Folder of the checkpoints.
    which: 'last', 'best' by score, or the number of a step.
    initial_state: Function that makes the state before the first step, see `restore`.
    sharding: Sharding of the restored arrays, see `restore`.
    set_aside: Whether damaged ones are moved to the folder `damaged` beside `folder`, which only the process
      that trains there may do. They stay if none is sound, since then something else may be wrong.

  Returns:
    The step, and the state.

  Raises:
    InputError: There is none, none is sound, one cannot be read now, or they are of other networks.
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
        f'{[*damaged.values()][-1]}; {folder} has no sound checkpoint for checkpoint={which}; nothing was '
        'moved: copy one back from a backup, or train in another --workdir'
      )
    reason, state = '', None
    try:
      state = restore(folder, step, initial_state, sharding)
    except DamagedError as error:
      reason = str(error)
    if processes.all_agree(state is not None) and state is not None:
      with processes.main_first():
        for other, why in damaged.items() if processes.is_main() else ():
          _tell(folder / str(other), why, step, set_aside)
      return step, state
    damaged[step] = reason or f'{folder / str(step)}: is damaged for another process'


def _tell(path: Path, why: str, taken: int, set_aside: bool) -> None:
  """Prints that a checkpoint is damaged and which is taken instead, after moving it away if `set_aside`."""
  where = 'it stays where it is'
  if not os.path.exists(path):  # It was deleted meanwhile, as the oldest.
    return
  if set_aside:
    try:
      where = f'it is kept as {move_aside(path, path.parent, path.name)}'
    except OSError as error:
      where += f' ({error.strerror})'
  print(f'{why}; {where}; step {taken} is taken instead', file=sys.stderr, flush=True)


def move_aside(path: Path, folder: Path, name: str) -> Path:
  """Moves a checkpoint of a folder, or a part of one, to `damaged` beside the folder; returns its new path.

  Raises:
    OSError: It cannot be moved.
  """
  aside = folder.with_name('damaged')
  target = next(t for t in (aside / f'{name}{"-again" * n}' for n in range(100)) if not t.exists())
  aside.mkdir(exist_ok=True)
  shutil.move(path, target)  # The folder may be a link to another disk.
  return target


def restore(
  folder: Path,
  step: int,
  initial_state: Callable[[], GanState],
  sharding: jax.sharding.Sharding | None = None,
) -> GanState:
  """Reads a state back, bit for bit. Its arrays are matched by name.

  The arrays of the networks must all be there. Any other array that the checkpoint lacks gets its default:
  its value in the initial state or, in the moving average, a copy of G's array. Any other array that only the
  checkpoint has is left out. Both are printed in one line.

  Args:
    folder: Folder of the checkpoints.
    step: Step of the checkpoint.
    initial_state: Function that makes the state before the first step, as `Experiment.initial_state`; it is
      traced for names and shapes, and only run for defaults.
    sharding: Sharding of the restored arrays, whatever they were saved from; None for the first device of
      this process.

  Raises:
    DamagedError: A file of it is missing, cut or changed, or its numbers are not those that were saved.
    InputError: The checkpoint cannot be read now, or is of other networks or a newer version of this package.
  """
  path = folder.absolute() / str(step)
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  like, failed = jax.eval_shape(initial_state), None
  with quiet.quietly():
    try:
      _open_all(path)
      check_descriptors()
      metadata = ocp.metadata(path)
      found, stored = stamp.read(path, metadata.custom_metadata), metadata.metadata
      if stored:  # Orbax has none where it meets an error, which `load` raises.
        shapes = stamp.shapes_of(stored)
        if found.shapes and found.shapes != shapes:
          raise DamagedError(f'{path}: is damaged: its files do not agree on its arrays')
        _check_arrays(path, shapes, stamp.shapes_of(like), 'shape')
        _check_arrays(path, stamp.dtypes_of(stored), stamp.dtypes_of(like), 'dtype')
      wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), stored or like
      )
      arrays = stamp.named(ocp.load(path, wanted))
    except InputError:
      raise
    except Exception as error:  # Orbax and TensorStore have many, and no common class, for broken files.
      failed = _refusal(path, error)
    if failed:
      quiet.settle()
  if failed:
    raise failed
  now = stamp.checksums(arrays) if found.checksums else {}
  wrong = [name for name, value in found.checksums.items() if now.get(name) != value]
  if wrong:
    raise DamagedError(f'{path}: is damaged: the numbers of {wrong[0]} are not those that were saved')
  names = stamp.named(like)
  missing, left_out = [n for n in names if n not in arrays], [n for n in arrays if n not in names]
  said = [f'has no {_parts_of(missing)} (default values are used)'] if missing else []
  said += [f'has {_parts_of(left_out)} (left out)'] if left_out else []
  if said and processes.is_main():
    print(f'{path}: {"; ".join(said)}', flush=True)
  if missing:
    arrays |= _defaults(missing, arrays, initial_state, sharding)
  return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in names])


def _defaults(
  names: list[str],
  arrays: dict[str, jax.Array],
  initial_state: Callable[[], GanState],
  sharding: jax.sharding.Sharding,
) -> dict[str, jax.Array]:
  """Returns the defaults of arrays that a checkpoint lacks, by their names.

  Args:
    names: Names of these arrays.
    arrays: Arrays of the checkpoint.
    initial_state: Function that makes the state before the first step.
    sharding: Sharding of the defaults.
  """
  sources = {name: re.sub('^ema/', 'generator/', name) for name in names if name.startswith('ema/')}

  def make(sources: dict[str, jax.Array]) -> dict[str, jax.Array]:
    initial = stamp.named(initial_state())
    # Copies, because the train step donates the state, in which no two leaves may share a buffer.
    return {name: jnp.copy(sources[name]) if name in sources else initial[name] for name in names}

  program = compiling.jit(make, runs_once=True, out_shardings=sharding)
  return program({name: arrays[source] for name, source in sources.items()})


def _parts_of(names: list[str]) -> str:
  """Returns the parts of the state that arrays belong to, e.g. 'discriminator/memory, ema'."""
  return ', '.join(dict.fromkeys(re.sub('^(ema|[^/]+/[^/]+)/.*', r'\1', name) for name in names))


def in_one_line(error: BaseException) -> str:
  """Returns the meaning of an error of Orbax or TensorStore, or the beginning of its message."""
  root = _root(error)
  text = ' '.join(str(root).split())
  if number := os_error(root):
    return SAID.get(number) or getattr(root, 'strerror', None) or os.strerror(number)
  if isinstance(root, MemoryError) or 'RESOURCE_EXHAUSTED' in text:
    return 'out of memory'
  meaning = next((words for sign, words in DAMAGES.items() if sign in text), '')
  return meaning or text[:160] or type(root).__name__


def os_error(error: BaseException) -> int:
  """Returns the number of the system error that caused an error; 0 if none did."""
  root = _root(error)
  if isinstance(root, OSError):
    return root.errno or 0
  found = re.search(r"(?:os_error_code='|OS error )(\d+)", str(root))  # in TensorStore's words, old and new
  return int(found[1]) if found else 0


def _root(error: BaseException) -> BaseException:
  """Returns the root cause of an error."""
  while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
    error = cause
  return error


def _open_all(path: Path) -> None:
  """Opens each file of a checkpoint, because Orbax reports one that it may not open as missing.

  Raises:
    OSError: A file cannot be opened.
  """

  def refuse(error: OSError) -> None:
    raise error

  for folder, _, names in os.walk(path, onerror=refuse):
    for name in names:
      with files.opened(Path(folder, name)):
        pass


def check_descriptors() -> None:
  """Checks that Orbax can open files: the event loop that it uses aborts the process where it cannot.

  Raises:
    OSError: Too many files are open.
  """
  with contextlib.ExitStack() as opened:
    for _ in range(DESCRIPTORS):
      opened.enter_context(open(os.devnull, 'rb'))


def _refusal(path: Path, error: Exception) -> InputError:
  """Returns the error to raise after a failed read: the checkpoint is damaged, or cannot be read now."""
  root = _root(error)
  number, reason = os_error(root), in_one_line(root)
  if number in MISSING:
    reason = DAMAGES['NOT_FOUND']
  elif not number and isinstance(root, PARSING) and not STATUS.match(str(root)):
    reason = reason if reason in DAMAGES.values() else f'{CUT}: {type(root).__name__} {reason}'
  elif number or reason not in DAMAGES.values():
    return InputError(f'{path}: cannot be read ({reason}); it is left untouched, so try again later')
  return DamagedError(f'{path}: is damaged and cannot be restored ({reason})')


def _check_arrays(path: Path, stored: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
  """Compares shapes, or dtypes, before any array is read: Orbax's own error is pages long.

  Raises:
    InputError: They differ, or an array of the networks is on one side only.
  """
  for name in sorted(wanted.keys() | stored.keys()):
    optional = not REQUIRED.match(name) and (name not in wanted or name not in stored)
    if wanted.get(name) != stored.get(name) and not optional:
      raise InputError(
        f'{path}: belongs to other networks: {name} has {what} {stored.get(name, "none")} in the '
        f'checkpoint and {wanted.get(name, "none")} by the config'
      )
