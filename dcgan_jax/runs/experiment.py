"""From settings to the objects that a run needs: the one place where they meet."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from dcgan_jax import data
from dcgan_jax.core import compiling, pixels, train_state, train_step
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.regularizers import PENALTIES
from dcgan_jax.core.train_state import Gan, GanState, NetState
from dcgan_jax.core.train_step import Recipe
from dcgan_jax.data import order
from dcgan_jax.data.feed import Feed
from dcgan_jax.data.labels import Labels
from dcgan_jax.devices import placement, programs
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, hub, workdir
from dcgan_jax.runs import weights
from dcgan_jax.settings import Settings
from dcgan_jax.settings.table import Train


@dataclass(frozen=True)
class Experiment:
  """The built parts of a run.

  Attributes:
    settings: The settings that it was built from; plain values.
    gan: Both networks, without parameters, their optimizers, and the latents.
    recipe: How a step trains.
    fit: How pictures become the run's images.
  """

  settings: Settings
  gan: Gan
  recipe: Recipe
  fit: data.Fit

  @functools.cached_property
  def source(self) -> data.Source:
    """All images of the data, not yet decoded; opened, and downloaded if necessary, on first use.

    Raises:
      InputError: There are no such images.
    """
    return data.open_source(self.settings.data.source, self.settings.data.split, self.fit)

  @property
  def num_images(self) -> int:
    """Number of images that the run is trained on, an epoch: all but those held out."""
    return len(order.training(len(self.source), self.settings.data.held_out))

  @functools.cached_property
  def labels(self) -> Labels | None:
    """Classes of all images; None if the networks are unconditional.

    Raises:
      InputError: The images have no classes, or their number is not `data.classes`.
    """
    count = self.settings.data.classes
    if not count:
      return None
    try:
      labels = self.source.labels()
    except InputError as error:
      raise InputError(f'{error}; or set data.classes={count} to 0') from error
    if len(labels.names) != count:
      raise InputError(
        f'data.classes={count}: the data has {len(labels.names)}: {", ".join(labels.names[:20])}; set it to '
        'that, or to 0'
      )
    return labels

  @property
  def latents(self) -> Latents:
    """Latents of G; with the number of images of each class, for which the images are opened."""
    if self.labels is None:
      return self.gan.latents
    return dataclasses.replace(self.gan.latents, counts=tuple(self.labels.counts.tolist()))

  def initial_state(self) -> GanState:
    """Makes the state before the first step; compiled by `first_state` or as part of a larger program."""
    recipe = self.recipe
    return train_state.create(self.gan, self.settings.seed, recipe.ema_decay > 0, recipe.penalties)

  @functools.cached_property
  def shapes(self) -> GanState:
    """Shapes and dtypes of the state."""
    shapes: GanState = jax.eval_shape(self.initial_state)
    return shapes

  def first_state(self, sharding: NamedSharding | None = None) -> GanState:
    """Returns the state before the first step; on the default device if no sharding is given."""
    placed: dict[str, Any] = {} if sharding is None else {'out_shardings': sharding}
    state: GanState = compiling.jit(self.initial_state, runs_once=True, **placed)()
    return state

  def feed(self) -> Feed:
    """Returns the feed of images to the devices."""
    data, train = self.settings.data, self.settings.train
    classes = self.labels.classes if self.labels else None
    return Feed(
      self.source,
      data.source,
      self.settings.seed,
      train.images_per_step,
      data.memory_limit,
      data.workers,
      classes,
      data.held_out,
    )

  def train_step(self, axis_name: str | None) -> train_step.TrainStep:
    """Makes the train step, not yet compiled, see `train_step.make_train_step`."""
    return train_step.make_train_step(self.gan, self.recipe, axis_name)

  def train_program(self, mesh: Mesh, inner: int | None = None) -> jax.stages.Wrapped:
    """Returns the program of a round of steps on these devices, see `programs.train_program`."""
    train = self.settings.train
    return programs.train_program(
      self.train_step(placement.mesh_axis(mesh)),
      mesh,
      (*self.fit.image_size, self.fit.channels),
      inner,
      train.deterministic,
      train.matmul_precision,
    )


def build(settings: Settings, counts: tuple[int, ...] = ()) -> Experiment:
  """Builds a run.

  Args:
    settings: The run's settings.
    counts: Number of training images of each class; () if unknown.
  """
  shared = {key: getattr(settings.train, key) for key in ('dtype', 'fast_conv', 'sync_norm')}
  shared['classes'] = settings.data.classes
  numbers = pixels.of(settings.data.dtype, settings.data.value_range, settings.data.transparent)
  gan = Gan(
    Generator(
      **vars(settings.generator), image_size=settings.data.size, channels=settings.data.channels, **shared
    ),
    Discriminator(**vars(settings.discriminator), **shared),
    train_state.make_optimizer(**vars(settings.generator_optimizer)),
    train_state.make_optimizer(**vars(settings.discriminator_optimizer)),
    Latents(**vars(settings.latent), classes=settings.data.classes, counts=counts),
    numbers,
  )
  chosen = {key: value for key, value in vars(settings.train).items() if key in _RECIPE_KEYS}
  chosen |= {
    'loss': LOSSES[settings.train.loss],
    'flip': settings.data.flip,
    'penalties': {name: getattr(settings.train, name) for name in PENALTIES if getattr(settings.train, name)},
    'augment': tuple(filter(None, settings.train.augment.split(','))),
    'ema_decay': _ema_decay(settings.train),
  }
  recipe = Recipe(**chosen)
  shape = settings.data.size, settings.data.channels
  fit = data.Fit(*shape, settings.data.fit, settings.data.background, numbers)
  return Experiment(settings, gan, recipe, fit)


def _ema_decay(train: Train) -> float:
  """Returns the decay of the moving average per step, also if its half-life is given in images."""
  if not train.ema_half_life:
    return train.ema_decay
  # With one_per_batch G learns from every second batch.
  images = train.batch_size / 2 if train.order == 'one_per_batch' else train.batch_size
  return 0.5 ** (images / train.ema_half_life)


_RECIPE_KEYS = {field.name for field in dataclasses.fields(Recipe)}


class TrainedRun(NamedTuple):
  """A run and one of its checkpoints, or a trained generator, replicated on all devices, with its folder."""

  experiment: Experiment
  step: int
  state: GanState
  folder: Path

  @property
  def discriminator(self) -> dict[str, Any]:
    """D's variables.

    Raises:
      InputError: The folder has a generator alone.
    """
    if not self.state.discriminator.params:
      raise InputError(
        f'workdir={self.folder}: has a generator alone, and its discriminator is needed; take the run, or '
        '--network=generator'
      )
    return self.state.discriminator.variables


def open_run(folder: Path, checkpoint: str) -> TrainedRun:
  """Opens a trained run, or the folder of a trained generator.

  Args:
    folder: The workdir; or a folder that `--mode=export --format=hub` has written, see `records.hub`.
    checkpoint: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: There is no run or no such checkpoint in the folder, its classes are those of another run, or
      there are no devices.
  """
  settings, names = workdir.read_settings(folder), workdir.read_classes(folder)
  if names and len(names) != settings.data.classes:
    raise InputError(
      f'{folder / "classes.json"}: has {len(names)} names, and data.classes={settings.data.classes} in '
      'config.json; the two are not of the same run'
    )
  experiment = build(settings, workdir.read_class_counts(folder))
  sharding = placement.replicated(placement.mesh())
  if hub.is_ours(folder):
    check_checkpoint(folder, checkpoint)
    model = hub.read(folder)
    return TrainedRun(experiment, model.step, _state_of(model, folder, experiment, sharding), folder)
  create = experiment.initial_state
  step, state = checkpoints.restore_any(folder / 'checkpoints', checkpoint, create, sharding)
  return TrainedRun(experiment, step, state, folder)


def check_checkpoint(folder: Path, checkpoint: str) -> None:
  """Refuses a choice that matches no checkpoint of a run; a trained generator is its own last one.

  Raises:
    InputError: There is no such checkpoint.
  """
  if not hub.is_ours(folder):
    checkpoints.candidates(folder / 'checkpoints', checkpoint)
  elif checkpoint != 'last':
    raise InputError(f'checkpoint={checkpoint}: {folder} has a single step; leave the checkpoint out')


def _state_of(model: hub.Model, folder: Path, experiment: Experiment, sharding: NamedSharding) -> GanState:
  """Returns the state of a trained generator, without what only training needs; D is empty if missing."""
  read = weights.read(folder / hub.WEIGHTS, experiment.shapes, model.networks)
  step, arrays, key = jax.device_put((np.int32(model.step), read, np.zeros(2, np.uint32)), sharding)
  empty: dict[str, Any] = {'params': {}, 'batch_stats': {}}
  generator, discriminator = (
    NetState(**(empty | arrays.get(name, {})), opt_state=()) for name in hub.NETWORKS
  )
  ema = generator.variables if experiment.recipe.ema_decay else None
  return GanState(step, generator, discriminator, ema, key)
