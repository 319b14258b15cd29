from functools import partial
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
from dcgan_jax.devices import placement, programs


@pytest.mark.slow
def test_several_steps_in_one_program_are_those_steps(tiny):
  """Takes batches from the whole data set on the devices, or is given them, with the same metrics."""
  mesh = Mesh(np.array(jax.devices()[:4]), (placement.AXIS,))
  gan = gan_of(tiny, lenient(train_state.make_optimizer(1e-3)))
  step = make_train_step(gan, Recipe(LOSSES['hinge']), placement.mesh_axis(mesh))
  looped = programs.train_program(step, mesh, (8, 8, 1), inner=1)
  run = programs.train_program(step, mesh, (8, 8, 1))
  create = jax.jit(lambda: train_state.create(gan, 0))
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
  rows = np.random.default_rng(1).integers(0, 20, (6, 8), np.int32)
  examples = placement.put_data_set(mesh, Examples(images))

  def batches(first, steps):
    window = placement.Window(rows[first:], np.array(first, np.int32))
    return placement.Batches(examples, placement.put_whole(mesh, window), np.int32(steps))

  together, sums, last = looped(create(), batches(0, 3))
  together, more, last = looped(together, batches(2, 2))  # of a later window, which begins before its step
  assert int(together.step) == 5
  single, losses = create(), []
  for i in range(5):
    batch = placement.put_batch(mesh, Examples(images[rows[i]])) if i % 2 else batches(i, 1)
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


@pytest.mark.parametrize('shape', [(1, 288), (1, 384), (3, 128)])
def test_a_step_finds_its_images_in_rows_of_any_shape(monkeypatch, shape):
  monkeypatch.setattr(placement, 'row_shape', lambda *_: shape)
  mesh = Mesh(np.array(jax.devices()[:2]), (placement.AXIS,))
  examples = Examples(
    np.random.default_rng(0).integers(0, 256, (7, 12, 8, 3), np.uint8), np.arange(7, dtype=np.int32)
  )
  rows = np.array([[6, 0, 3, 3], [1, 5, 2, 4]], np.int32)
  batches = placement.Batches(
    placement.put_data_set(mesh, examples), placement.Window(rows, np.array(10, np.int32))
  )
  assert batches.examples.images.shape == (7 * shape[0], shape[1])

  class State(NamedTuple):
    step: jax.Array

  def step(state, images, classes):
    together = partial(jax.lax.all_gather, axis_name=placement.AXIS, tiled=True)
    return state, {'images': together(images), 'classes': together(classes)}

  run = programs.train_program(step, mesh, (12, 8, 3))
  _, _, seen = run(State(jax.numpy.int32(11)), batches)
  np.testing.assert_array_equal(seen['images'], examples.images[rows[1]])
  np.testing.assert_array_equal(seen['classes'], rows[1])


@pytest.mark.parametrize('devices', [1, 3])
def test_rows_are_mapped_whatever_their_number(devices):
  """Maps rows over devices, in batches, of which the last are filled up with their own rows."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (placement.AXIS,))

  def function(scale, x):
    return {'double': scale * x, 'mean': jax.numpy.broadcast_to(x.mean(), x.shape)}

  mapped = programs.map_rows(function, mesh)
  for count in (1, 4, 5, 12, 13, 30):
    rows = np.arange(count, dtype=np.float32)
    got = mapped(np.float32(2), rows, 4)
    np.testing.assert_array_equal(got['double'], 2 * rows)
    batches = [np.resize(rows[i : i + 4], 4).mean() for i in range(0, count, 4)]
    np.testing.assert_allclose(got['mean'], np.repeat(batches, 4)[:count])
