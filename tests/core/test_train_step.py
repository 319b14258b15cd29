import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import gan_of, lenient
from jax.sharding import PartitionSpec as P

from dcgan_jax.core import latents, train_state
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.train_state import Gan, GanState, NetState
from dcgan_jax.core.train_step import Recipe, make_train_step

Z = 5
ORDERS = [
  {'order': 'alternating'},
  {'order': 'alternating', 'fresh_z': True},
  {'order': 'alternating', 'd_steps': 2},
  {'order': 'alternating', 'd_steps': 2, 'fresh_z': True, 'accumulate': 2},
  {'order': 'simultaneous'},
  {'order': 'one_per_batch'},
]
LOSS = LOSSES['non_saturating']


def _images(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)


@functools.cache  # so that tests which train alike compile once
def _make(tiny, rate=1e-3, loss=LOSS, ema=False, axis_name=None, **arguments):
  """Returns a state and its train step."""
  # The updates of plain gradient descent are the gradients, so that equality means something.
  gan = gan_of(tiny, lenient(optax.sgd(rate)), Z)
  step = make_train_step(gan, Recipe(loss, **arguments), axis_name)
  return _create(*tiny, ema), step


@functools.cache
def _create(generator, discriminator, ema):
  gan = gan_of((generator, discriminator), lenient(optax.sgd(1.0)), Z)
  return jax.jit(functools.partial(train_state.create, gan, 0, ema))()


def _assert_close(got, want, rtol=1e-5, atol=1e-6):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), got, want)


def _equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()), a, b)))


def _of_device(tree, i):
  return jax.tree.map(lambda x: np.asarray(x)[i], tree)


def _normalized(images):
  return images.astype(jnp.float32) / 127.5 - 1.0


def _apply(module, net, x, params=None):
  """Applies a network in training mode without dropout; returns its output and new statistics."""
  variables = net.variables if params is None else {'params': params, 'batch_stats': net.batch_stats}
  out, updated = module.apply(variables, x, train=True, mutable=['batch_stats'])
  return out, updated['batch_stats']


