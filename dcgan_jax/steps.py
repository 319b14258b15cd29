"""The train step: the two updates, written out."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from dcgan_jax import latents
from dcgan_jax.losses import Loss
from dcgan_jax.state import GanState, NetState, PyTree

Metrics = dict[str, Array]
TrainStep = Callable[[GanState, Array], tuple[GanState, Metrics]]
Average = Callable[[PyTree], PyTree]
Gradient = tuple[PyTree, PyTree, Metrics]  # of a network's parameters; its new statistics; metrics

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
  accumulate: int = 1,
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
    accumulate: parts of the batch that both networks go through one after the other before each update,
      so that only one part's activations are in memory. Gradients are the mean over the parts; batch
      norm sees each part as a batch of its own. More than 1 not with 'one_per_batch'.
    axis_name: of the mapped axis, under `jax.pmap` or `jax.shard_map(..., check_vma=False)`; each
      device then gets its contiguous part of the global batch, and gradients, batch statistics and
      metrics are averaged over the axis. None on one device.

  Returns:
    (state, images) -> (state, metrics), to be compiled by the caller. images: uint8
    [d_steps * B, H, W, C], B divisible by `accumulate` on each device. metrics: float32 scalars `loss_d`,
    `loss_g`; `d_real` and `d_fake`, the mean of D(x) and D(G(z)) before D's update; `d_fake_after`, D(G(z))
    as G's update saw it; `grad_norm_d`, `grad_norm_g`, global L2 norms. With 'one_per_batch' the network
    whose turn it is not has gradient norm 0.

  Raises:
    ValueError: an unknown order, or d_steps or accumulate with an order that has no use for it.
  """
  if order not in ORDERS:
    raise ValueError(f'order={order!r}: choose one of {", ".join(ORDERS)}')
  if d_steps != 1 and order != 'alternating':
    raise ValueError(f'd_steps={d_steps}: only order=alternating takes more than 1')
  if accumulate != 1 and order == 'one_per_batch':
    raise ValueError(f'accumulate={accumulate}: order=one_per_batch takes only 1')
  generator = generator.clone(axis_name=axis_name)
  discriminator = discriminator.clone(axis_name=axis_name)
  average = _average_over(axis_name)
  draw_z, normalize = _make_inputs(z_size, prior, flip, axis_name)
  gradient_of_d = _make_discriminator_gradient(discriminator, loss, real_label)
  gradient_of_g = _make_generator_gradient(discriminator, loss)
  of_part = partial(_of_part, accumulate=accumulate)
  over_parts = partial(_over_parts, accumulate=accumulate)

  def make_fakes(net: NetState, stats: PyTree, z: Array, key: Array) -> tuple[Array, Callable, PyTree]:
    """Fakes, the function that pulls their gradient back to G's parameters, and G's new statistics."""
    return jax.vjp(lambda params: _forward(generator, params, stats, z, key), net.params, has_aux=True)

  def update(
    net: NetState, optimizer: optax.GradientTransformation, gradient: Gradient, name: str
  ) -> tuple[NetState, Metrics]:
    grads, stats, metrics = gradient
    grads = average(grads)
    if not generator.sync_norm:
      stats = average(stats)
    updates, opt_state = optimizer.update(grads, net.opt_state, net.params)
    net = NetState(optax.apply_updates(net.params, updates), stats, opt_state)
    return net, metrics | {f'grad_norm_{name}': optax.tree.norm(grads)}

  def train_both(state: GanState, images: Array, keys: Array) -> tuple[NetState, NetState, Metrics]:
    z_key, new_z_key, flip_key, g_dropout_key, d_dropout_key, opponent_key = keys
    g, d = state.generator, state.discriminator
    # image i of the global batch goes to D's update (i // accumulate) % d_steps, to its part i % accumulate,
    # however many devices share the batch
    batches = normalize(images, flip_key).reshape(-1, d_steps, accumulate, *images.shape[1:])

    z_keys = [jax.random.fold_in(z_key, i) for i in range(d_steps)]
    last = d_steps - 1
    if fresh_z:
      z_keys, last = [*z_keys, new_z_key], d_steps
    count = len(batches) * accumulate
    z = [draw_z(key, count).reshape(-1, accumulate, z_size) for key in z_keys]

    def fakes_of(i: int, part: Array | int, stats: PyTree) -> tuple[Array, Callable, PyTree]:
      return make_fakes(g, stats, z[i][:, part], of_part(g_dropout_key, part))

    @functools.cache  # both networks learn from the same fakes
    def all_fakes(i: int) -> tuple[Array, Callable, PyTree]:
      return fakes_of(i, 0, g.batch_stats)

    def learn_d(i: int, d: NetState, stats: PyTree, part: Array | int) -> Gradient:
      fakes, _, _ = all_fakes(i) if accumulate == 1 else fakes_of(i, part, g.batch_stats)
      key = of_part(jax.random.fold_in(d_dropout_key, i), part)
      return gradient_of_d(d.params, stats, batches[:, i, part], fakes, key)

    def learn_g(opponent: NetState, key: Array, stats: PyTree, part: Array | int) -> Gradient:
      fakes, pull_back, stats = all_fakes(last) if accumulate == 1 else fakes_of(last, part, stats)
      return gradient_of_g(opponent, fakes, pull_back, stats, of_part(key, part))

    for i in range(d_steps):
      d, d_metrics = update(
        d, discriminator_optimizer, over_parts(partial(learn_d, i, d), d.batch_stats), 'd'
      )
    if order == 'simultaneous':  # the very pass that D learns from, which XLA computes once
      through_d = partial(learn_g, state.discriminator, jax.random.fold_in(d_dropout_key, 0))
    else:
      through_d = partial(learn_g, d, opponent_key)
    g, g_metrics = update(g, generator_optimizer, over_parts(through_d, g.batch_stats), 'g')
    return g, d, d_metrics | g_metrics

  def train_one(state: GanState, images: Array, keys: Array) -> tuple[NetState, NetState, Metrics]:
    z_key, _, flip_key, g_dropout_key, d_dropout_key, _ = keys
    g, d = state.generator, state.discriminator
    real = normalize(images, flip_key)
    fakes, pull_back, stats = make_fakes(g, g.batch_stats, draw_z(z_key, len(images)), g_dropout_key)

    def update_one(generators_turn: bool) -> tuple[NetState, NetState, Metrics]:
      g_gradient = gradient_of_g(d, fakes, pull_back, stats, d_dropout_key)
      d_gradient = gradient_of_d(d.params, d.batch_stats, real, fakes, d_dropout_key)
      new_g, g_metrics = update(g, generator_optimizer, g_gradient, 'g')
      new_d, d_metrics = update(d, discriminator_optimizer, d_gradient, 'd')
      metrics = d_metrics | g_metrics
      # what a branch does not return is not computed: the idle network gets a forward pass at most
      if generators_turn:
        return new_g, d, metrics | {'grad_norm_d': jnp.zeros(())}
      return g, new_d, metrics | {'grad_norm_g': jnp.zeros(())}

    return lax.cond(state.step % 2 == 0, lambda: update_one(True), lambda: update_one(False))

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
  """The mean of a tree over the devices, by a single all-reduce; the tree itself on one."""

  def average(tree: PyTree) -> PyTree:
    if axis_name is None:
      return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(lax.pmean(flat, axis_name))

  return average


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


