"""The train step: the two updates, and the three orders in which papers apply them."""

from collections.abc import Callable
from dataclasses import dataclass
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
from dcgan_jax.core.train_state import Gan, GanState, NetState, PyTree

Metrics = dict[str, Array]
TrainStep = Callable[..., tuple[GanState, Metrics]]  # see make_train_step
Updated = tuple[NetState, NetState, Metrics]  # generator, discriminator


@dataclass(frozen=True)
class Recipe:
  """How a step trains.

  Attributes:
    loss: an entry of `losses.LOSSES`.
    order: a key of `ORDERS`.
    d_steps: D's updates for each of G's, each on its own images; 1 unless `order` is 'alternating'.
    fresh_z: G learns from a new z rather than from the fakes that D has just learned from.
    real_label: D's target for real images; below 1 is one-sided label smoothing.
    flip: mirror each real image left to right with probability 1/2.
    ema_decay: of the moving average of G's variables, when the state has one; less in the first steps,
      (1 + step) / (10 + step).
    ema_steps: age of that average before the first step, if it is another run's; it counts as so many steps.
    accumulate: parts of the batch that both networks go through one after the other before each update, so
      that only one part's activations are in memory. Gradients are the mean over the parts; batch norm sees
      each part as a batch of its own. More than 1 not with 'one_per_batch'.
    r1: gamma of the zero-centred gradient penalty on real images, see `regularizers`; 0 for none.
    r2: gamma of the same on fakes.
    gradient_penalty: lambda of WGAN-GP's penalty, between real images and fakes; 0 for none.
    augment: kinds of `augmentation.KINDS` that all images go through before D judges them.
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
  r1: float = 0.0
  r2: float = 0.0
  gradient_penalty: float = 0.0
  augment: tuple[str, ...] = ()


class Fakes(NamedTuple):
  """A forward pass of G in training mode, from which both networks can learn."""

  images: Array  # float32 [B, H, W, C] in [-1, 1]
  pull_back: Callable[[Array], tuple[PyTree]]  # from a gradient in the images to one in G's parameters
  batch_stats: PyTree  # G's new ones


class Batch(NamedTuple):
  """What one update of a network learns from. With accumulation, arrays have a leading axis: the parts."""

  real: Array  # float32 [B, H, W, C] in [-1, 1]
  y: Array | None  # classes of real images and of fakes alike, one-hot, float32 [B, classes]
  z: Array  # latents, float32 [B, z_size + classes]
  generator_key: Array  # of dropout in G
  discriminator_key: Array  # of dropout in D
  fakes: Fakes | None  # None with accumulation, where each part is generated when its turn has come


class Keys(NamedTuple):
  """The random keys of one step."""

  z: Array
  fresh_z: Array
  flip: Array
  generator_dropout: Array
  discriminator_dropout: Array
  opponent_dropout: Array  # of D, when G learns through it

  def of_pass(self, i: int) -> 'Keys':
    """Returns the keys of G's i-th forward pass in the step: each update of D has one, and so has fresh z."""
    keys = (self.z, self.generator_dropout, self.discriminator_dropout)
    z, in_g, in_d = (jax.random.fold_in(key, i) for key in keys)
    return self._replace(z=z, generator_dropout=in_g, discriminator_dropout=in_d)


