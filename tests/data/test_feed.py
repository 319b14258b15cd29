import contextlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dcgan_jax import data
from dcgan_jax.data import cache
from dcgan_jax.data.feed import HUNDRED, Feed
from dcgan_jax.data.order import batch_indices, training
from dcgan_jax.data.sources import Digits, open_folder
from dcgan_jax.devices import placement

SOURCE = Digits(data.Fit((8, 8), 1))


@pytest.fixture(scope='module')
def images():
  return data.load(SOURCE, 'digits')[0]


@pytest.fixture
def without_room(monkeypatch):
  """Leaves no room for decoded images on disk or in memory."""
  monkeypatch.setattr(cache, 'load_large', lambda source, title: None)


def _mesh(devices):
  return Mesh(np.array(jax.devices()[:devices]), (placement.AXIS,))


def _images(feed, mesh, step, num_steps, most=1):
  """Returns the images of the steps of each round, [steps, batch, H, W, C]."""
  found = []
  with contextlib.closing(feed.rounds(mesh, step, lambda step: most)) as rounds:
    for batches, count in rounds:
      if batches.window is None:
        assert count == 1
        found.append(np.asarray(batches.examples.images)[None])
      else:
        first = step + sum(map(len, found)) - int(batches.window.first)
        rows = np.asarray(batches.window.rows)[first : first + count]
        found.append(
          np.asarray(batches.examples.images)[rows].reshape(count, -1, 8, 8, feed.source.fit.channels)
        )
      if step + sum(map(len, found)) >= num_steps:
        return found


@pytest.mark.parametrize('devices', [1, 4])
@pytest.mark.parametrize(
  ('memory_limit', 'fixture', 'said'),
  [
    (4096, 'images', ''),
    (0, 'images', 'are more than data.memory_limit=0 MiB, so they are read from the disk as needed\n'),
    (0, 'without_room', 'so they are decoded again in every epoch, because the cache has no room for them\n'),
  ],
  ids=['resident', 'mapped', 'streamed'],
)
def test_batches_are_those_of_their_steps(images, devices, memory_limit, fixture, said, request, capsys):
  """Takes steps 448 to 451, across the end of an epoch, in each way, on any number of devices."""
  request.getfixturevalue(fixture)
  feed = Feed(SOURCE, 'digits', seed=3, batch_size=4, memory_limit=memory_limit)
  for step, found in enumerate(_images(feed, _mesh(devices), 448, 452), 448):
    np.testing.assert_array_equal(found[0], images[batch_indices(3, step, 4, len(images))])
  printed = capsys.readouterr().out
  assert printed.startswith('images: 0.1 MiB decoded ') and printed.endswith(said) if said else not printed


@pytest.mark.parametrize('devices', [1, 4])
@pytest.mark.parametrize(
  ('memory_limit', 'fixture'),
  [(4096, 'images'), (0, 'images'), (0, 'without_room')],
  ids=['resident', 'mapped', 'streamed'],
)
def test_held_out_images_are_in_no_batch(images, devices, memory_limit, fixture, request):
  """Takes steps across the end of an epoch of 1,707 images in each way."""
  request.getfixturevalue(fixture)
  trained = images[training(len(images), 0.05)]
  assert len(trained) == 1797 - 90
  feed = Feed(SOURCE, 'digits', seed=3, batch_size=4, memory_limit=memory_limit, held_out=0.05)
  for step, found in enumerate(_images(feed, _mesh(devices), 425, 429), 425):
    np.testing.assert_array_equal(found[0], trained[batch_indices(3, step, 4, len(trained))])


@pytest.mark.parametrize(('held_out', 'steps'), [(0.0, 2 * HUNDRED), (0.4, HUNDRED)])
def test_the_order_on_the_devices_is_that_of_an_epoch(held_out, steps):
  """Takes 1,797 and 1,297 images, which are 139 and 100 batches of 13."""
  feed = Feed(SOURCE, 'digits', seed=0, batch_size=13, held_out=held_out)
  with contextlib.closing(feed.rounds(_mesh(1), 0, lambda step: 1)) as rounds:
    assert next(rounds).batches.window.rows.shape == (steps, 13)


@pytest.mark.parametrize(('batch_size', 'steps'), [(4, 5 * HUNDRED), (500, HUNDRED)])
def test_programs_end_where_the_order_on_the_devices_ends(images, batch_size, steps):
  """Passes the end of an order of 500 or 100 steps, starting in the middle."""
  begin = 2 * steps - 9
  found = _images(Feed(SOURCE, 'digits', seed=3, batch_size=batch_size), _mesh(1), begin, begin + 17, most=6)
  assert [len(batches) for batches in found] == [6, 3, 6, 6]
  for step, batch in enumerate(np.concatenate(found), begin):
    np.testing.assert_array_equal(batch, images[batch_indices(3, step, batch_size, len(images))])


def test_the_same_images_are_left_out_in_memory_and_on_the_disk(pictures_folder):
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  kept, mapped = (
    _images(Feed(source, 'folder', seed=1, batch_size=3, memory_limit=limit), _mesh(1), 0, 7)
    for limit in (4096, 0)
  )
  assert len(cache.load(source, 'folder')) == len(source) - 1
  np.testing.assert_array_equal(kept, mapped)


def test_classes_of_mapped_images_are_their_own(pictures_folder):
  """Has a class for each file, including the unreadable one."""
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  classes = np.arange(len(source), dtype=np.int32)
  feed = Feed(source, 'folder', seed=1, batch_size=4, memory_limit=0, classes=classes)
  with contextlib.closing(feed.rounds(_mesh(4), 0, lambda step: 1)) as rounds:
    for _ in range(6):
      found = next(rounds).batches.examples
      for image, number in zip(np.asarray(found.images), np.asarray(found.classes)):
        np.testing.assert_array_equal(image, source.read([number])[0])


def test_images_that_only_memory_has_room_for_stay_there(images, monkeypatch, capsys, tmp_path):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'file'))
  (tmp_path / 'file').touch()
  feed = Feed(SOURCE, 'digits', seed=3, batch_size=4, memory_limit=0)
  for step, found in enumerate(_images(feed, _mesh(1), 0, 3)):
    np.testing.assert_array_equal(found[0], images[batch_indices(3, step, 4, len(images))])
  printed = capsys.readouterr().out
  assert 'not kept for the next start' in printed and 'read from memory as needed' in printed