def _of_part(key: Array, part: Array | int, accumulate: int) -> Array:
  return key if accumulate == 1 else jax.random.fold_in(key, part)


def _over_parts(learn: Callable[[PyTree, Array | int], Gradient], stats: PyTree, accumulate: int) -> Gradient:
  """The mean of the parts' gradients and metrics; the statistics move with each part in turn."""
  if accumulate == 1:
    return learn(stats, 0)

  def one(carry: tuple[PyTree, PyTree], part: Array) -> tuple[tuple[PyTree, PyTree], None]:
    sums, stats = carry
    grads, stats, metrics = learn(stats, part)
    return (jax.tree.map(jnp.add, sums, (grads, metrics)), stats), None

  grads, _, metrics = jax.eval_shape(learn, stats, jnp.zeros((), jnp.int32))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
  (sums, stats), _ = lax.scan(one, (zeros, stats), jnp.arange(accumulate))
  grads, metrics = jax.tree.map(lambda x: x / accumulate, sums)
  return grads, stats, metrics


def _make_discriminator_gradient(
  discriminator: nn.Module, loss: Loss, real_label: float
) -> Callable[..., Gradient]:
  def gradient(params: PyTree, stats: PyTree, real: Array, fake: Array, key: Array) -> Gradient:
    """Of D's loss on real images and on fakes, each normalised by its own batch's statistics."""
    real_key, fake_key = jax.random.split(key)

    def loss_fn(params: PyTree) -> tuple[Array, tuple]:
      real_logits, new_stats = _judge(discriminator, params, stats, real, real_key)
      fake_logits, new_stats = _judge(discriminator, params, new_stats, fake, fake_key)
      return loss.discriminator(real_logits, fake_logits, real_label), (new_stats, real_logits, fake_logits)

    (value, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    new_stats, real_logits, fake_logits = aux
    metrics = {
      'loss_d': value,
      'd_real': jnp.mean(loss.output(real_logits)),
      'd_fake': jnp.mean(loss.output(fake_logits)),
    }
    return grads, new_stats, metrics

  return gradient


def _make_generator_gradient(discriminator: nn.Module, loss: Loss) -> Callable[..., Gradient]:
  def gradient(opponent: NetState, fakes: Array, pull_back: Callable, stats: PyTree, key: Array) -> Gradient:
    """Of G's loss through `opponent`: in the fakes, then pulled back to G's parameters."""
    _, fake_key = jax.random.split(key)  # as D's gradient does: the same key, the same dropout

    def loss_fn(images: Array) -> tuple[Array, Array]:
      logits, _ = _judge(discriminator, opponent.params, opponent.batch_stats, images, fake_key)
      return loss.generator(logits), logits

    (value, logits), image_grads = jax.value_and_grad(loss_fn, has_aux=True)(fakes)
    (grads,) = pull_back(image_grads)
    return grads, stats, {'loss_g': value, 'd_fake_after': jnp.mean(loss.output(logits))}

  return gradient


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
