"""Checkpoints of the whole training state, by Orbax: written in the background, whole or not at all."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dcgan_jax.errors import InputError
from dcgan_jax.train_state import GanState


def open_for_writing(folder: Path, keep: int) -> ocp.training.Checkpointer:
  """Opens a folder of checkpoints that keeps the last `keep` and the one of the best score.

  Close it, or the last may be lost.
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
  """When to save is the training loop's decision."""

  def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
    return True


def steps(folder: Path) -> list[int]:
  """The steps of the finished checkpoints, ascending."""
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def best(checkpointer: ocp.training.Checkpointer) -> tuple[int, float] | None:
  """Step and score of the finished checkpoint with the lowest score; None where none has one."""
  scored = [(c.metrics['score'], c.step) for c in checkpointer.checkpoints if c.metrics]
  return min(scored)[::-1] if scored else None


def find(folder: Path, which: str) -> int:
  """The step of a checkpoint.

  Args:
    folder: of the checkpoints.
    which: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: in one line, with those there are.
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
  """Starts to save a state under its step; waits for the copy off the device, not for the disk.

  Args:
    checkpointer: of `open_for_writing`.
    state: what to save.
    score: of its generator, the lower the better; None if it was not scored.
  """
  checkpointer.save_async(int(state.step), state, metrics=None if score is None else {'score': score})


def restore(
  folder: Path, step: int, like: GanState, sharding: jax.sharding.Sharding | None = None
) -> GanState:
  """Reads a state back, bit for bit.

  Args:
    folder: of the checkpoints.
    step: of the checkpoint.
    like: a state of the same shape, concrete or abstract (`jax.eval_shape`).
    sharding: of its arrays, whatever it was saved from; None for the first device of this process.

  Raises:
    InputError: a checkpoint of other networks.
  """
  path = folder.absolute() / str(step)
  _check_shapes(path, like)
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
  return ocp.load(path, wanted)


def _check_shapes(path: Path, like: GanState) -> None:
  """Compares names and shapes before any array is read: Orbax's own complaint is pages long."""
  wanted, stored = _shapes(like), _shapes(ocp.metadata(path).metadata)
  for name in sorted(wanted.keys() | stored.keys()):
    if wanted.get(name) != stored.get(name):
      raise InputError(
        f'{path}: is not of these networks: {name} has shape {stored.get(name, "none")} in the '
        f'checkpoint and {wanted.get(name, "none")} by the config'
      )


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape) for path, leaf in leaves}