@pytest.mark.parametrize(
  ('order', 'fresh_z'),
  [
    ('alternating', False),
    pytest.param('alternating', True, marks=pytest.mark.slow(2)),
    pytest.param('simultaneous', False, marks=pytest.mark.slow(2)),
  ],
)
def test_step_is_the_textbooks(tiny, order, fresh_z):
  """Compares with a step composed of whole losses, each differentiated in one go, without pull-backs."""
  generator, discriminator = tiny[0], tiny[1].clone(dropout=0.0)
  before, step = _make((generator, discriminator), order=order, fresh_z=fresh_z)
  images = _images(6)
  after, metrics = jax.jit(step)(before, images)

  @jax.jit
  def textbook(g, d, key):
    # These are the z that the step draws, recovered from their documented keys.
    keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), 0), 6)
    z = latents.sample(jax.random.fold_in(keys[0], 0), jnp.arange(6), Z)
    z_of_g = latents.sample(keys[1], jnp.arange(6), Z) if fresh_z else z
    real = _normalized(images)

    def loss_d(params):
      fake, _ = _apply(generator, g, z)
      (real_logits, _), stats = _apply(discriminator, d, real, params)
      (fake_logits, _), stats = _apply(discriminator, d.replace(batch_stats=stats), fake, params)
      return LOSS.discriminator(real_logits, fake_logits, 1.0), (stats, real_logits, fake_logits)

    (value_d, aux_d), grads_d = jax.value_and_grad(loss_d, has_aux=True)(d.params)
    new_d = jax.tree.map(lambda p, dp: p - 1e-3 * dp, d.params, grads_d)

    def loss_g(params):
      fake, stats = _apply(generator, g, z_of_g, params)
      (logits, _), _ = _apply(discriminator, d, fake, new_d if order == 'alternating' else d.params)
      return LOSS.generator(logits), (stats, logits)

    (value_g, aux_g), grads_g = jax.value_and_grad(loss_g, has_aux=True)(g.params)
    new_g = jax.tree.map(lambda p, dp: p - 1e-3 * dp, g.params, grads_g)
    (d_stats, real_logits, fake_logits), (g_stats, logits_after) = aux_d, aux_g
    return (
      new_d,
      new_g,
      d_stats,
      g_stats,
      {
        'loss_d': value_d,
        'loss_g': value_g,
        'd_real': jax.nn.sigmoid(real_logits).mean(),
        'd_fake': jax.nn.sigmoid(fake_logits).mean(),
        'd_fake_after': jax.nn.sigmoid(logits_after).mean(),
        'grad_norm_d': optax.tree.norm(grads_d),
        'grad_norm_g': optax.tree.norm(grads_g),
      },
    )

  new_d, new_g, d_stats, g_stats, want = textbook(before.generator, before.discriminator, before.key)
  _assert_close(after.discriminator.params, new_d)
  _assert_close(after.generator.params, new_g)
  _assert_close(after.discriminator.batch_stats, d_stats)
  _assert_close(after.generator.batch_stats, g_stats)
  assert after.step == 1
  assert metrics.keys() == want.keys()
  _assert_close(metrics, want, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('order', ['alternating', 'simultaneous'])
def test_parts_of_a_batch_add_up(tiny, order):
  """Without batch norm, for which each part is a batch, accumulation changes nothing."""
  tiny = tuple(module.clone(norm=(False, False), dropout=0.0) for module in tiny)
  before, step = _make(tiny, order=order)
  _, in_parts = _make(tiny, order=order, accumulate=3)
  whole, metrics = jax.jit(step)(before, _images(12))
  parts, part_metrics = jax.jit(in_parts)(before, _images(12))
  assert not _equal(parts.generator.params, before.generator.params)
  _assert_close(parts, whole)
  _assert_close(part_metrics, metrics)


@pytest.mark.slow
def test_parts_take_less_memory(tiny):
  sizes = []
  for accumulate in (1, 8):
    before, step = _make(tiny, accumulate=accumulate)
    analysis = jax.jit(step).lower(before, _images(256)).compile().memory_analysis()
    sizes.append(analysis.temp_size_in_bytes)
  assert sizes[1] < 0.3 * sizes[0]


def _mapped(step):
  mesh = jax.make_mesh((4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
  return jax.jit(
    jax.shard_map(step, mesh=mesh, in_specs=(P(), P('batch')), out_specs=(P(), P()), check_vma=False)
  )


def test_gradients_are_one_all_reduce_a_network(tiny):
  before, step = _make(tiny, axis_name='batch')
  sizes = [
    sum(x.size for x in jax.tree.leaves(net.params)) for net in (before.generator, before.discriminator)
  ]
  text = _mapped(step).lower(before, _images(8)).as_text()
  reduced = [int(n) for n in re.findall(r'all_reduce.*?\}\) : \(tensor<(\d+)xf32>', text, re.DOTALL)]
  assert all(reduced.count(size) == 1 for size in sizes) and sum(n > min(sizes) / 2 for n in reduced) == 2


@pytest.mark.slow
def test_statistics_of_each_device_alone(tiny):
  """Counts fewer messages; the state is still the same on all devices, and near that by common statistics."""
  tiny = tuple(module.clone(dropout=0.0) for module in tiny)
  before, step = _make(tiny, axis_name='batch')
  _, own_step = _make(tuple(module.clone(sync_norm=False) for module in tiny), axis_name='batch')
  counts = [_mapped(s).lower(before, _images(64)).as_text().count('all_reduce') for s in (step, own_step)]
  assert counts[1] == 5 < counts[0]  # of gradients and statistics of both networks, and of metrics
  common, _ = _mapped(step)(before, _images(64))
  own = jax.pmap(own_step, 'batch')(
    jax.tree.map(lambda x: np.stack([x] * 4), before), _images(64).reshape(4, 16, 8, 8, 1)
  )[0]
  assert _equal(_of_device(own, 0), _of_device(own, 3))
  own = _of_device(own, 0)
  assert not _equal(own.generator.params, common.generator.params)
  _assert_close(own, common, rtol=0.1, atol=0.1)


@pytest.mark.slow
def test_simultaneous_costs_less_than_alternating(tiny):
  """Counts operations: both losses share D's forward pass on the fakes."""
  flops = {}
  for order in ('alternating', 'simultaneous'):
    before, step = _make((tiny[0], tiny[1].clone(dropout=0.0)), order=order)
    flops[order] = jax.jit(step).lower(before, _images(8)).compile().cost_analysis()['flops']
  assert flops['simultaneous'] < 0.95 * flops['alternating']


@pytest.mark.slow
def test_one_per_batch_trains_g_then_d(tiny):
  first, step = _make(tiny, order='one_per_batch')
  step = jax.jit(step)
  second, metrics = step(first, _images(8))
  third, later_metrics = step(second, _images(8))
  assert _equal(first.discriminator, second.discriminator) and _equal(second.generator, third.generator)
  assert not _equal(first.generator.params, second.generator.params)
  assert not _equal(second.discriminator.params, third.discriminator.params)
  assert not _equal(first.generator.batch_stats, second.generator.batch_stats)
  assert metrics['grad_norm_d'] == 0 and metrics['grad_norm_g'] > 0
  assert later_metrics['grad_norm_d'] > 0 and later_metrics['grad_norm_g'] == 0


@pytest.mark.slow
def test_d_steps_learn_from_batches_of_their_own(tiny):
  """Swaps the images of D's two updates, which matters, and shuffles those of each, which does not."""
  tiny = tiny[0], tiny[1].clone(dropout=0.0)
  before, step = _make(tiny, d_steps=2)
  images = _images(8)
  after, _ = jax.jit(step)(before, images)
  swapped = images.reshape(4, 2, 8, 8, 1)[:, ::-1].reshape(8, 8, 8, 1)
  other, _ = jax.jit(step)(before, swapped)
  assert not _equal(after.discriminator.params, other.discriminator.params)
  shuffled = images.reshape(4, 2, 8, 8, 1)[::-1].reshape(
    8, 8, 8, 1
  )  # The order within a batch means nothing.
  same, _ = jax.jit(step)(before, shuffled)
  _assert_close(same.discriminator.params, after.discriminator.params, atol=1e-6)


@pytest.mark.slow
def test_step_is_a_function_of_key_and_step(tiny):
  before, step = _make(tiny)
  step = jax.jit(step)
  again, _ = step(before, _images(8))
  assert _equal(step(before, _images(8))[0], again)
  later, _ = step(before.replace(step=jnp.int32(1)), _images(8))
  assert not _equal(later.generator.params, again.generator.params)


def test_flip_mirrors_half_of_the_images(tiny):
  """Counts the images that a discriminator sees mirrored."""

  class Spy:
    """A discriminator that stores the first images that it sees in its statistics."""

    def clone(self, **_):
      return self

    def apply(self, variables, x, y=None, **_):
      seen = {'seen': x} | variables['batch_stats']
      return (jnp.sum(x, (1, 2, 3)) * variables['params']['w'], ()), {'batch_stats': seen}

  optimizer = lenient(optax.sgd(0.1))
  net = NetState({'w': jnp.float32(1.0)}, {}, optimizer.init({'w': jnp.float32(1.0)}))
  before, _ = _make(tiny)
  before = before.replace(discriminator=net)
  left = np.zeros((256, 8, 8, 1), np.uint8)
  left[:, :, :4] = 255
  gan = Gan(tiny[0], Spy(), optimizer, optimizer, Latents(Z))
  step = make_train_step(gan, Recipe(LOSS, flip=True))
  seen = jax.jit(step)(before, left)[0].discriminator.batch_stats['seen']
  real = np.asarray(seen).round(6)  # Normalizing may round the last bit.
  bright_left = real[:, 0, 0, 0] == 1.0
  assert set(np.unique(real)) == {-1.0, 1.0} and (bright_left != (real[:, 0, -1, 0] == 1.0)).all()
  assert 96 < bright_left.sum() < 160  # four standard deviations of a fair coin


class _GeneratorOfItsKey:
  """A generator whose images encode its dropout key, which it also stores in its statistics."""

  axis_name, sync_norm = None, True

  def clone(self, **_):
    return self

  def apply(self, variables, z, rngs, **_):
    number = jax.random.uniform(rngs['dropout'])
    return jnp.full((len(z), 8, 8, 1), number) * variables['params']['w'], {'batch_stats': {'last': number}}


class _DiscriminatorOfItsKey(_GeneratorOfItsKey):
  """A discriminator whose logits encode its dropout key; it stores its inputs and outputs."""

  def apply(self, variables, x, y=None, rngs=None, **_):
    number = jax.random.uniform(rngs['dropout'])
    kept = [*variables['batch_stats'].get('all', []), (x[0, 0, 0, 0], number)]
    return (x.sum((1, 2, 3)) * variables['params']['w'] + number, ()), {'batch_stats': {'all': kept}}


@pytest.mark.slow
@pytest.mark.parametrize('fresh_z', [False, True])
@pytest.mark.parametrize('d_steps', [1, 3])
def test_dropout_draws_anew_in_each_pass(d_steps, fresh_z):
  """Sees a key of its own in each pass of both networks; fakes that both learn from are of one pass."""
  optimizer = lenient(optax.sgd(0.0))
  g, d = (NetState({'w': jnp.float32(w)}, {}, optimizer.init({'w': jnp.float32(w)})) for w in (1, 0))
  before = GanState(jnp.int32(0), g, d, None, jax.random.key_data(jax.random.key(5)))
  gan = Gan(_GeneratorOfItsKey(), _DiscriminatorOfItsKey(), optimizer, optimizer, Latents(Z))
  step = make_train_step(gan, Recipe(LOSS, d_steps=d_steps, fresh_z=fresh_z))
  after, metrics = jax.jit(step)(before, _images(2 * d_steps))
  seen = np.array(after.discriminator.batch_stats['all'])  # of real images and fakes in turn
  in_d = [*seen[:, 1], np.log(metrics['d_fake_after'] / (1 - metrics['d_fake_after']))]
  assert len(seen) == 2 * d_steps and len(np.unique(np.round(in_d, 5))) == 2 * d_steps + 1
  fakes, last = seen[1::2, 0].tolist(), float(after.generator.batch_stats['last'])
  assert len({*fakes, last}) == d_steps + fresh_z and (last in fakes) != fresh_z


@pytest.mark.slow
@pytest.mark.parametrize('arguments', ORDERS, ids=str)
def test_learning_rates_are_of_the_train_step_in_every_order(tiny, arguments):
  """Takes Adam without averages, which moves each parameter by the learning rate in each of its updates."""
  rate, d_steps = 1e-3, arguments.get('d_steps', 1)
  adam = train_state.make_optimizer(rate, b1=0.0, b2=0.0, decay_after=1, decay_steps=4)
  gan = gan_of(tiny, lenient(adam), Z)
  now = jax.jit(functools.partial(train_state.create, gan, 0))()
  step, moves = jax.jit(make_train_step(gan, Recipe(LOSS, **arguments))), []
  for i in range(6):
    new, _ = step(now, _images(8 * d_steps, i))
    moves.append([_largest_move(n.params, o.params) for n, o in zip(_networks(new), _networks(now))])
    now = new
  rates = rate * np.array([1, 1, 0.75, 0.5, 0.25, 0])
  turns = np.array([[1, d_steps]] * 6)
  if arguments['order'] == 'one_per_batch':
    turns = np.array([[1, 0], [0, 1]] * 3)
  np.testing.assert_allclose(moves, turns * rates[:, None], rtol=1e-3, atol=1e-7)


def _networks(state):
  return state.generator, state.discriminator


def _largest_move(new, old):
  return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old)))


