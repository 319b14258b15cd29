"""Weights and statistics for comparisons of exported networks with ours."""

import math
import zlib
from typing import Any

import jax
import numpy as np

from dcgan_jax import experiment
from dcgan_jax.settings import Settings
from dcgan_jax.train_state import Gan


def random_networks(settings: Settings) -> tuple[Gan, dict[str, Any]]:
  """Returns the networks of a run with random parameters and statistics, as if they were trained.

  Kernels keep the spread of their input about the same, and nothing is left at 0 or 1.

  Returns:
    The networks; the variables of 'generator' and of 'discriminator', float32 arrays.
  """
  parts = experiment.build(settings)
  state = jax.eval_shape(parts.initial_state)
  return parts.gan, {
    'generator': _filled(state.generator.variables),
    'discriminator': _filled(state.discriminator.variables),
  }


def _filled(shapes: Any) -> Any:
  """Returns random arrays in place of shapes, each a function of its name."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: _random(jax.tree_util.keystr(path), x.shape), shapes
  )


def _random(name: str, shape: tuple[int, ...]) -> np.ndarray:
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith("['kernel']"):
    return rng.normal(0, 2 * math.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)
  if name.endswith(("['var']", "['scale']")):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return rng.normal(0, 0.3, shape).astype(np.float32)
