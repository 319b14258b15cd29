"""The train step: the two updates, written out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from dcgan_jax import latents
from dcgan_jax.losses import Loss
from dcgan_jax.state import GanState, NetState, PyTree

Metrics = dict[str, Array]
TrainStep = Callable[[GanState, Array], tuple[GanState, Metrics]]
Average = Callable[[PyTree], PyTree]

# 'alternating': D learns, then G through the D that has just learned (Goodfellow 2014; seeds 000, 004).
# 'simultaneous': both learn from the same forward pass (TensorFlow's tutorial; seed 001).
# 'one_per_batch': a mini-batch trains one of them, G first, in turn (the paper authors' code).
ORDERS = ('alternating', 'simultaneous', 'one_per_batch')


def make_train_step(
  generator: nn.Module,
  discriminator: nn.Module,
  generator_optimizer: optax.GradientTransformation,
  discriminator_optimizer: optax.GradientTransformation,
  loss: Loss,
  *,
  z_size: int = 100,
  prior: str = 'normal',
  order: str = 'alternating',
  d_steps: int = 1,
  fresh_z: bool = False,
  real_label: float = 1.0,
  flip: bool = False,
  ema_decay: float = 0.0,
  axis_name: str | None = None,
) -> TrainStep:
  """Makes the pure function that trains both networks on one batch.

  All randomness is a function of (state.key, state.step, global sample index). G's running batch-norm
  statistics move only in G's update, D's only in D's; in the other network's update each normalises by
  the batch's statistics and forgets them. D sees real images and fakes as two batches.

  Args:
    generator: z [B, z_size], train -> images [B, H, W, C] in [-1, 1], see `models.Generator`.
    discriminator: images, train -> (logits [B], activations), see `models.Discriminator`.
    generator_optimizer: see `state.make_optimizer`.
    discriminator_optimizer: likewise.
    loss: an entry of `losses.LOSSES`.
    z_size: of the latents.
    prior: of the latents, see `latents.PRIORS`.
    order: one of `ORDERS`, explained there.
    d_steps: D's updates for each of G's, each on its own images; 1 unless `order` is 'alternating'.
    fresh_z: G learns from a new z rather than from the fakes that D has just learned from.
    real_label: D's target for real images; below 1 is one-sided label smoothing.
    flip: mirror each real image left to right with probability 1/2.
    ema_decay: of the moving average of G's variables, when the state has one; less in the first steps,
      (1 + step) / (10 + step).
    axis_name: of the mapped axis, under `jax.pmap` or `jax.shard_map(..., check_vma=False)`; each
      device then gets its contiguous part of the global batch, and gradients, batch statistics and
      metrics are averaged over the axis. None on one device.

  Returns:
    (state, images) -> (state, metrics), to be compiled by the caller. images: uint8
    [d_steps * B, H, W, C]. metrics: float32 scalars `loss_d`, `loss_g`; `d_real` and `d_fake`, the
    mean of D(x) and D(G(z)) before D's update; `d_fake_after`, D(G(z)) as G's update saw it;
    `grad_norm_d`, `grad_norm_g`, global L2 norms. With 'one_per_batch' the network whose turn it is
    not has gradient norm 0.

  Raises:
    ValueError: an unknown order, or d_steps with an order that has no use for it.
  """
  if order not in ORDERS:
    raise ValueError(f'order={order!r}: choose one of {", ".join(ORDERS)}')
  if d_steps != 1 and order != 'alternating':
    raise ValueError(f'd_steps={d_steps}: only order=alternating takes more than 1')
  generator = generator.clone(axis_name=axis_name)
  discriminator = discriminator.clone(axis_name=axis_name)
  average = _average_over(axis_name)
  draw_z, normalize = _make_inputs(z_size, prior, flip, axis_name)
  update_discriminator = _make_discriminator_update(
    discriminator, discriminator_optimizer, loss, real_label, average
  )
  update_generator = _make_generator_update(discriminator, generator_optimizer, loss, average)

  def forward_generator(net: NetState, z: Array, key: Array) -> tuple[Array, Callable, PyTree]:
    """Fakes, the function that pulls their gradient back to G's parameters, and G's new statistics."""
    return jax.vjp(
      lambda params: _forward(generator, params, net.batch_stats, z, key), net.params, has_aux=True
    )

  def train_both(state: GanState, images: Array, keys: Array) -> tuple[NetState, NetState, Metrics]:
    z_key, new_z_key, flip_key, g_dropout_key, d_dropout_key, opponent_key = keys
    g, d = state.generator, state.discriminator
    # image i of the global batch goes to D's update i % d_steps, however many devices share the batch
    batches = normalize(images, flip_key).reshape(-1, d_steps, *images.shape[1:])
    count = batches.shape[0]
    for i in range(d_steps):
      z = draw_z(jax.random.fold_in(z_key, i), count)
      fakes, pull_back, stats = forward_generator(g, z, g_dropout_key)
      d_key = jax.random.fold_in(d_dropout_key, i)
      d, d_metrics = update_discriminator(d, batches[:, i], fakes, d_key)
    if fresh_z:
      fakes, pull_back, stats = forward_generator(g, draw_z(new_z_key, count), g_dropout_key)
    if order == 'simultaneous':  # the very pass that D learns from, which XLA computes once
      g, g_metrics = update_generator(g, state.discriminator, fakes, pull_back, stats, d_key)
    else:
      g, g_metrics = update_generator(g, d, fakes, pull_back, stats, opponent_key)
    return g, d, d_metrics | g_metrics

  def train_one(state: GanState, images: Array, keys: Array) -> tuple[NetState, NetState, Metrics]:
    z_key, _, flip_key, g_dropout_key, d_dropout_key, _ = keys
    g, d = state.generator, state.discriminator
    real = normalize(images, flip_key)
    fakes, pull_back, stats = forward_generator(g, draw_z(z_key, len(images)), g_dropout_key)

    def update(generators_turn: bool) -> tuple[NetState, NetState, Metrics]:
      new_g, g_metrics = update_generator(g, d, fakes, pull_back, stats, d_dropout_key)
      new_d, d_metrics = update_discriminator(d, real, fakes, d_dropout_key)
      metrics = d_metrics | g_metrics
      # what a branch does not return is not computed: the idle network gets a forward pass at most
      if generators_turn:
        return new_g, d, metrics | {'grad_norm_d': jnp.zeros(())}
      return g, new_d, metrics | {'grad_norm_g': jnp.zeros(())}

    return lax.cond(state.step % 2 == 0, lambda: update(True), lambda: update(False))

  def train_step(state: GanState, images: Array) -> tuple[GanState, Metrics]:
    key = jax.random.wrap_key_data(state.key)
    keys = jax.random.split(jax.random.fold_in(key, state.step), 6)
    train = train_one if order == 'one_per_batch' else train_both
    g, d, metrics = train(state, images, keys)
    ema = state.ema
    if ema is not None:
      # a younger average forgets faster, or its first thousands of pictures would be the untrained G's
      step = state.step.astype(jnp.float32)
      decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
      ema = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, ema, g.variables)
    return GanState(state.step + 1, g, d, ema, state.key), average(metrics)

  return train_step


def _average_over(axis_name: str | None) -> Average:
  """The mean of a tree over the devices; the tree itself on one."""
  return lambda tree: tree if axis_name is None else lax.pmean(tree, axis_name)


def _make_inputs(z_size: int, prior: str, flip: bool, axis_name: str | None) -> tuple[Callable, Callable]:
  """(key, count) -> z, and (uint8 images, key) -> float images: this device's part of the global batch."""

  def global_indices(count: int) -> Array:
    index = jnp.arange(count)
    return index if axis_name is None else index + count * lax.axis_index(axis_name)

  def draw_z(key: Array, count: int) -> Array:
    return latents.sample(key, global_indices(count), z_size, prior)

  def normalize(images: Array, key: Array) -> Array:
    """uint8 -> float32 in [-1, 1], mirrored or not."""
    images = images.astype(jnp.float32) / 127.5 - 1.0
    if not flip:
      return images
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, global_indices(len(images)))
    mirrored = jax.vmap(jax.random.bernoulli)(keys)[:, None, None, None]
    return jnp.where(mirrored, images[:, :, ::-1], images)

  return draw_z, normalize