@pytest.mark.slow
@pytest.mark.parametrize(('step_number', 'decay'), [(0, 0.1), (8, 0.5), (1000, 0.75)])
def test_ema_follows_the_generator(tiny, step_number, decay):
  """Moves by the given decay, 0.75, or by that of its age."""
  before, step = _make(tiny, ema=True, ema_decay=0.75)
  before = before.replace(
    step=jnp.int32(step_number), ema=jax.tree.map(lambda x: np.asarray(x) + np.float32(1), before.ema)
  )
  after, _ = jax.jit(step)(before, _images(8))
  want = jax.tree.map(
    lambda a, b: decay * a + (1 - decay) * np.asarray(b), before.ema, after.generator.variables
  )
  _assert_close(after.ema, want)


@pytest.mark.slow
def test_label_smoothing_changes_d_alone(tiny):
  before, plain = _make(tiny, order='simultaneous')
  _, smoothed = _make(tiny, order='simultaneous', real_label=0.9)
  a, b = jax.jit(plain)(before, _images(8))[0], jax.jit(smoothed)(before, _images(8))[0]
  _assert_close(a.generator, b.generator)
  assert not _equal(a.discriminator.params, b.discriminator.params)


@pytest.mark.slow
@pytest.mark.parametrize(('freeze', 'frozen'), [(1, {'conv1'}), (2, {'conv1', 'conv2', 'norm2'})])
def test_frozen_layers_keep_their_parameters(tiny, freeze, frozen):
  """Trains everything else as ever; L2 moves none of them, and their batch norm counts on."""
  learn = lenient(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1e-3)))
  gan, before = gan_of(tiny, learn, Z), _create(*tiny, False)
  before = before.replace(
    discriminator=before.discriminator.replace(opt_state=learn.init(before.discriminator.params)),
    generator=before.generator.replace(opt_state=learn.init(before.generator.params)),
  )
  steps = [
    jax.jit(make_train_step(gan, Recipe(order='simultaneous', freeze=n))).lower(before, _images(8)).compile()
    for n in (0, freeze)
  ]
  (free, metrics), (held, held_metrics) = (step(before, _images(8)) for step in steps)
  for name, old in before.discriminator.params.items():
    assert not _equal(free.discriminator.params[name], old)
    if name in frozen:
      jax.tree.map(np.testing.assert_array_equal, held.discriminator.params[name], old)
    else:
      _assert_close(held.discriminator.params[name], free.discriminator.params[name])
  _assert_close(held.generator, free.generator)
  assert not _equal(held.discriminator.batch_stats, before.discriminator.batch_stats)
  _assert_close(held.discriminator.batch_stats, free.discriminator.batch_stats)
  assert held_metrics['grad_norm_d'] < metrics['grad_norm_d']
  assert steps[1].cost_analysis()['flops'] < steps[0].cost_analysis()['flops']


