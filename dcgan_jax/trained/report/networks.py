"""The part of a page that takes the networks, and with them JAX: their layers, and their images."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.data import cache
from dcgan_jax.media import pictures
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.settings import Settings
from dcgan_jax.trained.analysis import summary
from dcgan_jax.trained.analysis.summary import Layer

POINTS, FRAMES = 8, 16  # of a walk: latents on it, and images from one to the next

# Latents whose statistics are taken, where a run asks for those of a population; 10,000 would take a while.
POPULATION = 300


class Network(NamedTuple):
  """A network's table."""

  name: str
  layers: list[Layer]

  @property
  def parameters(self) -> int:
    """How many numbers are trained."""
    return sum(layer.parameters for layer in self.layers)


class Walk(NamedTuple):
  """A closed way through the latents: uint8 [POINTS, FRAMES, h, w, 1 or 3], and the step it was made at."""

  images: np.ndarray
  step: int


def tables(settings: Settings) -> list[Network]:
  """Returns the layers of both networks; nothing is computed."""
  gan = experiment.build(settings).gan
  z = jax.ShapeDtypeStruct((1, gan.latents.width), jnp.float32)
  shape = (gan.discriminator.packing, *settings.data.size, settings.data.channels)
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  return [
    Network('Generator', summary.layers(gan.generator, z)),
    Network('Discriminator', summary.layers(gan.discriminator, images)),
  ]


def load(folder: Path) -> Sampler:
  """Opens the last generator of a run.

  Raises:
    InputError: there is no checkpoint that is sound.
  """
  cache.keep_compiled_programs()
  run = experiment.open_run(folder, 'last')
  gan, variables = run.experiment.gan, run.state.sampling_variables
  if run.experiment.settings.sample.statistics == 'population':
    variables = sampling.with_population(gan.generator, gan.latents, variables, POPULATION)
  return Sampler(gan.generator, variables, gan.latents, run.step, pixels=gan.pixels)


def walk(sampler: Sampler, seed: int) -> Walk:
  """Walks from one latent of a seed to the next, and back to the first, as `--mode=walk` does."""
  latents = sampler.latents
  points = latents.sample(jax.random.key(seed), jnp.arange(POINTS))
  kind = 'linear' if latents.prior == 'uniform' else 'spherical'
  z = latents.path(points, jnp.arange(FRAMES) / FRAMES, kind)
  made = pictures.drawable(sampler.from_latents(z.reshape(-1, z.shape[-1])), sampler.pixels)
  return Walk(made.reshape(POINTS, FRAMES, *made.shape[1:]), sampler.step)


def grid(sampler: Sampler, settings: Settings) -> np.ndarray:
  """Returns the grid that training draws of its latents, uint8 [H, W, C], for a run that drew none."""
  z, columns = sampler.latents.draw_grid(settings.seed, settings.sample.num)
  drawn = pictures.drawable(sampler.from_latents(z), sampler.pixels)
  return pictures.zoom(pictures.grid(drawn, columns))
