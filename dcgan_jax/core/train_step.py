"""The train step: the two updates, and the three orders in which papers apply them."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from dcgan_jax.core import augmentation, regularizers, train_state
from dcgan_jax.core.accumulation import Examples, Gradient, accumulated
from dcgan_jax.core.losses import LOSSES, Loss
from dcgan_jax.core.models import normalize
from dcgan_jax.core.regularizers import Evidence, Judged, Memory
from dcgan_jax.core.train_state import Gan, GanState, NetState, PyTree

Metrics = dict[str, Array]
TrainStep = Callable[..., tuple[GanState, Metrics]]  # see make_train_step
Updated = tuple[NetState, NetState, Metrics]  # generator, discriminator
Carry = tuple[PyTree, Memory]  # batch-norm statistics and memory of a network


@dataclass(frozen=True)
class Recipe:
  """How a step trains.

  Attributes:
    loss: Pair of losses, an entry of `losses.LOSSES`.
    order: Order of the updates; a key of `ORDERS`.
    d_steps: Number of D's updates for each of G's, on images of their own; 1 unless `order` is 'alternating'.
    fresh_z: Whether G learns from new latents rather than from the fakes of D's last update.
    real_label: D's target for real images; below 1 is one-sided label smoothing.
    flip: Whether each real image is mirrored left to right with probability 1/2.
    ema_decay: Decay of the moving average of G's variables, if the state has one; in the first steps at most
      (1 + step) / (10 + step).
    ema_steps: Age, in steps, of an average that was taken from another run; 0 for a new one.
    accumulate: Number of parts of the batch that both networks process one after the other before each
      update, so that only one part's activations are in memory. Gradients are the mean over the parts; batch
      norm sees each part as a batch of its own. 1 if `order` is 'one_per_batch'.
    penalties: Weight of each penalty in D's loss, by its name in `regularizers.PENALTIES`.
    augment: Kinds of `augmentation.KINDS`, applied to all images before D judges them.
    freeze: Number of D's hidden layers nearest the image that keep their parameters (FreezeD, Mo et al.
      2020). Batch norm in them goes on to normalise by the batch and to average its statistics.
  """

  loss: Loss = LOSSES['non_saturating']
  order: str = 'alternating'
  d_steps: int = 1
  fresh_z: bool = False
  real_label: float = 1.0
  flip: bool = False
  ema_decay: float = 0.0
  ema_steps: int = 0
  accumulate: int = 1
  penalties: Mapping[str, float] = field(default_factory=dict)
  augment: tuple[str, ...] = ()
  freeze: int = 0


class Fakes(NamedTuple):
  """G's forward pass in training mode, from which both networks can learn.

  Attributes:
    images: Fakes, float32 [B, H, W, C] in [-1, 1].
    pull_back: Function from a gradient with respect to the images to one with respect to G's parameters.
    batch_stats: G's new batch-norm statistics.
  """

  images: Array
  pull_back: Callable[[Array], tuple[PyTree]]
  batch_stats: PyTree


class Batch(NamedTuple):
  """Input of one update of a network. With accumulation, arrays have a leading axis: the parts.

  Attributes:
    real: Real images, float32 [B, H, W, C] in [-1, 1].
    y: Classes of real images and of fakes alike, one-hot, float32 [B, classes]; None for unconditional ones.
    z: Latents, float32 [B, z_size + classes].
    generator_key: Key of dropout in G.
    discriminator_key: Key of dropout in D.
    fakes: G's forward pass; None with accumulation, where each part is generated when its turn comes.
  """

  real: Array
  y: Array | None
  z: Array
  generator_key: Array
  discriminator_key: Array
  fakes: Fakes | None


class Keys(NamedTuple):
  """The random keys of one step."""

  z: Array
  fresh_z: Array
  flip: Array
  generator_dropout: Array
  discriminator_dropout: Array
  opponent_dropout: Array  # of D, when G learns through it

  def of_pass(self, i: int) -> 'Keys':
    """Returns the keys of G's i-th forward pass in a step: one for each update of D, and one for fresh z."""
    keys = (self.z, self.generator_dropout, self.discriminator_dropout)
    z, in_g, in_d = (jax.random.fold_in(key, i) for key in keys)
    return self._replace(z=z, generator_dropout=in_g, discriminator_dropout=in_d)


