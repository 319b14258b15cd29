"""A trained run, opened for the verbs that use it."""

from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from dcgan_jax import checkpoints
from dcgan_jax.commands import build, workdir
from dcgan_jax.programs import all_devices, replicated
from dcgan_jax.state import GanState


class Trained(NamedTuple):
  """A run's config and one of its checkpoints, whose arrays every device has whole."""

  config: ConfigDict
  step: int
  state: GanState


def open_run(folder: Path, checkpoint: str) -> Trained:
  """Opens a run.

  Args:
    folder: its workdir.
    checkpoint: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: no run, or no such checkpoint, in the folder.
  """
  config = workdir.read_config(folder)
  step = checkpoints.find(folder / 'checkpoints', checkpoint)
  shapes = jax.eval_shape(build.initial_state(config))
  state = checkpoints.restore(folder / 'checkpoints', step, shapes, replicated(all_devices()))
  return Trained(config, step, state)
