"""The parts of a page that need the networks, and with them JAX: layers and images."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dcgan_jax.runs import experiment
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.settings import Settings
from dcgan_jax.trained.analysis import summary
from dcgan_jax.trained.analysis.summary import Network

POINTS, FRAMES = 8, 16  # of a walk: latents, and images from one to the next


class Walk(NamedTuple):
  """A closed path through the latents: uint8 [POINTS, FRAMES, h, w, 1 or 3], and the generator's step."""

  images: np.ndarray
  step: int


def tables(settings: Settings) -> list[Network]:
  """Returns the layers of both networks; nothing is computed."""
  return summary.networks(experiment.build(settings))


def walk(sampler: Sampler, seed: int) -> Walk:
  """Walks from one latent of a seed to the next, and back to the first, as `--mode=walk` does."""
  points = jnp.asarray(sampler.latents.draw(seed, POINTS))
  z = sampler.latents.path(points, jnp.arange(FRAMES) / FRAMES)
  return Walk(sampler.drawable(z), sampler.step)
