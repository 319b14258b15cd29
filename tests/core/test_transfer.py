"""Initialising a network from another, for every way in which the two can differ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gan_of, lenient
from flax import traverse_util

from dcgan_jax.core import train_state, transfer
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.transfer import Side

Z = 5
G = Generator(widths=(8, 6), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(8, 8), channels=1)
D = Discriminator(widths=(6, 8), strides=(2, 2), norm=(False, True))
LARGER_G = G.clone(widths=(8, 6, 4), strides=(2, 2, 2), norm=(True, True, True), image_size=(16, 16))
LARGER_D = D.clone(widths=(4, 6, 8), strides=(2, 2, 2), norm=(False, True, True))


def variables_of(module, seed=0, z_size=Z, size=(8, 8)):
  """Returns variables of a network in which no two numbers are alike; of images of one channel, or G's."""
  if isinstance(module, Generator):
    x = jnp.zeros((2, z_size + module.classes))
  else:
    x = jnp.zeros((2 * module.packing, *size, 1))
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  generator = np.random.default_rng(seed)
  return {'batch_stats': {}} | jax.tree.map(
    lambda x: jnp.asarray(generator.uniform(0.5, 1.5, x.shape), jnp.float32), shapes
  )


def side(module, variables, size=(8, 8), classes=()):
  """Returns a side of a transfer; G knows itself of what size its images are."""
  return Side(module, variables, getattr(module, 'image_size', size), classes)


def taken(old, new, names=((), ()), sizes=((8, 8), (8, 8))):
  """Returns the plan for two modules, and flat variables: of the old, of the new, and of what is made."""
  before, after = variables_of(old, 1, size=sizes[0]), variables_of(new, 2, size=sizes[1])
  sides = zip((old, new), (before, after), sizes, names)
  plan = transfer.match(*(side(*each) for each in sides))
  made = plan.apply(after, before)
  assert jax.tree.structure(made) == jax.tree.structure(after)
  return plan, *(
    {'.'.join(k): v for k, v in traverse_util.flatten_dict(x).items()} for x in (before, after, made)
  )


def assert_taken(made, old, names):
  """Compares arrays, each with that of the old name."""
  for name, was in names.items():
    np.testing.assert_array_equal(made[name], old[was], err_msg=name)


def assert_rest(made, fresh, names):
  """Asserts that all other arrays are unchanged."""
  for name in made.keys() - set(names):
    np.testing.assert_array_equal(made[name], fresh[name], err_msg=name)


def arrays(*layers, norms=()):
  """Returns the names of the arrays of layers without bias, and of batch norms."""
  of_norms = [f'params.{n}.{x}' for n in norms for x in ('scale', 'bias')]
  return (
    [f'params.{x}.kernel' for x in layers]
    + of_norms
    + [f'batch_stats.{n}.{x}' for n in norms for x in ('mean', 'var')]
  )


def same(names):
  return {name: name for name in names}


@pytest.mark.parametrize('module', [G, D])
def test_the_same_networks_are_taken_whole(module):
  plan, old, _, made = taken(module, module)
  assert_taken(made, old, same(made))
  assert not plan.new and not plan.left_out and plan.whole
  assert set(plan.taken) == {'dense', 'conv1', 'conv2'}


def test_other_channels_are_a_new_layer_beside_the_image():
  plan, old, fresh, made = taken(G, G.clone(channels=3))
  names = arrays('dense', 'conv1', norms=('norm0', 'norm1'))
  assert_taken(made, old, same(names))
  assert_rest(made, fresh, names)
  assert plan.new == ('conv2 (4x4x3x6, was 4x4x1x6)',) and plan.left_out == ('conv2',)
  plan, old, fresh, made = taken(D, D.clone(packing=2))  # which is as many channels again
  names = arrays('conv2', 'dense', norms=('norm2',))
  assert_taken(made, old, same(names))
  assert_rest(made, fresh, names)
  assert plan.new == ('conv1 (4x4x2x6, was 4x4x1x6)',) and plan.left_out == ('conv1',)


