"""From a config to the nouns: what every verb needs made."""

from collections.abc import Callable

from ml_collections import ConfigDict

from dcgan_jax import data, losses, state, steps
from dcgan_jax.commands.validation import image_size
from dcgan_jax.models import Discriminator, Generator


def networks(config: ConfigDict) -> tuple[Generator, Discriminator]:
  """The two modules, without parameters."""
  shared = {key: config.train[key] for key in ('dtype', 'fast_conv', 'sync_norm')}
  generator = Generator(
    **config.generator, image_size=image_size(config), channels=config.data.channels, **shared
  )
  return generator, Discriminator(**config.discriminator, **shared)


def initial_state(config: ConfigDict) -> Callable[[], state.GanState]:
  """A function that makes the state before the first step; to be jitted, or asked for shapes only."""
  generator, discriminator = networks(config)
  generator_optimizer = state.make_optimizer(**config.generator_optimizer)
  discriminator_optimizer = state.make_optimizer(**config.discriminator_optimizer)

  def create() -> state.GanState:
    return state.create(
      generator,
      discriminator,
      generator_optimizer,
      discriminator_optimizer,
      config.latent.size,
      config.seed,
      ema=config.train.ema_decay > 0,
    )

  return create


def train_step(config: ConfigDict, axis_name: str | None) -> steps.TrainStep:
  """The train step, not yet compiled."""
  generator, discriminator = networks(config)
  return steps.make_train_step(
    generator,
    discriminator,
    state.make_optimizer(**config.generator_optimizer),
    state.make_optimizer(**config.discriminator_optimizer),
    losses.LOSSES[config.train.loss],
    z_size=config.latent.size,
    prior=config.latent.prior,
    order=config.train.order,
    d_steps=config.train.d_steps,
    fresh_z=config.train.fresh_z,
    real_label=config.train.real_label,
    flip=config.data.flip,
    ema_decay=config.train.ema_decay,
    accumulate=config.train.accumulate,
    axis_name=axis_name,
  )


def fit(config: ConfigDict) -> data.Fit:
  """How pictures become the run's images."""
  return data.Fit(image_size(config), config.data.channels, config.data.fit, tuple(config.data.background))


def source(config: ConfigDict) -> data.Source:
  """The training images, not yet decoded."""
  return data.open_source(config.data.source, config.data.split, fit(config))