def make_train_step(gan: Gan, recipe: Recipe, axis_name: str | None = None) -> TrainStep:
  """Returns the pure function that trains both networks on one batch.

  All randomness is a function of (state.key, state.step, global sample index). G's running batch-norm
  statistics change only in G's update, D's only in D's; in the other network's update each normalises by
  the batch's statistics and discards them. D sees real images and fakes as two batches.

  Args:
    gan: The networks, their optimizers and the latents.
    recipe: How they learn.
    axis_name: Name of the mapped axis under `jax.pmap` or `jax.shard_map(..., check_vma=False)`; each device
      then gets its contiguous part of the global batch, and gradients, batch statistics, memory and metrics
      are averaged over the axis. None on one device.

  Returns:
    The function (state, images, classes=None) -> (state, metrics), to be compiled by the caller. images:
    `gan.pixels` [d_steps * B, H, W, C], B divisible by `accumulate` on each device. classes:
    int32 [d_steps * B], for conditional networks. metrics: float32 scalars `loss_d`, `loss_g`; `penalty`, if
    D's loss has penalties; `d_real` and `d_fake`, the mean of D(x) and D(G(z)) before D's update;
    `d_fake_after`, the mean of D(G(z)) in G's update; `grad_norm_d` and `grad_norm_g`, global L2 norms, 0 for
    a network that this step does not update.

  Raises:
    ValueError: The order is unknown, or does not support this `d_steps` or `accumulate`.
  """
  if recipe.order not in ORDERS:
    raise ValueError(f'order={recipe.order!r}: choose one of {", ".join(ORDERS)}')
  if recipe.d_steps != 1 and recipe.order != 'alternating':
    raise ValueError(f'd_steps={recipe.d_steps}: only order=alternating takes more than 1')
  if recipe.accumulate != 1 and recipe.order == 'one_per_batch':
    raise ValueError(f'accumulate={recipe.accumulate}: order=one_per_batch takes only 1')
  gan = gan.along(axis_name)
  train = ORDERS[recipe.order]

  def train_step(state: GanState, images: Array, classes: Array | None = None) -> tuple[GanState, Metrics]:
    key = jax.random.wrap_key_data(state.key)
    keys = Keys(*jax.random.split(jax.random.fold_in(key, state.step), 6))
    real = normalize(images, gan.pixels)
    if recipe.flip:
      real = augmentation.mirror(real, _global_keys(keys.flip, len(real), axis_name))
    y = None if classes is None else jax.nn.one_hot(classes, gan.latents.classes)
    g, d, metrics = train(gan, recipe, state, Examples(real, y), keys)
    ema = state.ema
    if ema is not None:
      ema = train_state.moving_average(ema, g.variables, state.step + recipe.ema_steps, recipe.ema_decay)
    new_state = dataclasses.replace(state, step=state.step + 1, generator=g, discriminator=d, ema=ema)
    return new_state, _average(metrics, axis_name)

  return train_step


def alternating(gan: Gan, recipe: Recipe, state: GanState, real: Examples, keys: Keys) -> Updated:
  """Trains D, `d_steps` times, then G through the D that has just learned (Goodfellow et al. 2014)."""
  g, d = state.generator, state.discriminator
  examples = real.divided(recipe.d_steps, recipe.accumulate)
  for i in range(recipe.d_steps):
    batch = make_batch(gan, g, examples[i], keys.of_pass(i))
    d, d_metrics = discriminator_update(gan, recipe, g, d, batch, state.step)
  if recipe.fresh_z:
    batch = make_batch(gan, g, examples[-1], keys.of_pass(recipe.d_steps)._replace(z=keys.fresh_z))
  batch = batch._replace(discriminator_key=_of_parts(keys.opponent_dropout, recipe.accumulate))
  g, g_metrics = generator_update(gan, recipe, g, d, batch, state.step)
  return g, d, d_metrics | g_metrics


def simultaneous(gan: Gan, recipe: Recipe, state: GanState, real: Examples, keys: Keys) -> Updated:
  """Trains both from the same forward pass, which XLA computes once (TensorFlow's DCGAN tutorial)."""
  g, d = state.generator, state.discriminator
  (examples,) = real.divided(1, recipe.accumulate)
  batch = make_batch(gan, g, examples, keys.of_pass(0))
  new_d, d_metrics = discriminator_update(gan, recipe, g, d, batch, state.step)
  new_g, g_metrics = generator_update(gan, recipe, g, d, batch, state.step)
  return new_g, new_d, d_metrics | g_metrics


def one_per_batch(gan: Gan, recipe: Recipe, state: GanState, real: Examples, keys: Keys) -> Updated:
  """Trains one network on each mini-batch, in turn and G first, as the paper's authors' code does."""
  g, d = state.generator, state.discriminator
  (examples,) = real.divided(1, 1)
  batch = make_batch(gan, g, examples, keys)

  # Both updates are written in each branch; XLA removes the one whose network is not returned.
  def train(updates_g: bool) -> Updated:
    new_g, g_metrics = generator_update(gan, recipe, g, d, batch, state.step)
    new_d, d_metrics = discriminator_update(gan, recipe, g, d, batch, state.step)
    metrics = d_metrics | g_metrics
    if updates_g:
      return new_g, d, metrics | {'grad_norm_d': jnp.zeros(())}
    return g, new_d, metrics | {'grad_norm_g': jnp.zeros(())}

  return lax.cond(state.step % 2 == 0, partial(train, True), partial(train, False))


