"""Saving checkpoints during training. Orbax writes them in the background, whole or not at all."""

import concurrent.futures
import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dcgan_jax import parallel
from dcgan_jax.journal.checkpoints import quiet, reading, stamp
from dcgan_jax.journal.checkpoints.stamp import Score
from dcgan_jax.train_state import GanState

UNFINISHED = '*.orbax-checkpoint-tmp*'  # what a save that was interrupted leaves
SLACK = 1 << 20  # bytes of room beyond the size of the last checkpoint


class Saver:
  """Saves the states of a run. A save that fails is reported, and never ends the run.

  Call all methods in all processes of a run, at the same time, and `close` at the end, or the last checkpoint
  may be lost.

  Attributes:
    saved: step of the last state that is known to be on disk; None if none is.
    problem: what kept the last save from disk; '' if nothing did.
  """

  def __init__(self, folder: Path, keep: int, say: Callable[[str], None] = print):
    """Opens a folder of checkpoints, and clears what an interrupted save has left there.

    Args:
      folder: of the checkpoints; nothing else may write there.
      keep: how many of the last checkpoints are kept, in addition to those with the best score.
      say: tells the user a line; of process 0.
    """
    self._folder, self._keep = folder.absolute(), keep
    self._say = say if parallel.is_main() else lambda line: None
    self._pending: Any = None  # the save in the background
    self.problem = ''
    self._quiet = contextlib.ExitStack()
    self._quiet.enter_context(quiet.quietly())
    self._open()
    done = reading.steps(folder)
    self.saved: int | None = done[-1] if done else None

  def save(self, state: GanState, score: Score | None = None) -> None:
    """Starts to save a state under its step; waits until it is copied off the device, not for the disk.

    Without room for it, nothing is written.

    Args:
      state: the state to save.
      score: of its generator; None if it was not scored.
    """
    self.settle()
    step = int(state.step)
    needed = self._size(state) + SLACK
    missing = needed - _free(self._folder)
    if not parallel.agreed(missing <= 0):
      self._failed(step, f'{_mebibytes(missing)} are missing of the {_mebibytes(needed)} that it takes')
      return
    metrics = None if score is None else {'score': score.distance, 'protocol': score.protocol}
    self._step, made = step, stamp.make(state)
    try:
      self._pending = self._checkpointer.save_async(step, state, metrics=metrics, custom_metadata=made)
    except (OSError, ValueError) as error:
      self._pending = concurrent.futures.Future()
      self._pending.set_exception(error)  # `settle` deals with it, together with the other processes.

  def settle(self) -> None:
    """Waits until the state that is being saved is on disk, or cannot be."""
    if self._pending is None:
      return
    pending, self._pending = self._pending, None
    reason = ''
    try:
      pending.result()
    except Exception as error:  # Orbax's threads raise whatever they meet, a full disk as ValueError.
      reason = reading.in_one_line(error)
    del pending
    if parallel.all_agree(not reason):
      self.saved, self.problem = self._step, ''
      return
    # Orbax would raise its error again at each later save, so it is opened anew.
    self._close()
    quiet.settle()
    self._open()
    self._failed(self._step, reason or 'another process could not write it')

  def standing(self) -> str:
    """Returns which step is on disk, and how much room there is."""
    done = reading.steps(self._folder)  # It may be ahead of `saved`, which is what has been waited for.
    saved = f'saved {done[-1]}' if done else 'not saved yet'
    return f'{saved}, {_free(self._folder) / 2**30:.1f} GiB free'

  def close(self) -> None:
    """Waits until everything is on disk."""
    self.settle()
    self._close()
    self._quiet.close()

  def _open(self) -> None:
    with parallel.main_first():
      if parallel.is_main():
        for path in self._folder.glob(UNFINISHED):
          shutil.rmtree(path, ignore_errors=True)
        self._clear_broken_scores()
    self._checkpointer = ocp.training.Checkpointer(
      self._folder, save_decision_policy=_Always(), preservation_policy=_LastAndBest(self._folder, self._keep)
    )

  def _clear_broken_scores(self) -> None:
    """Moves scores that cannot be read out of their checkpoints, because Orbax would not open the folder."""
    for step in reading.steps(self._folder):
      path = self._folder / str(step) / stamp.SCORES
      if path.is_dir() and stamp.read_score(path.parent) is None:
        target = reading.move_aside(path, self._folder, f'{step}-scores')
        self._say(f'{path}: is damaged, so the score of step {step} is lost; it is kept as {target}')

  def _close(self) -> None:
    with contextlib.suppress(Exception):  # It raises the error of the last save again, which is known.
      self._checkpointer.close()
    del self._checkpointer

  def _failed(self, step: int, reason: str) -> None:
    """Says that a state could not be saved."""
    before = (
      'there is no checkpoint yet' if self.saved is None else f'the last checkpoint is of step {self.saved}'
    )
    self.problem = f'step {step} could not be saved in {self._folder}: {reason}; {before}'
    self._say(f'{self.problem}; training goes on and tries again at the next save')

  def _size(self, state: GanState) -> int:
    """Returns how many bytes a checkpoint of a state takes: as many as the last one, if there is one."""
    done = reading.steps(self._folder)
    if not done:
      return sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    files = [path for path in (self._folder / str(done[-1])).rglob('*') if path.is_file()]
    return sum(path.stat().st_size for path in files)


def _free(folder: Path) -> int:
  """Returns the bytes that are free on the disk of a folder."""
  return shutil.disk_usage(folder).free


def _mebibytes(size: int) -> str:
  return f'{size / 2**20:.1f} MiB'


class _Always:
  """A policy that saves whenever it is asked to, because the training loop decides when to save."""

  def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
    """Returns True."""
    return True


class _LastAndBest:
  """A policy that keeps the last checkpoints, and of each protocol of scores the one with the best."""

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
