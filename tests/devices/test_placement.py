from types import SimpleNamespace

import jax
import numpy as np
from jax.sharding import Mesh

from dcgan_jax.core.accumulation import Examples
from dcgan_jax.devices import placement


def test_images_on_a_tpu_fill_their_rows_and_have_none_that_is_too_long():
  tpu = SimpleNamespace(devices=np.array([SimpleNamespace(platform='tpu')]))
  assert placement.row_shape(tpu, 28 * 28) == (1, 7 * 128)
  assert placement.row_shape(tpu, 64 * 64 * 3) == (1, 64 * 64 * 3)
  assert placement.row_shape(tpu, 256 * 256 * 3) == (12, 2**14)
  assert placement.row_shape(tpu, 100 * 100 * 3) == (2, 118 * 128)
  assert placement.row_shape(placement.mesh(), 100 * 100 * 3) == (1, 100 * 100 * 3)


def test_rows_of_a_batch_are_those_of_its_devices():
  mesh = placement.mesh()
  assert mesh.size == 4 and placement.mesh_axis(mesh) == placement.AXIS
  assert placement.own_rows(mesh, 12) == slice(0, 12)  # One process has all devices.
  alone = Mesh(np.array(jax.devices()[:1]), (placement.AXIS,))
  assert placement.mesh_axis(alone) is None
  batches = placement.put_batch(mesh, Examples(np.arange(12)))
  assert batches.window is None and batches.steps == 1
  shards = sorted(batches.examples.images.addressable_shards, key=lambda shard: shard.device.id)
  np.testing.assert_array_equal([shard.data for shard in shards], np.arange(12).reshape(4, 3))