def make_train_step(gan: Gan, recipe: Recipe, axis_name: str | None = None) -> TrainStep:
  """Returns the pure function that trains both networks on one batch.

  All randomness is a function of (state.key, state.step, global sample index). G's running batch-norm
  statistics move only in G's update, D's only in D's; in the other network's update each normalises by
  the batch's statistics and forgets them. D sees real images and fakes as two batches.

  Args:
    gan: the networks, their optimizers and the latents.
    recipe: how they learn.
    axis_name: of the mapped axis, under `jax.pmap` or `jax.shard_map(..., check_vma=False)`; each
      device then gets its contiguous part of the global batch, and gradients, batch statistics and
      metrics are averaged over the axis. None on one device.

  Returns:
    (state, images, classes=None) -> (state, metrics), to be compiled by the caller. images: `gan.pixels`
    [d_steps * B, H, W, C], B divisible by `accumulate` on each device. classes: int32 [d_steps * B], if the
    networks are told them. metrics: float32 scalars `loss_d`, `loss_g`; `penalty`, if D's gradient is
    penalized; `d_real` and `d_fake`, the mean of D(x) and D(G(z)) before D's update; `d_fake_after`, D(G(z))
    as G's update saw it; `grad_norm_d`, `grad_norm_g`, global L2 norms, 0 of a network whose turn it is not.

  Raises:
    ValueError: an unknown order, or d_steps or accumulate with an order that has no use for it.
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
    return GanState(state.step + 1, g, d, ema, state.key), _average(metrics, axis_name)

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

  def gradient(stats: PyTree, part: Batch) -> Gradient:
    fakes = part.fakes or generate(gan, g, g.batch_stats, part)
    real_key, fake_key = jax.random.split(part.discriminator_key)

    def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
      critic = partial(_judge, gan, recipe, params, part.y)
      real, new_stats, r1 = regularizers.judge(partial(critic, stats, real_key), part.real, recipe.r1 > 0)
      critic = partial(critic, new_stats, fake_key)
      fake, new_stats, r2 = regularizers.judge(critic, fakes.images, recipe.r2 > 0)
      loss, output = recipe.loss.discriminator(real, fake, recipe.real_label), recipe.loss.output
      metrics = {'loss_d': loss, 'd_real': output(real).mean(), 'd_fake': output(fake).mean()}
      if recipe.r1 or recipe.r2 or recipe.gradient_penalty:
        penalty = recipe.r1 * regularizers.zero_centred(r1) + recipe.r2 * regularizers.zero_centred(r2)
        if recipe.gradient_penalty:
          key = jax.random.fold_in(part.discriminator_key, 2)
          keys = _global_keys(key, len(real), gan.generator.axis_name)
          between = regularizers.between(part.real, fakes.images, keys)
          _, _, norms = regularizers.judge(critic, between)
          penalty += recipe.gradient_penalty * regularizers.one_centred(norms)
        metrics['penalty'] = penalty
        loss += penalty
      return loss, (new_stats, metrics)

    grads, (new_stats, metrics) = jax.grad(loss_fn, has_aux=True)(d.params)
    return grads, new_stats, metrics

  gradients = accumulated(gradient, d.batch_stats, batch, recipe.accumulate)
  return _apply(gan, gan.discriminator_optimizer, d, gradients, 'd', step)


def generator_update(
  gan: Gan, recipe: Recipe, g: NetState, d: NetState, batch: Batch, step: Array
) -> tuple[NetState, Metrics]:
  """Updates G through D, which stays as it is."""

  def gradient(stats: PyTree, part: Batch) -> Gradient:
    fakes = part.fakes or generate(gan, g, stats, part)
    real_key, fake_key = jax.random.split(part.discriminator_key)

    def loss_fn(images: Array) -> tuple[Array, Metrics]:
      critic = partial(_judge, gan, recipe, d.params, part.y, d.batch_stats)
      fake, _ = critic(fake_key, images)
      real = (critic(real_key, part.real)[0],) if recipe.loss.relativistic else ()
      loss = recipe.loss.generator(fake, *real)
      return loss, {'loss_g': loss, 'd_fake_after': recipe.loss.output(fake).mean()}

    image_grads, metrics = jax.grad(loss_fn, has_aux=True)(fakes.images)
    (grads,) = fakes.pull_back(image_grads)
    return grads, fakes.batch_stats, metrics

  gradients = accumulated(gradient, g.batch_stats, batch, recipe.accumulate)
  return _apply(gan, gan.generator_optimizer, g, gradients, 'g', step)


def make_batch(gan: Gan, g: NetState, real: Examples, keys: Keys) -> Batch:
  """Returns the batch of one update, divided into the parts of accumulation.

  Args:
    gan: whose latents are drawn.
    g: the generator's state.
    real: [B, parts, ...], see `Examples.divided`: image i of the global batch belongs to part i % parts. The
      fakes are of the same classes.
    keys: of the latents and of dropout.
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


def _apply(
  gan: Gan,
  optimizer: optax.GradientTransformation,
  net: NetState,
  gradient: Gradient,
  name: str,
  step: Array,
) -> tuple[NetState, Metrics]:
  """Applies one network's optimizer to its gradient, averaged over the devices, at the rate of the step."""
  grads, stats, metrics = gradient
  grads = _average(grads, gan.generator.axis_name)
  if not gan.generator.sync_norm:
    stats = _average(stats, gan.generator.axis_name)
  update = optax.with_extra_args_support(optimizer).update  # Most optimizers have no use for the step.
  updates, opt_state = update(grads, net.opt_state, net.params, step=step)
  net = NetState(optax.apply_updates(net.params, updates), stats, opt_state)
  return net, metrics | {f'grad_norm_{name}': optax.tree.norm(grads)}


def _average(tree: PyTree, axis_name: str | None) -> PyTree:
  """Returns the mean over the devices, by a single all-reduce; the tree itself on one."""
  if axis_name is None:
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


def _judge(
  gan: Gan, recipe: Recipe, params: PyTree, y: Array | None, stats: PyTree, key: Array, images: Array
) -> tuple[Array, PyTree]:
  """Runs D in training mode on images of the classes y; returns its logits and new batch-norm statistics."""
  if recipe.augment:
    keys = _global_keys(jax.random.fold_in(key, 1), len(images), gan.generator.axis_name)
    images = augmentation.augment(images, keys, recipe.augment)
  (logits, _), stats = _forward(gan.discriminator, params, stats, key, images, y)
  return logits, stats


def _forward(
  module: nn.Module, params: PyTree, stats: PyTree, key: Array, *inputs: Array | None
) -> tuple[Any, PyTree]:
  """Runs a network in training mode; returns its output and its new batch-norm statistics."""
  variables = {'params': params, 'batch_stats': stats}
  output, updated = module.apply(
    variables, *inputs, train=True, mutable=['batch_stats'], rngs={'dropout': key}
  )
  return output, updated.get('batch_stats', {})
