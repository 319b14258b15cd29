"""Checkpoints of the whole training state. Orbax writes them in the background, whole or not at all."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dcgan_jax.errors import InputError
from dcgan_jax.train_state import GanState


def open_for_writing(folder: Path, keep: int) -> ocp.training.Checkpointer:
  """Opens a folder of checkpoints for a run, which must close it or may lose its last checkpoint.

  Args:
    folder: of the checkpoints.
    keep: how many of the last checkpoints are kept, in addition to the one with the best score.
  """
  keeping = ocp.training.preservation_policies
  best = keeping.BestN(
    get_metric_fn=lambda metrics: metrics['score'], reverse=True, n=1, keep_checkpoints_without_metrics=False
  )
  return ocp.training.Checkpointer(
    folder.absolute(),
    save_decision_policy=_Always(),
    preservation_policy=keeping.AnyPreservationPolicy([keeping.LatestN(keep), best]),
    cleanup_tmp_directories=True,
  )


class _Always:
  """A policy that saves whenever it is asked to, because the training loop decides when to save."""

  def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
    """Returns True."""
    return True


def steps(folder: Path) -> list[int]:
  """Returns the steps of the finished checkpoints in ascending order."""
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def best(checkpointer: ocp.training.Checkpointer) -> tuple[int, float] | None:
  """Returns step and score of the finished checkpoint with the lowest score; None if none has a score."""
  scored = [(c.metrics['score'], c.step) for c in checkpointer.checkpoints if c.metrics]
  return min(scored)[::-1] if scored else None


def find(folder: Path, which: str) -> int:
  """Returns the step of the checkpoint that a user asks for.

  Args:
    folder: of the checkpoints.
    which: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: there is no such checkpoint; the message tells which there are.
  """
  known = steps(folder)
  if which not in ('last', 'best') and not which.isdigit():
    raise InputError(f'checkpoint={which}: choose last, best or the number of a step')
  if not known:
    raise InputError(f'{folder}: no checkpoint yet; train there first')
  if which == 'best':
    with ocp.training.Checkpointer(folder.absolute()) as checkpointer:
      found = best(checkpointer)
    if found is None:
      raise InputError(
        f'checkpoint=best: none of {folder} has a score; train with --config.eval.every_steps=N, or choose '
        f'one of {known}'
      )
    return found[0]
  step = known[-1] if which == 'last' else int(which)
  if step not in known:
    raise InputError(f'{folder}: no checkpoint of step {step}; there are {known}')
  return step


def save(checkpointer: ocp.training.Checkpointer, state: GanState, score: float | None = None) -> None:
  """Starts to save a state under its step; waits until it is copied off the device, not until it is on disk.

  Args:
    checkpointer: from `open_for_writing`.
    state: the state to save.
    score: of its generator, where lower is better; None if it was not scored.
  """
  checkpointer.save_async(int(state.step), state, metrics=None if score is None else {'score': score})


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
    InputError: the checkpoint is of other networks.
  """
  path = folder.absolute() / str(step)
  _check_shapes(path, like)
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
  return ocp.load(path, wanted)


def _check_shapes(path: Path, like: GanState) -> None:
  """Compares names and shapes before any array is read, because Orbax's own error is pages long.

  Raises:
    InputError: they differ.
  """
  wanted, stored = _shapes(like), _shapes(ocp.metadata(path).metadata)
  for name in sorted(wanted.keys() | stored.keys()):
    if wanted.get(name) != stored.get(name):
      raise InputError(
        f'{path}: is not of these networks: {name} has shape {stored.get(name, "none")} in the '
        f'checkpoint and {wanted.get(name, "none")} by the config'
      )


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the arrays in a tree, by their paths."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape) for path, leaf in leaves}
