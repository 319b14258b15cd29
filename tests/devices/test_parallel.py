from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from conftest import gan_of, lenient
from jax.sharding import Mesh

from dcgan_jax.core import train_state
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.devices import parallel
from dcgan_jax.errors import InputError


@pytest.mark.parametrize(
  ('platforms', 'error', 'text'),
  [
    (
      'cuda',
      AssertionError(),
      'JAX_PLATFORMS=cuda: JAX finds no such device here (it does not say why); choose cpu',
    ),
    (
      'x',
      RuntimeError("Backend 'x'\nis not known. (set it)"),
      "JAX_PLATFORMS=x: JAX finds no such device here (Backend 'x' is not known.); choose cpu",
    ),
    (
      None,
      RuntimeError('no driver'),
      'JAX_PLATFORMS=: JAX finds no such device here (no driver); choose cpu',
    ),
  ],
)
def test_devices_that_are_not_there_are_one_line(monkeypatch, platforms, error, text):
  def fail():
    raise error

  monkeypatch.setattr(
    parallel, 'jax', SimpleNamespace(devices=fail, config=SimpleNamespace(jax_platforms=platforms))
  )
  with pytest.raises(InputError) as raised:
    parallel.all_devices()
  assert str(raised.value).startswith(text) and '\n' not in str(raised.value)


@pytest.mark.slow
def test_several_steps_in_one_program_are_those_steps(tiny):
  """Takes batches from the whole data set on the devices, or is given them, with the same metrics."""
  mesh = Mesh(np.array(jax.devices()[:4]), (parallel.AXIS,))
  gan = gan_of(tiny, lenient(train_state.make_optimizer(1e-3)))
  step = make_train_step(gan, Recipe(LOSSES['hinge']), parallel.mesh_axis(mesh))
  looped = parallel.compile_steps(step, mesh, (8, 8, 1), loop=1)
  run = parallel.compile_steps(step, mesh, (8, 8, 1))
  create = jax.jit(lambda: train_state.create(gan, 0))
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
  rows = np.random.default_rng(1).integers(0, 20, (6, 8), np.int32)
  examples = parallel.put_data_set(mesh, Examples(images))

  def batches(first, steps):
    window = parallel.Window(rows[first:], np.array(first, np.int32))
    return parallel.Batches(examples, parallel.put_whole(mesh, window), np.int32(steps))

  together, sums, last = looped(create(), batches(0, 3))
  together, more, last = looped(together, batches(2, 2))  # of a later window, which begins before its step
  assert int(together.step) == 5
  single, losses = create(), []
  for i in range(5):
    batch = parallel.put_batch(mesh, Examples(images[rows[i]])) if i % 2 else batches(i, 1)
    single, _, values = run(single, batch)
    losses.append(float(values['loss_d']))
  np.testing.assert_allclose(sums['loss_d'], sum(losses[:3]), rtol=1e-4)
  np.testing.assert_allclose(more['loss_d'], sum(losses[3:]), rtol=1e-4)
  np.testing.assert_allclose(last['loss_d'], losses[4], rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
    together.generator.params,
    single.generator.params,
  )


def test_images_on_a_tpu_fill_their_rows_and_have_none_that_is_too_long():
  tpu = SimpleNamespace(devices=np.array([SimpleNamespace(platform='tpu')]))
  assert parallel.row_shape(tpu, 28 * 28) == (1, 7 * 128)
  assert parallel.row_shape(tpu, 64 * 64 * 3) == (1, 64 * 64 * 3)
  assert parallel.row_shape(tpu, 256 * 256 * 3) == (12, 2**14)
  assert parallel.row_shape(tpu, 100 * 100 * 3) == (2, 118 * 128)
  assert parallel.row_shape(parallel.all_devices(), 100 * 100 * 3) == (1, 100 * 100 * 3)


@pytest.mark.parametrize('shape', [(1, 288), (1, 384), (3, 128)])
def test_a_step_finds_its_images_in_rows_of_any_shape(monkeypatch, shape):
  monkeypatch.setattr(parallel, 'row_shape', lambda *_: shape)
  mesh = Mesh(np.array(jax.devices()[:2]), (parallel.AXIS,))
  examples = Examples(
    np.random.default_rng(0).integers(0, 256, (7, 12, 8, 3), np.uint8), np.arange(7, dtype=np.int32)
  )
  rows = np.array([[6, 0, 3, 3], [1, 5, 2, 4]], np.int32)
  batches = parallel.Batches(
    parallel.put_data_set(mesh, examples), parallel.Window(rows, np.array(10, np.int32))
  )
  assert batches.examples.images.shape == (7 * shape[0], shape[1])

  class State(NamedTuple):
    step: jax.Array

  def step(state, images, classes):
    together = partial(jax.lax.all_gather, axis_name=parallel.AXIS, tiled=True)
    return state, {'images': together(images), 'classes': together(classes)}

  run = parallel.compile_steps(step, mesh, (12, 8, 3))
  _, _, seen = run(State(jax.numpy.int32(11)), batches)
  np.testing.assert_array_equal(seen['images'], examples.images[rows[1]])
  np.testing.assert_array_equal(seen['classes'], rows[1])


@pytest.mark.parametrize('devices', [1, 3])
def test_rows_are_mapped_whatever_their_number(devices):
  """Maps rows over devices, in batches, of which the last are filled up with their own rows."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))

  def function(scale, x):
    return {'double': scale * x, 'mean': jax.numpy.broadcast_to(x.mean(), x.shape)}

  mapped = parallel.map_rows(function, mesh)
  for count in (1, 4, 5, 12, 13, 30):
    rows = np.arange(count, dtype=np.float32)
    got = mapped(np.float32(2), rows, 4)
    np.testing.assert_array_equal(got['double'], 2 * rows)
    batches = [np.resize(rows[i : i + 4], 4).mean() for i in range(0, count, 4)]
    np.testing.assert_allclose(got['mean'], np.repeat(batches, 4)[:count])


def test_rows_of_a_batch_are_those_of_its_devices():
  mesh = parallel.all_devices()
  assert mesh.size == 4 and parallel.mesh_axis(mesh) == parallel.AXIS
  assert parallel.own_rows(mesh, 12) == slice(0, 12)  # One process has all devices.
  alone = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
  assert parallel.mesh_axis(alone) is None
  batches = parallel.put_batch(mesh, Examples(np.arange(12)))
  assert batches.window is None and batches.steps == 1
  shards = sorted(batches.examples.images.addressable_shards, key=lambda shard: shard.device.id)
  np.testing.assert_array_equal([shard.data for shard in shards], np.arange(12).reshape(4, 3))


def test_a_single_process_is_the_main_one_and_agrees_with_itself():
  values = {'a': np.arange(3), 'b': 4.0}
  assert parallel.is_main() and parallel.agreed(values) is values
  with parallel.main_first(), parallel.leaving_when_others_do():
    pass
  with pytest.raises(jax.errors.JaxRuntimeError), parallel.leaving_when_others_do():
    raise jax.errors.JaxRuntimeError('an error of this process alone')