ORDERS = {'alternating': alternating, 'simultaneous': simultaneous, 'one_per_batch': one_per_batch}


def discriminator_update(
  gan: Gan, recipe: Recipe, g: NetState, d: NetState, batch: Batch, step: Array
) -> tuple[NetState, Metrics]:
  """Updates D on real images and on fakes, each normalised by its own batch's statistics."""
  slopes_of_real, slopes_of_fake = (
    regularizers.takes_slopes(recipe.penalties, batch) for batch in ('real', 'fake')
  )
  # Constants of the loss, so that XLA computes no gradient for them.
  layers = gan.discriminator.nearest_image(recipe.freeze) if recipe.freeze else ()
  frozen = {layer: d.params[layer] for layer in layers if layer in d.params}

  def gradient(carry: Carry, part: Batch) -> Gradient:
    stats, memory = carry
    fakes = part.fakes or generate(gan, g, g.batch_stats, part)
    real_key, fake_key = jax.random.split(part.discriminator_key)
    discriminate = partial(_discriminate, gan, recipe, part.y)

    # A function of D's parameters alone: to its gradient the fakes are constants.
    def loss_fn(params: PyTree) -> tuple[Array, tuple[Carry, Metrics]]:
      params = {**params, **frozen}
      real = discriminate(params, stats, real_key, part.real, slopes_of_real)
      fake = discriminate(params, real.stats, fake_key, fakes.images, slopes_of_fake)
      loss = recipe.loss.discriminator(real.logits, fake.logits, recipe.real_label)
      output = recipe.loss.output
      metrics = {'loss_d': loss, 'd_real': output(real.logits).mean(), 'd_fake': output(fake.logits).mean()}
      if not recipe.penalties:
        return loss, ((fake.stats, memory), metrics)
      keys = jax.random.fold_in(part.discriminator_key, 2)
      evidence = Evidence(
        real=real,
        fake=fake,
        judge=partial(discriminate, params, real.stats, fake_key, slopes=True),
        keys=_global_keys(keys, len(real.logits), gan.generator.axis_name),
      )
      penalty, new_memory = regularizers.total(recipe.penalties, evidence, memory)
      new_memory = _average(new_memory, gan.generator.axis_name)  # The next part of the batch takes it.
      return loss + penalty, ((fake.stats, new_memory), metrics | {'penalty': penalty})

    grads, (carry, metrics) = jax.grad(loss_fn, has_aux=True)(d.params)
    return grads, carry, metrics

  gradients = accumulated(gradient, (d.batch_stats, d.memory), batch, recipe.accumulate)
  new_d, metrics = _apply(gan, gan.discriminator_optimizer, d, gradients, 'd', step)
  # L2 moves a parameter that has no gradient, too.
  return dataclasses.replace(new_d, params={**new_d.params, **frozen}), metrics


def generator_update(
  gan: Gan, recipe: Recipe, g: NetState, d: NetState, batch: Batch, step: Array
) -> tuple[NetState, Metrics]:
  """Updates G through D, which stays as it is."""

  def gradient(carry: Carry, part: Batch) -> Gradient:
    stats, memory = carry
    fakes = part.fakes or generate(gan, g, stats, part)
    real_key, fake_key = jax.random.split(part.discriminator_key)
    discriminate = partial(_discriminate, gan, recipe, part.y)

    def loss_fn(images: Array) -> tuple[Array, Metrics]:
      fake = discriminate(d.params, d.batch_stats, fake_key, images)
      if recipe.loss.relativistic:
        real = discriminate(d.params, d.batch_stats, real_key, part.real)
        loss = recipe.loss.generator(fake.logits, real.logits)
      else:
        loss = recipe.loss.generator(fake.logits)
      return loss, {'loss_g': loss, 'd_fake_after': recipe.loss.output(fake.logits).mean()}

    # The chain rule: from the loss to the images, and from the images to G's parameters.
    image_grads, metrics = jax.grad(loss_fn, has_aux=True)(fakes.images)
    (grads,) = fakes.pull_back(image_grads)
    return grads, (fakes.batch_stats, memory), metrics

  gradients = accumulated(gradient, (g.batch_stats, g.memory), batch, recipe.accumulate)
  return _apply(gan, gan.generator_optimizer, g, gradients, 'g', step)