def test_a_larger_image_adds_layers_beside_it():
  plan, old, fresh, made = taken(G, LARGER_G)
  names = arrays('dense', 'conv1', norms=('norm0', 'norm1'))
  assert_taken(made, old, same(names))
  assert_rest(made, fresh, names)
  assert plan.taken == ('dense', 'conv1') and plan.left_out == ('conv2',) and not plan.whole
  assert plan.new == ('conv2', 'conv3 (4x4x1x4, was 4x4x1x6)')
  plan, old, fresh, made = taken(D, LARGER_D, sizes=((8, 8), (16, 16)))
  names = {name: name.replace('3', '2') for name in arrays('conv3', 'dense', norms=('norm3',))}
  assert_taken(made, old, names)
  assert_rest(made, fresh, names)
  assert plan.taken == ('conv2 as conv3', 'dense')
  assert plan.new == ('conv1 (4x4x1x4, was 4x4x1x6)', 'conv2') and plan.left_out == ('conv1',)


@pytest.mark.slow
def test_grown_networks_do_up_to_the_old_resolution_what_the_old_ones_did():
  z = jax.random.normal(jax.random.key(0), (3, Z))

  def inside(module, variables):
    _, seen = module.apply(variables, z, capture_intermediates=True, mutable=['intermediates'])
    return seen['intermediates']['norm1']['__call__'][0]

  before, after = variables_of(G, 1), variables_of(LARGER_G, 2)
  made = transfer.match(side(G, before), side(LARGER_G, after)).apply(after, before)
  np.testing.assert_array_equal(inside(G, before), inside(LARGER_G, made))


def test_two_layers_more_and_as_much_smaller_again():
  huge = D.clone(widths=(2, 4, 6, 8), strides=(2,) * 4, norm=(False, True, True, True))
  plan, old, _, made = taken(D, huge, sizes=((8, 8), (32, 32)))
  assert plan.taken == ('conv2 as conv4', 'dense')
  assert_taken(made, old, {'params.conv4.kernel': 'params.conv2.kernel'})
  plan, *_ = taken(huge, D, sizes=((32, 32), (8, 8)))
  assert plan.taken == ('conv4 as conv2', 'dense')
  assert plan.left_out == ('conv1', 'conv2', 'conv3')
  plan, *_ = taken(LARGER_G, G)
  assert plan.taken == ('dense', 'conv1') and plan.left_out == ('conv2', 'conv3')


def test_the_layer_beside_the_image_is_taken_if_it_fits():
  wide = LARGER_G.clone(widths=(8, 6, 6))
  plan, old, _, made = taken(G, wide)
  assert plan.taken == ('dense', 'conv1', 'conv2 as conv3') and plan.new == ('conv2',)
  assert_taken(made, old, {'params.conv3.kernel': 'params.conv2.kernel'})
  plan, old, _, made = taken(D, LARGER_D.clone(widths=(6, 6, 8)), sizes=((8, 8), (16, 16)))
  assert plan.taken == ('conv1', 'conv2 as conv3', 'dense') and plan.new == ('conv2',)
  assert not plan.left_out


def test_another_size_of_the_same_depth_has_other_dense_layers():
  plan, *_ = taken(G, G.clone(image_size=(12, 8)))
  assert plan.new == ('dense (5x48, was 5x32)',) and plan.taken == ('conv1', 'conv2')
  plan, *_ = taken(D, D, sizes=((8, 8), (12, 12)))
  assert plan.new == ('dense (72x1, was 32x1)',) and plan.taken == ('conv1', 'conv2')


