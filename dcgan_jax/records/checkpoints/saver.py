"""Saves checkpoints during training. Orbax writes them in the background, each atomically."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax import Array
from orbax.checkpoint import v1 as ocp

from dcgan_jax import files
from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.records.checkpoints import quiet, reading, stamp
from dcgan_jax.records.checkpoints.stamp import Score

UNFINISHED = '*.orbax-checkpoint-tmp*'  # left by an interrupted save
SLACK = 1 << 20  # bytes that must be free beyond the size of the last checkpoint


class RoomError(OSError):
  """The disk has too little room for a checkpoint."""


class Saver:
  """Saves the states of a run. A save that fails is reported, and the next one tries again.

  Call all methods in all processes of a run, at the same time, and `close` at the end, or the last checkpoint
  may be lost.

  Attributes:
    saved: Step of the last state that is known to be on disk; None if none is.
    problem: Message of the last save if it failed, otherwise ''.
    lacks_room: Whether it failed because the disk was full.
  """

  def __init__(self, folder: Path, keep: int, say: Callable[[str], None] = print, start: int | None = None):
    """Opens a folder of checkpoints, and removes the remains of an interrupted save.

    Args:
      folder: Folder of the checkpoints; nothing else may write there.
      keep: Number of the last checkpoints to keep, in addition to those with the best score.
      say: Function that prints a line to the user, called in process 0 only.
      start: Step of the checkpoint that the run resumes from, which is not the last one if that is damaged;
        None for the last.

    Raises:
      InputError: Nothing can be saved there.
    """
    self._folder, self._keep = folder.absolute(), keep
    self._say = say if processes.is_main() else lambda line: None
    self._checkpointer: Any = None  # Orbax's; None while the folder cannot be opened
    self._pending: Any = None  # the save in the background
    self.saved: int | None = None
    self.problem, self.lacks_room = '', False
    try:
      with processes.main_first():
        self._folder.mkdir(exist_ok=True)
      self._identity = files.identity(self._folder)
    except OSError as error:
      raise InputError(f'{folder}: cannot be written: {error.strerror}; nothing could be saved') from error
    with contextlib.ExitStack() as until_closed:
      with contextlib.suppress(OSError):  # Windows does not open folders.
        # While it is open, no other folder gets its inode.
        until_closed.callback(os.close, os.open(self._folder, os.O_RDONLY))
      until_closed.enter_context(quiet.quietly())
      if reason := self._open():
        raise InputError(f'{folder}: cannot be opened ({reason}); nothing could be saved')
      self._until_closed = until_closed.pop_all()
    done = reading.steps(folder)
    self.saved = start if start in done else done[-1] if done and start is None else None

  def save(
    self, state: GanState, score: Score | None = None, sums: Mapping[str, Array] | None = None
  ) -> None:
    """Starts to save a state under its step; waits until it is copied off the device, not for the disk.

    If there is no room for it, nothing is written.

    Args:
      state: State to save.
      score: Score of its generator; None if it was not scored.
      sums: Checksums of its arrays, see `stamp.sums`; None to compute them now, after the steps in flight.
    """
    self.settle()
    self._step = int(state.step)
    reason = self._attempt(lambda: self._check_room(state))
    reason = reason or ('' if self._checkpointer else self._open())
    if reason:
      self._failed(reason)
      return
    metrics = None if score is None else {'score': score.distance, 'protocol': score.protocol}
    made = stamp.make(state, stamp.sums(state) if sums is None else sums)

    def begin() -> None:
      reading.check_descriptors()
      self._pending = self._checkpointer.save_async(self._step, state, metrics=metrics, custom_metadata=made)

    if reason := self._attempt(begin):
      self._start_anew(reason)

  def settle(self) -> None:
    """Waits until the save in flight is on disk, or has failed."""
    if self._pending is None:
      return
    if reason := self._attempt(self._pending.result) or self._attempt(self._check_folder):
      self._start_anew(reason)
    else:
      self.saved, self.problem, self.lacks_room = self._step, '', False
    self._pending = None

  def standing(self) -> str:
    """Returns which step is on disk, and how much room there is."""
    try:
      done = reading.steps(self._folder)  # It may be ahead of `saved`, which waits for the disk.
      free = _free(self._folder)
    except (InputError, OSError) as error:
      return f'{self._folder.name} cannot be read: {reading.in_one_line(error)}'
    return f'{f"saved {done[-1]}" if done else "not saved yet"}, {free / 2**30:.1f} GiB free'

  def close(self) -> None:
    """Waits until everything is on disk."""
    self.settle()
    self._close()
    self._until_closed.close()

  def _attempt(self, act: Callable[[], Any]) -> str:
    """Runs a function in all processes; returns why it failed in one of them, or ''."""
    reason = ''
    try:
      act()
    except Exception as error:  # Orbax's threads raise all kinds of errors, e.g. ValueError for a full disk.
      reason = reading.in_one_line(error)
      self.lacks_room = isinstance(error, RoomError) or reading.os_error(error) in reading.NO_ROOM
    if processes.all_agree(not reason):
      return ''
    return reason or 'another process could not write it'

  def _open(self) -> str:
    """Opens the folder; returns why that failed, or ''."""

    def clear() -> None:
      self._check_folder()
      if processes.is_main():
        for path in self._folder.glob(UNFINISHED):
          shutil.rmtree(path, ignore_errors=True)
        self._clear_broken_scores()

    def open_it() -> None:
      reading.check_descriptors()
      self._checkpointer = ocp.training.Checkpointer(
        self._folder,
        save_decision_policy=_Always(),
        preservation_policy=_LastAndBest(self._folder, self._keep),
      )

    return self._attempt(clear) or self._attempt(open_it)

  def _start_anew(self, reason: str) -> None:
    """Reports a failed save, and reopens the folder, because Orbax would raise its error again and again."""
    self._pending, lacks_room = None, self.lacks_room
    self._close()
    quiet.settle()
    self._remove_stray()
    self._open()  # If that fails as well, the next save tries again.
    self.lacks_room = lacks_room
    self._failed(reason)

  def _check_folder(self) -> None:
    """Raises OSError if the folder of checkpoints is gone, which Orbax would recreate, or is another one."""
    found = files.identity(self._folder)
    if found != self._identity:
      if str(self.saved) not in files.listed(self._folder):
        raise OSError('another folder is in its place')
      self._identity = found  # It was moved to another disk, and a link leads there.

  def _remove_stray(self) -> None:
    """Removes what a save has written in place of the missing folder, so that the folder can come back."""
    with contextlib.suppress(OSError):
      is_other = processes.is_main() and files.identity(self._folder) != self._identity
      if is_other and {path.name.partition('.')[0] for path in self._folder.iterdir()} <= {str(self._step)}:
        shutil.rmtree(self._folder)
        self._folder.parent.rmdir()  # This fails if anything else is there.

  def _check_room(self, state: GanState) -> None:
    """Raises OSError if there is no room for a state."""
    self._check_folder()
    needed = self._size(state) + SLACK
    missing = needed - _free(self._folder)
    if missing > 0:
      raise RoomError(f'it needs {_mebibytes(needed)}, which is {_mebibytes(missing)} more than is free')

  def _clear_broken_scores(self) -> None:
    """Moves unreadable scores out of their checkpoints, because Orbax would not open the folder."""
    for step in reading.steps(self._folder):
      path = self._folder / str(step) / stamp.SCORES
      if path.is_dir() and stamp.read_score(path.parent) is None:
        target = reading.move_aside(path, self._folder, f'{step}-scores')
        self._say(f'{path}: is damaged, so the score of step {step} is lost; it is kept as {target}')

  def _close(self) -> None:
    checkpointer, self._checkpointer = self._checkpointer, None
    if checkpointer:
      with contextlib.suppress(Exception):  # It raises the error of the last save again.
        checkpointer.close()

  def _failed(self, reason: str) -> None:
    """Reports that a state could not be saved."""
    before = (
      'there is no checkpoint yet' if self.saved is None else f'the last checkpoint is of step {self.saved}'
    )
    self.problem = f'step {self._step} could not be saved in {self._folder}: {reason}; {before}'
    self._say(f'{self.problem}; training goes on and tries again at the next save')

  def _size(self, state: GanState) -> int:
    """Returns the number of bytes that a checkpoint takes: that of the last one, if there is one."""
    done = reading.steps(self._folder)
    if not done:
      return sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return sum(path.stat().st_size for path in (self._folder / str(done[-1])).rglob('*') if path.is_file())


def _free(folder: Path) -> int:
  """Returns the number of free bytes on the disk of a folder."""
  return shutil.disk_usage(folder).free


def _mebibytes(size: int) -> str:
  return f'{size / 2**20:.1f} MiB'


class _Always:
  """A policy that always saves, because the training loop decides when to save."""

  def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
    """Returns True."""
    return True


class _LastAndBest:
  """A policy that keeps the last checkpoints, and the one with the best score of each protocol."""

  def __init__(self, folder: Path, keep: int):
    self._folder, self._keep = folder, keep

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Returns for each checkpoint whether it is kept."""
    steps = sorted(c.step for c in checkpoints)
    scores = {step: stamp.read_score(self._folder / str(step)) for step in steps}
    best: dict[str, tuple[float, int]] = {}  # distance and step by protocol
    for step, score in scores.items():
      if score is not None:
        found = (score.distance, step)
        best[score.protocol] = min(best.get(score.protocol, found), found)
    kept = {*steps[-self._keep :], *(step for _, step in best.values())}
    return [c.step in kept for c in checkpoints]