def make_batch(gan: Gan, g: NetState, real: Examples, keys: Keys) -> Batch:
  """Returns the batch of one update, divided into the parts of accumulation.

  Args:
    gan: The networks and the latents.
    g: G's state.
    real: Real images, whose classes the fakes share, [B, parts, ...]; see `Examples.divided`: image i of the
      global batch belongs to part i % parts.
    keys: Keys of the latents and of dropout.
  """
  count, parts = real.images.shape[:2]
  z = gan.latents.noise(keys.z, _global_indices(count * parts, gan.generator.axis_name))
  z = z.reshape(count, parts, gan.latents.size)
  z = z if real.classes is None else jnp.concatenate([z, real.classes], -1)
  in_g, in_d = (_of_parts(key, parts) for key in (keys.generator_dropout, keys.discriminator_dropout))
  if parts > 1:
    images, y, z = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (*real, z))
    return Batch(images, y, z, in_g, in_d, None)
  images, y, z = jax.tree.map(lambda x: x[:, 0], (*real, z))
  batch = Batch(images, y, z, in_g, in_d, None)
  return batch._replace(fakes=generate(gan, g, g.batch_stats, batch))


def generate(gan: Gan, g: NetState, stats: PyTree, part: Batch) -> Fakes:
  """Runs G in training mode on the latents of one part of a batch."""

  def forward(params: PyTree) -> tuple[Array, PyTree]:
    return _forward(gan.generator, params, stats, part.generator_key, part.z)

  return Fakes(*jax.vjp(forward, g.params, has_aux=True))


def _discriminate(
  gan: Gan,
  recipe: Recipe,
  y: Array | None,
  params: PyTree,
  stats: PyTree,
  key: Array,
  images: Array,
  slopes: bool = False,
) -> Judged:
  """Runs D in training mode on augmented images.

  Args:
    gan: The networks.
    recipe: How they learn.
    y: Classes of the images, one-hot, float32 [B, classes]; None for an unconditional D.
    params: D's parameters.
    stats: D's batch-norm statistics.
    key: Key of augmentation and dropout.
    images: Images, float32 [B, H, W, C].
    slopes: Whether a penalty takes the slopes of the logits.
  """

  def critic(images: Array) -> tuple[Array, PyTree]:
    if recipe.augment:
      keys = _global_keys(jax.random.fold_in(key, 1), len(images), gan.generator.axis_name)
      images = augmentation.augment(images, keys, recipe.augment)
    (logits, _), new_stats = _forward(gan.discriminator, params, stats, key, images, y)
    return logits, new_stats

  return regularizers.judged(critic, images, slopes)


def _apply(
  gan: Gan,
  optimizer: optax.GradientTransformation,
  net: NetState,
  gradient: Gradient,
  name: str,
  step: Array,
) -> tuple[NetState, Metrics]:
  """Applies one network's optimizer to its gradient, averaged over the devices, at the rate of the step."""
  grads, (stats, memory), metrics = gradient
  grads = _average(grads, gan.generator.axis_name)
  if not gan.generator.sync_norm:
    stats = _average(stats, gan.generator.axis_name)
  update = optax.with_extra_args_support(optimizer).update  # Most optimizers do not use the step.
  updates, opt_state = update(grads, net.opt_state, net.params, step=step)
  params = optax.apply_updates(net.params, updates)
  net = dataclasses.replace(net, params=params, batch_stats=stats, opt_state=opt_state, memory=memory)
  return net, metrics | {f'grad_norm_{name}': optax.tree.norm(grads)}


def _average(tree: PyTree, axis_name: str | None) -> PyTree:
  """Returns the mean over the devices, by one all-reduce; the tree itself on one device or if it is empty."""
  if axis_name is None or not jax.tree.leaves(tree):
    return tree
  flat, unravel = ravel_pytree(tree)
  return unravel(lax.pmean(flat, axis_name))


def _global_indices(count: int, axis_name: str | None) -> Array:
  """Returns the positions in the global batch of this device's `count` samples."""
  index = jnp.arange(count)
  return index if axis_name is None else index + count * lax.axis_index(axis_name)


def _global_keys(key: Array, count: int, axis_name: str | None) -> Array:
  """Returns a key for each of this device's samples, by its position in the global batch."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, _global_indices(count, axis_name))


def _of_parts(key: Array, parts: int) -> Array:
  """Returns a key for each part of accumulation, [parts]; the key itself where there is one part."""
  return key if parts == 1 else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(parts))


def _forward(
  module: nn.Module, params: PyTree, stats: PyTree, key: Array, *inputs: Array | None
) -> tuple[Any, PyTree]:
  """Runs a network in training mode; returns its output and its new batch-norm statistics."""
  variables = {'params': params, 'batch_stats': stats}
  output, updated = module.apply(
    variables, *inputs, train=True, mutable=['batch_stats'], rngs={'dropout': key}
  )
  return output, updated.get('batch_stats', {})