def test_dense_layers_of_as_many_units_fit_only_the_same_base():
  """Each unit is one of the base's pixels and channels: 2x2x8 and 4x4x2 have as many, and 1x4x8 too."""
  wide = G.clone(widths=(2, 6), image_size=(16, 16))
  plan, _, fresh, made = taken(G, wide)
  assert plan.new[0] == 'dense (base 4x4x2, was 2x2x8)' and 'dense' in plan.left_out
  assert_rest(made, fresh, arrays('conv2'))
  plan, *_ = taken(G, G.clone(image_size=(4, 16)))
  assert plan.new == ('dense (base 1x4x8, was 2x2x8)',) and plan.taken == ('conv1', 'conv2')
  small = D.clone(widths=(6, 2))
  for more in ({}, {'dense_widths': (7,)}, {'classes': 3}):
    plan, _, fresh, made = taken(D.clone(**more), small.clone(**more), sizes=((8, 8), (16, 16)))
    beside = ['hidden1'] if 'dense_widths' in more else ['dense', 'projection'][: 1 + len(more)]
    assert [f'{name} (base 4x4x2, was 2x2x8)' for name in beside] == list(plan.new[-len(beside) :])
    assert_rest(made, fresh, arrays('conv1', *['dense'] * ('dense_widths' in more)))
    plan, *_ = taken(D.clone(**more), D.clone(**more), sizes=((8, 8), (4, 16)))
    assert plan.new == tuple(f'{name} (base 1x4x8, was 2x2x8)' for name in beside)
    assert plan.taken[:2] == ('conv1', 'conv2')


def test_the_batch_norm_of_a_new_layer_is_new():
  """The shape fits, but the statistics are those of another layer."""
  plan, _, fresh, made = taken(G, G.clone(image_size=(12, 8)))
  assert_rest(made, fresh, set(made) - set(arrays('dense', norms=('norm0',))))
  assert plan.new == ('dense (5x48, was 5x32)',)


def test_changed_widths_are_new_with_their_neighbours():
  plan, *_ = taken(G, G.clone(widths=(8, 7)))
  assert plan.taken == ('dense',)
  assert plan.new == ('conv1 (4x4x7x8, was 4x4x6x8)', 'conv2 (4x4x1x7, was 4x4x1x6)')
  plan, *_ = taken(D, D.clone(widths=(9, 10)))
  assert plan.taken == () and plan.pieces == {}


def test_biases_and_norms_that_one_of_them_lacks():
  plan, old, fresh, made = taken(G, G.clone(use_bias=True, norm=(True, False)))
  assert plan.taken == ('dense', 'conv1', 'conv2')
  assert set(plan.new) == {'dense.bias', 'conv1.bias', 'conv2.bias'}
  assert plan.left_out == ('norm1.bias', 'norm1.scale')
  assert_rest(made, fresh, set(old))
  plan, *_ = taken(G.clone(use_bias=True), G)
  assert plan.left_out == ('dense.bias', 'conv1.bias', 'conv2.bias') and not plan.new
  plan, *_ = taken(G, G.clone(dense_norm='unit'))
  assert plan.taken == ('dense', 'conv1', 'conv2') and plan.new == plan.left_out == (
    'norm0.bias',
    'norm0.scale',
  )


def test_hidden_layers_and_spectral_norm_keep_their_names():
  module = D.clone(dense_widths=(7,), spectral_norm=True)
  larger = LARGER_D.clone(dense_widths=(7,), spectral_norm=True)
  plan, old, _, made = taken(module, larger, sizes=((8, 8), (16, 16)))
  assert plan.taken == ('conv2 as conv3', 'hidden1', 'dense')
  assert_taken(
    made,
    old,
    {
      'batch_stats.spectral_conv3.conv3/kernel/u': 'batch_stats.spectral_conv2.conv2/kernel/u',
      'batch_stats.hidden_norm1.mean': 'batch_stats.hidden_norm1.mean',
      'params.hidden_norm1.scale': 'params.hidden_norm1.scale',
    },
  )


def test_transposed_kernels_are_none_of_bilinear_upsampling():
  """The shape is the same if a layer has as many inputs as outputs, and says something else."""
  square = G.clone(widths=(8, 8))
  plan, *_ = taken(square, square.clone(upsample='bilinear'))
  assert plan.taken == ('dense',)
  assert plan.new == ('conv1 (4x4x8x8, was 4x4x8x8)', 'conv2 (4x4x8x1, was 4x4x1x8)')


