import contextlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dcgan_jax import data, parallel
from dcgan_jax.data.feed import LEAST_STEPS, Feed
from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import Digits

SOURCE = Digits(data.Fit((8, 8), 1))


@pytest.fixture(scope='module')
def images():
  return data.load(SOURCE, 'digits')[0]


def _images(feed, mesh, step, num_steps, most=1):
  """Returns for each program the images of its steps, [steps, batch, H, W, C]."""
  found = []
  with contextlib.closing(feed.blocks(mesh, step, lambda step: most)) as blocks:
    for batches, count in blocks:
      if batches.window is None:
        assert count == 1
        found.append(np.asarray(batches.examples.images)[None])
      else:
        first = step + sum(map(len, found)) - int(batches.window.first)
        rows = np.asarray(batches.window.rows)[first : first + count]
        found.append(np.asarray(batches.examples.images)[rows].reshape(count, -1, 8, 8, 1))
      if step + sum(map(len, found)) >= num_steps:
        return found


@pytest.mark.parametrize('devices', [1, 4])
@pytest.mark.parametrize('memory_limit', [4096, 0])
def test_batches_are_those_of_their_steps(images, devices, memory_limit):
  """Takes steps 448 to 451, across the end of an epoch, from memory or streamed, on any number of devices."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
  feed = Feed(SOURCE, 'digits', seed=3, batch_size=4, memory_limit=memory_limit)
  for step, found in enumerate(_images(feed, mesh, 448, 452), 448):
    np.testing.assert_array_equal(found[0], images[batch_indices(3, step, 4, len(images))])


@pytest.mark.parametrize(('batch_size', 'steps'), [(4, 449), (500, LEAST_STEPS)])
def test_programs_end_where_the_order_on_the_devices_ends(images, batch_size, steps):
  """Goes past the end of a window, of an epoch or of a hundred steps, from a step in the middle."""
  mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
  begin = 2 * steps - 9
  found = _images(Feed(SOURCE, 'digits', seed=3, batch_size=batch_size), mesh, begin, begin + 17, most=6)
  assert [len(batches) for batches in found] == [6, 3, 6, 6]
  for step, batch in enumerate(np.concatenate(found), begin):
    np.testing.assert_array_equal(batch, images[batch_indices(3, step, batch_size, len(images))])
