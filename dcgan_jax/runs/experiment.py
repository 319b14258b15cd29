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
from dcgan_jax.core import pixels, train_state, train_step
from dcgan_jax.devices import parallel
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Discriminator, Generator, initializer_options
from dcgan_jax.settings import Settings
from dcgan_jax.settings.table import Train
from dcgan_jax.core.train_state import Gan, GanState
from dcgan_jax.core.train_step import Recipe


@dataclass(frozen=True)
class Experiment:
  """The built parts of a run.

  Attributes:
    settings: that it was built from; plain values.
    gan: both networks, without parameters, their optimizers, and the latents.
    recipe: how a train step trains them.
    fit: how pictures become the run's images.
  """

  settings: Settings
  gan: Gan
  recipe: Recipe
  fit: data.Fit

  @functools.cached_property
  def source(self) -> data.Source:
    """The training images, not yet decoded; opened, and maybe downloaded, when first asked for.

    Raises:
      InputError: there are no such images.
    """
    return data.open_source(self.settings.data.source, self.settings.data.split, self.fit)

  @functools.cached_property
  def classes(self) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The class of each training image, int32 [N], and their names; None if the networks are told no class.

    Raises:
      InputError: the images have no classes, or another number of them than `data.classes` says.
    """
    count = self.settings.data.classes
    if not count:
      return None
    try:
      numbers, names = self.source.labels()
    except InputError as error:
      raise InputError(f'{error}; or set data.classes={count} to 0') from error
    if len(names) != count:
      raise InputError(
        f'data.classes={count}: the data has {len(names)}: {", ".join(names[:20])}; set it to that, or to 0'
      )
    return numbers, names

  @property
  def latents(self) -> Latents:
    """The latents of G, with the number of training images of each class, for which those are opened."""
    if self.classes is None:
      return self.gan.latents
    numbers, names = self.classes
    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return dataclasses.replace(self.gan.latents, counts=tuple(counts))

  def initial_state(self) -> GanState:
    """Makes the state before the first step; to be compiled, or asked for its shapes by `jax.eval_shape`."""
    return train_state.create(self.gan, self.settings.seed, ema=self.recipe.ema_decay > 0)

  def first_state(self, sharding: NamedSharding | None = None) -> GanState:
    """Compiles and runs `initial_state`; returns the state, with a sharding if one is given."""
    placed: dict[str, Any] = {} if sharding is None else {'out_shardings': sharding}
    return jax.jit(self.initial_state, compiler_options=initializer_options(), **placed)()

  def train_step(self, axis_name: str | None) -> train_step.TrainStep:
    """Makes the train step, not yet compiled, see `train_step.make_train_step`."""
    return train_step.make_train_step(self.gan, self.recipe, axis_name)

  def compile_steps(self, mesh: Mesh, loop: int = 0) -> jax.stages.Wrapped:
    """Returns the program of the run's steps on these devices, see `parallel.compile_steps`."""
    train = self.settings.train
    return parallel.compile_steps(
      self.train_step(parallel.mesh_axis(mesh)),
      mesh,
      (*self.fit.image_size, self.fit.channels),
      loop,
      train.deterministic,
      train.matmul_precision,
    )


def build(settings: Settings, counts: tuple[int, ...] = ()) -> Experiment:
  """Returns the parts of a run with these settings and, if known, so many training images of each class."""
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
    'augment': tuple(filter(None, settings.train.augment.split(','))),
    'ema_decay': _ema_decay(settings.train),
  }
  recipe = Recipe(**chosen)
  shape = settings.data.size, settings.data.channels
  fit = data.Fit(*shape, settings.data.fit, settings.data.background, numbers)
  return Experiment(settings, gan, recipe, fit)


def _ema_decay(train: Train) -> float:
  """Returns the decay of the moving average in a step, also where its half-life is given in images."""
  if not train.ema_half_life:
    return train.ema_decay
  # With one_per_batch G learns from every second batch.
  images = train.batch_size / 2 if train.order == 'one_per_batch' else train.batch_size
  return 0.5 ** (images / train.ema_half_life)


_RECIPE_KEYS = {field.name for field in dataclasses.fields(Recipe)}


class TrainedRun(NamedTuple):
  """A run and one of its checkpoints, whose arrays every device has whole."""

  experiment: Experiment
  step: int
  state: GanState


def open_run(folder: Path, checkpoint: str) -> TrainedRun:
  """Opens a trained run.

  Args:
    folder: its workdir.
    checkpoint: 'last', 'best' by score, or the number of a step.

  Raises:
    InputError: there is no run, or no such checkpoint, in the folder, or its classes are of
      another run, or there are no devices.
  """
  settings, names = workdir.read_settings(folder), workdir.read_classes(folder)
  if names and len(names) != settings.data.classes:
    raise InputError(
      f'{folder / "classes.json"}: has {len(names)} names, and data.classes={settings.data.classes} in '
      'config.json; the two are not of the same run'
    )
  experiment = build(settings, workdir.read_class_counts(folder))
  sharding = parallel.replicated(parallel.all_devices())
  shapes = jax.eval_shape(experiment.initial_state)
  step, state = checkpoints.restore_any(folder / 'checkpoints', checkpoint, shapes, sharding)
  return TrainedRun(experiment, step, state)