def test_transposed_kernels_serve_with_a_filter_too():
  plan, *_ = taken(G, G.clone(upsample='filtered'))
  assert not plan.new and not plan.left_out


@pytest.mark.slow
@pytest.mark.parametrize('upsample', ['filtered', 'bilinear'])
@pytest.mark.parametrize('dense_widths', [(), (7,)])
def test_networks_that_are_now_told_a_class_do_the_same_without_one(upsample, dense_widths):
  z = jax.random.normal(jax.random.key(0), (4, Z))
  old = G.clone(upsample=upsample, dense_widths=dense_widths)
  new = old.clone(classes=3, condition='concat')
  before, after = variables_of(old, 1), variables_of(new, 2)
  plan = transfer.match(side(old, before), side(new, after))
  made = plan.apply(after, before)
  first = f'hidden1 ({Z} of {Z + 3} inputs)' if dense_widths else f'dense ({Z} of {Z + 3} inputs)'
  assert plan.taken[0] == first and not plan.new and not plan.left_out and not plan.whole
  told_nothing = jnp.concatenate([z, jnp.zeros((4, 3))], 1)
  np.testing.assert_allclose(new.apply(made, told_nothing), old.apply(before, z), rtol=1e-5, atol=1e-6)
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
  old_d = D.clone(dense_widths=dense_widths)
  new_d = old_d.clone(classes=3, condition='concat')
  before, after = variables_of(old_d, 1), variables_of(new_d, 2)
  made = transfer.match(side(old_d, before), side(new_d, after)).apply(after, before)
  wanted, got = old_d.apply(before, images)[0], new_d.apply(made, images)[0]
  np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
  # And back again, where nothing tells a class any more.
  plan = transfer.match(side(new_d, after), side(old_d, before))
  assert 'conv2 (3 of its 9 inputs left out)' in plan.taken
  images_of_none = new_d.apply(after, images)[0]
  got = old_d.apply(plan.apply(before, after), images)[0]
  np.testing.assert_allclose(got, images_of_none, rtol=1e-5, atol=1e-5)


def test_an_embedding_is_put_beside_z():
  new = G.clone(classes=3, condition='embedding')
  plan, old, fresh, made = taken(G, new)
  assert plan.taken == (f'dense ({Z} of {2 * Z} inputs)', 'conv1', 'conv2') and plan.new == ('embedding',)
  np.testing.assert_array_equal(made['params.dense.kernel'][:Z], old['params.dense.kernel'])
  np.testing.assert_array_equal(made['params.dense.kernel'][Z:], fresh['params.dense.kernel'][Z:])


def test_each_class_of_batch_norms_begins_as_the_batch_norm_without_classes():
  new = G.clone(classes=3, condition='norm')
  plan, old, fresh, made = taken(G, new)
  assert plan.taken == ('dense', 'conv1', 'conv2') and not plan.new and not plan.left_out
  for name in arrays(norms=('norm0', 'norm1')):
    np.testing.assert_array_equal(made[name], np.broadcast_to(old[name], fresh[name].shape), err_msg=name)
  z = np.random.default_rng(0).standard_normal((3, Z)).astype(np.float32)
  before, after = variables_of(G, 1), variables_of(new, 2)
  variables = transfer.match(side(G, before), side(new, after)).apply(after, before)
  images = new.apply(variables, np.concatenate([z, np.eye(3, dtype=np.float32)], 1))
  np.testing.assert_allclose(images, G.apply(before, z), atol=1e-6)
  plan, *_ = taken(new, G)  # There is no class whose batch norm it could take.
  assert plan.new == plan.left_out == ('norm0.bias', 'norm0.scale', 'norm1.bias', 'norm1.scale')