@pytest.mark.slow
def test_bfloat16_computes_near_float32_with_float32_parameters(tiny):
  tiny = tiny[0], tiny[1].clone(dropout=0.0)
  with jax.numpy_dtype_promotion('standard'):  # Flax's batch norm mixes float32 statistics with bfloat16.
    before, step = _make(tiny)
    _, half_step = _make(tuple(module.clone(dtype=jnp.bfloat16) for module in tiny))
    full, metrics = jax.jit(step)(before, _images(8))
    half, half_metrics = jax.jit(half_step)(before, _images(8))
  assert {x.dtype for x in jax.tree.leaves(half.generator.params)} == {jnp.dtype('float32')}
  assert not _equal(full.generator.params, half.generator.params)
  np.testing.assert_allclose(half_metrics['loss_d'], metrics['loss_d'], rtol=0.02)
  np.testing.assert_allclose(half_metrics['grad_norm_d'], metrics['grad_norm_d'], rtol=0.1)


@pytest.mark.slow
def test_fast_convolutions_train_as_plain_lax(tiny):
  before, step = _make(tiny)
  _, plain_step = _make(tuple(module.clone(fast_conv=False) for module in tiny))
  fast, metrics = jax.jit(step)(before, _images(8))
  plain, plain_metrics = jax.jit(plain_step)(before, _images(8))
  _assert_close(fast, plain)
  _assert_close(metrics, plain_metrics)


@pytest.mark.slow
def test_learns(tiny):
  """Trains on images of a single gray, which the mean of G approaches."""
  gan = gan_of(tiny, lenient(train_state.make_optimizer(5e-3)), Z)
  before = jax.jit(lambda: train_state.create(gan, 0))()
  step = jax.jit(make_train_step(gan, Recipe(LOSS)))
  images = jnp.full((16, 8, 8, 1), 230, jnp.uint8)  # 0.8
  now = before
  for _ in range(150):
    now, _ = step(now, images)
  z = latents.sample(jax.random.key(9), jnp.arange(64), Z)
  make = jax.jit(tiny[0].apply)
  means = [float(make(s.generator.variables, z).mean()) for s in (before, now)]
  assert abs(means[0]) < 0.1 and means[1] > 0.5


def test_bad_arguments_are_refused(tiny):
  for arguments, text in (
    ({'order': 'both'}, 'alternating'),
    ({'order': 'simultaneous', 'd_steps': 2}, 'd_steps'),
    ({'order': 'one_per_batch', 'accumulate': 2}, 'accumulate'),
  ):
    with pytest.raises(ValueError, match=text):
      _make(tiny, **arguments)