def _make_discriminator_update(
  discriminator: nn.Module,
  optimizer: optax.GradientTransformation,
  loss: Loss,
  real_label: float,
  average: Average,
) -> Callable[..., tuple[NetState, Metrics]]:
  def update_discriminator(net: NetState, real: Array, fake: Array, key: Array) -> tuple[NetState, Metrics]:
    """D's update on real images, then on fakes, each normalised by its own batch's statistics."""
    real_key, fake_key = jax.random.split(key)

    def loss_fn(params: PyTree) -> tuple[Array, tuple]:
      real_logits, stats = _judge(discriminator, params, net.batch_stats, real, real_key)
      fake_logits, stats = _judge(discriminator, params, stats, fake, fake_key)
      return loss.discriminator(real_logits, fake_logits, real_label), (stats, real_logits, fake_logits)

    (value, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(net.params)
    stats, real_logits, fake_logits = aux
    grads = average(grads)
    metrics = {
      'loss_d': value,
      'd_real': jnp.mean(loss.output(real_logits)),
      'd_fake': jnp.mean(loss.output(fake_logits)),
      'grad_norm_d': optax.tree.norm(grads),
    }
    return _apply(net, optimizer, grads, stats), metrics

  return update_discriminator


def _make_generator_update(
  discriminator: nn.Module, optimizer: optax.GradientTransformation, loss: Loss, average: Average
) -> Callable[..., tuple[NetState, Metrics]]:
  def update_generator(
    net: NetState, opponent: NetState, fakes: Array, pull_back: Callable, stats: PyTree, key: Array
  ) -> tuple[NetState, Metrics]:
    """G's update through `opponent`: the loss's gradient in the fakes, pulled back to G's parameters."""
    _, fake_key = jax.random.split(key)  # as `update_discriminator` does: the same key, the same dropout

    def loss_fn(images: Array) -> tuple[Array, Array]:
      logits, _ = _judge(discriminator, opponent.params, opponent.batch_stats, images, fake_key)
      return loss.generator(logits), logits

    (value, logits), image_grads = jax.value_and_grad(loss_fn, has_aux=True)(fakes)
    (grads,) = pull_back(image_grads)
    grads = average(grads)
    metrics = {
      'loss_g': value,
      'd_fake_after': jnp.mean(loss.output(logits)),
      'grad_norm_g': optax.tree.norm(grads),
    }
    return _apply(net, optimizer, grads, stats), metrics

  return update_generator


def _judge(
  discriminator: nn.Module, params: PyTree, batch_stats: PyTree, images: Array, key: Array
) -> tuple[Array, PyTree]:
  """D in training mode: (logits [B], its new batch-norm statistics)."""
  (logits, _), batch_stats = _forward(discriminator, params, batch_stats, images, key)
  return logits, batch_stats


def _forward(
  module: nn.Module, params: PyTree, batch_stats: PyTree, x: Array, key: Array
) -> tuple[Any, PyTree]:
  """A network in training mode: (its output, its new batch-norm statistics)."""
  variables = {'params': params, 'batch_stats': batch_stats}
  output, updated = module.apply(variables, x, train=True, mutable=['batch_stats'], rngs={'dropout': key})
  return output, updated.get('batch_stats', {})


def _apply(
  net: NetState, optimizer: optax.GradientTransformation, grads: PyTree, batch_stats: PyTree
) -> NetState:
  updates, opt_state = optimizer.update(grads, net.opt_state, net.params)
  return NetState(optax.apply_updates(net.params, updates), batch_stats, opt_state)
