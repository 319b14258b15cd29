"""Checkpoints of the whole training state: written atomically, and checked when they are read."""

from dcgan_jax.records.checkpoints.reading import (
  DamagedError,
  best,
  candidates,
  restore,
  restore_any,
)
from dcgan_jax.records.checkpoints.saver import Saver
from dcgan_jax.records.checkpoints.stamp import Score
from dcgan_jax.records.workdir import steps

__all__ = [
  'DamagedError',
  'Saver',
  'Score',
  'best',
  'candidates',
  'restore',
  'restore_any',
  'steps',
]
