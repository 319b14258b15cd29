import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gan_of, lenient
from jax.sharding import Mesh

from dcgan_jax import parallel, train_state
from dcgan_jax.accumulation import Examples
from dcgan_jax.losses import LOSSES
from dcgan_jax.train_step import Recipe, make_train_step


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 4])
def test_several_steps_in_one_program_are_those_steps(tiny, devices):
  """Gathers batches from the whole data set on the devices, or is given them, with the same metrics."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
  gan = gan_of(tiny, lenient(train_state.make_optimizer(1e-3)))
  step = make_train_step(gan, Recipe(LOSSES['hinge']), parallel.mesh_axis(mesh))
  run = parallel.compile_steps(step, mesh)
  create = jax.jit(lambda: train_state.create(gan, 0))
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8))
  indices = np.random.default_rng(1).integers(0, 20, (3, 8), np.int32)

  together, metrics = run(create(), parallel.Batches(Examples(images), indices))
  assert int(together.step) == 3 and metrics['loss_d'].shape == (3,)
  single = create()
  for i in range(3):
    single, values = run(single, parallel.Batches(None, Examples(images[indices[i]][None])))
    np.testing.assert_allclose(values['loss_d'][0], metrics['loss_d'][i], rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
    together.generator.params,
    single.generator.params,
  )


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
  batches = parallel.put_batches(mesh, None, np.arange(24).reshape(2, 12))
  assert batches.examples is None and batches.steps == 2 and batches.xs.shape == (2, 12)
  shards = sorted(batches.xs.addressable_shards, key=lambda shard: shard.device.id)
  np.testing.assert_array_equal([shard.data[0] for shard in shards], np.arange(12).reshape(4, 3))


def test_a_single_process_is_the_main_one_and_agrees_with_itself():
  values = {'a': np.arange(3), 'b': 4.0}
  assert parallel.is_main() and parallel.agreed(values) is values
  with parallel.main_first(), parallel.leaving_when_others_do():
    pass
  with pytest.raises(jax.errors.JaxRuntimeError), parallel.leaving_when_others_do():
    raise jax.errors.JaxRuntimeError('an error of this process alone')