def test_batch_norms_of_classes_are_taken_by_name():
  told = G.clone(classes=3, condition='norm')
  plan, old, fresh, made = taken(told, told, (('cat', 'dog', 'fish'), ('cat', 'bird', 'dog')))
  for name in ('params.norm0.scale', 'params.norm1.bias'):
    np.testing.assert_array_equal(made[name], np.stack([old[name][0], fresh[name][1], old[name][1]]))
  assert plan.taken == ('dense', 'conv1', 'conv2')
  assert plan.new == tuple(f'norm{i}.{part} (1 of 3 classes)' for i in (0, 1) for part in ('bias', 'scale'))
  plan, old, _, made = taken(told, told)
  assert_taken(made, old, same(made))
  assert not plan.new


def test_classes_of_the_same_name_are_taken_wherever_they_stand():
  names = (('cat', 'dog', 'fish'), ('bird', 'fish', 'cat'))
  plan, old, fresh, made = taken(*[G.clone(classes=3, condition='embedding')] * 2, names)
  key = 'params.embedding.kernel'
  wanted = np.stack([fresh[key][0], old[key][2], old[key][0]])
  np.testing.assert_array_equal(made[key], wanted)
  note = '(2 of 3 classes, 1 of its 3 classes left out)'
  assert plan.taken == (f'embedding {note}', 'dense', 'conv1', 'conv2')
  plan, old, fresh, made = taken(*[D.clone(classes=3, packing=2)] * 2, names)
  key = 'params.projection.kernel'
  assert plan.taken == ('conv1', 'conv2', 'dense', 'projection (4 of 6 classes, 2 of its 6 classes left out)')
  for pack in (0, 3):
    wanted = np.stack([fresh[key][:, pack], old[key][:, pack + 2], old[key][:, pack]], 1)
    np.testing.assert_array_equal(made[key][:, pack : pack + 3], wanted)


def test_classes_without_names_are_taken_by_number_and_new_ones_are_new():
  old_module, new = (D.clone(classes=n, condition='concat') for n in (2, 4))
  plan, old, fresh, made = taken(old_module, new, (('cat', 'dog'), ()))
  key = 'params.conv2.kernel'
  np.testing.assert_array_equal(made[key][:, :, :8], old[key])
  np.testing.assert_array_equal(made[key][:, :, 8:], fresh[key][:, :, 8:])
  assert 'conv2 (8 of 10 inputs)' in plan.taken
  other = D.clone(classes=2)
  plan, *_ = taken(other, other, (('cat', 'dog'), ('bird', 'fish')))
  assert plan.new == ('projection (32x2, was 32x2)',) and 'dense' in plan.taken


def _state(seed, ema):
  gan = gan_of((G, D), lenient(train_state.make_optimizer(1e-3)), Z)
  state = jax.jit(lambda: train_state.create(gan, seed, ema))()
  return dataclasses.replace(state, step=state.step + 7 * seed)


@pytest.mark.slow
@pytest.mark.parametrize(('ema', 'old_ema'), [(True, True), (True, False), (False, True), (False, False)])
def test_a_run_begins_with_networks_and_nothing_else(ema, old_ema):
  """Compares what is new bit for bit, and that no two arrays are one buffer, since the state is donated."""
  old, new = _state(1, old_ema), _state(0, ema)
  if old_ema:
    old = dataclasses.replace(old, ema=jax.tree.map(lambda x: x + 1, old.ema))
  whole = transfer.match(*[side(G, old.generator.variables)] * 2)
  d_plan = transfer.match(*[side(D, old.discriminator.variables)] * 2)
  made = jax.jit(lambda a, b: transfer.begin(a, b, whole, d_plan))(new, old)
  jax.tree.map(np.testing.assert_array_equal, made.generator.variables, old.generator.variables)
  jax.tree.map(np.testing.assert_array_equal, made.discriminator.variables, old.discriminator.variables)
  jax.tree.map(np.testing.assert_array_equal, made.generator.opt_state, new.generator.opt_state)
  np.testing.assert_array_equal(made.key, new.key)
  assert int(made.step) == 0
  if ema:
    wanted = old.ema if old_ema else old.generator.variables
    jax.tree.map(np.testing.assert_array_equal, made.ema, wanted)
  else:
    assert made.ema is None
  buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(made)]
  assert len(set(buffers)) == len(buffers)
