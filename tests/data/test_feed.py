import contextlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dcgan_jax import data, parallel
from dcgan_jax.data.feed import Feed
from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import Digits

SOURCE = Digits(data.Fit((8, 8), 1))


@pytest.fixture(scope='module')
def images():
  return data.load(SOURCE, 'digits')[0]


def _batches(feed, mesh, step, num_steps):
  """Returns for each program the images of its steps, [steps, batch, H, W, C]."""
  found = []
  with contextlib.closing(feed.batches(mesh, step, num_steps)) as batches:
    for made in batches:
      resident = made.examples is not None
      found.append(np.asarray(made.examples.images)[made.xs] if resident else np.asarray(made.xs.images))
      if step + sum(map(len, found)) >= num_steps:
        return found


@pytest.mark.parametrize('devices', [1, 4])
@pytest.mark.parametrize('memory_limit', [4096, 0])
def test_batches_are_those_of_their_steps(images, devices, memory_limit):
  """Takes steps 448 to 451, across the end of an epoch, from memory or streamed, on any number of devices."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
  feed = Feed(SOURCE, 'digits', seed=3, batch_size=4, memory_limit=memory_limit)
  for step, found in enumerate(_batches(feed, mesh, 448, 452), 448):
    np.testing.assert_array_equal(found[0], images[batch_indices(3, step, 4, len(images))])


def test_programs_of_several_steps_are_in_blocks(images):
  """Leads to the first block, and on from the last one, by single steps."""
  mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
  found = _batches(Feed(SOURCE, 'digits', seed=3, batch_size=4, together=5), mesh, 3, 17)
  assert [len(batches) for batches in found] == [1, 1, 5, 5, 1, 1]
  for step, batch in enumerate(np.concatenate(found), 3):
    np.testing.assert_array_equal(batch, images[batch_indices(3, step, 4, len(images))])
