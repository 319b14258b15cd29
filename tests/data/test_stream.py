import contextlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT, TINY, assert_same_state, environment, succeed

from dcgan_jax import data
from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import open_folder
from dcgan_jax.data.stream import AHEAD, batches_mapped, batches_streamed


@pytest.fixture
def threads_end():
  """Waits for reads in flight when a stream is closed, which would print into the tests that follow."""
  others = {*threading.enumerate()}
  yield
  for thread in {*threading.enumerate()} - others:
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def whole(pictures_folder):
  """A source with readable images only."""
  (pictures_folder / 'truncated.png').unlink()
  return open_folder(pictures_folder, data.Fit((8, 8), 3))


def _streamed(source, images, *arguments, **named):
  return batches_streamed(source, *arguments, 0, **named)


def _mapped(source, images, *arguments, **named):
  return batches_mapped(images, *arguments, **named)


def _streamed_by_processes(source, images, *arguments, **named):
  return batches_streamed(source, *arguments, 2, **named)


@pytest.mark.slow
@pytest.mark.parametrize('rows', [None, slice(1, 3)])
@pytest.mark.parametrize('open_batches', [_mapped, _streamed, _streamed_by_processes])
def test_batches_are_those_of_memory(whole, open_batches, rows):
  """Reads across an epoch's end, from any step on."""
  images, _ = data.load(whole, 'folder')
  classes = np.arange(len(images), dtype=np.int32)
  with contextlib.closing(open_batches(whole, images, 3, 2, 3, rows=rows, classes=classes)) as batches:
    for step in range(2, 8):
      indices = batch_indices(3, step, 3, len(images))[rows or slice(None)]
      found, of_class = next(batches)
      np.testing.assert_array_equal(found, images[indices])
      np.testing.assert_array_equal(of_class, indices)
      assert found.dtype == np.uint8 and of_class.dtype == np.int32


def test_classes_follow_their_images(pictures_folder, threads_end):
  """Also if an unreadable image is replaced by the next one."""
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  classes = np.arange(len(source), dtype=np.int32)
  streamed = batches_streamed(source, 0, 0, len(source), 0, classes=classes)
  images, found = next(streamed)
  streamed.close()
  assert found.dtype == np.int32 and len(set(found)) == len(source) - 1
  for image, number in zip(images, found):
    np.testing.assert_array_equal(image, source.read([number])[0])


def test_streaming_replaces_what_cannot_be_decoded(pictures_folder, threads_end):
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  assert source.read([source.paths.index(pictures_folder / 'truncated.png')]) == [None]
  streamed = batches_streamed(source, seed=0, step=0, batch_size=len(source), workers=0)
  assert next(streamed)[0].shape == (9, 8, 8, 3)
  streamed.close()


@pytest.mark.slow(2)
def test_images_beyond_32_bits_are_gathered(tmp_path):
  """Maps a sparse file of 2.5 billion values with only the rows of two batches on disk."""
  count, shape = 203_000, (64, 64, 3)
  images = np.memmap(tmp_path / 'images', np.uint8, 'w+', shape=(count, *shape))
  wanted = np.concatenate([batch_indices(0, step, 64, count) for step in range(10**6, 10**6 + 2)])
  assert (wanted.astype(np.int64) * 64 * 64 * 3).max() > 2**31
  for row in wanted:
    images[row] = np.random.default_rng(row).integers(0, 256, shape, np.uint8)
  with contextlib.closing(batches_mapped(images, 0, 10**6, 64)) as batches:
    found = np.concatenate([next(batches)[0], next(batches)[0]])
  assert type(found) is np.ndarray
  for row, image in zip(wanted, found):
    np.testing.assert_array_equal(image, np.random.default_rng(row).integers(0, 256, shape, np.uint8))


def test_mapped_batches_are_new_arrays_and_their_threads_end(whole):
  """Lets a device read one batch while the next ones are gathered."""
  images, _ = data.load(whole, 'folder')
  before = threading.active_count()
  batches = batches_mapped(images, 0, 0, 2)
  made = [next(batches)[0] for _ in range(2 * AHEAD)]
  assert threading.active_count() > before
  batches.close()
  assert threading.active_count() == before
  assert not any(np.shares_memory(a, b) for a in made for b in [images, *made] if a is not b)


# What a user starts, on a machine that has room for the images neither on its disk nor in its memory.
NO_ROOM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import main
from dcgan_jax.data import cache

if __name__ == '__main__':
  cache.load_large = lambda *_: None
  sys.exit(main.main())
"""


@pytest.mark.slow
def test_a_run_that_decodes_in_processes_ends_as_one_from_the_disk(whole, tmp_path, tmp_path_factory):
  for name in ('empty.png', 'text.jpg'):  # They are left out on the disk, and processes read the next one.
    (tmp_path / name).unlink()
  runs = tmp_path_factory.mktemp('runs')
  arguments = [*TINY, f'--config.data.source=folder:{tmp_path}', '--config.data.memory_limit=0']
  arguments += ['--config.data.channels=3', '--config.train.batch_size=4', '--config.train.num_steps=8']
  (runs / 'no_room.py').write_text(NO_ROOM)
  command = [sys.executable, runs / 'no_room.py', *arguments, f'--workdir={runs / "streamed"}']
  command += ['--config.data.workers=2']
  done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'decoded again in every epoch, because the cache has no room for them' in done.stdout
  assert 'read from the disk as needed' in succeed(*arguments, f'--workdir={runs / "mapped"}')
  assert_same_state(runs / 'streamed', runs / 'mapped', 8)


class _Odd:
  """A hundred images, each of its own colour; the odd ones cannot be decoded."""

  def __len__(self):
    return 100

  def read(self, indices):
    return [None if i % 2 else np.full((1, 1, 1), i, np.uint8) for i in indices]

  def name(self, index):
    return str(index)


def test_no_held_out_image_takes_the_place_of_one_that_cannot_be_decoded(threads_end):
  """Holds out images 10, 30, 50, 70 and 90, each after one that cannot be decoded."""
  with contextlib.closing(batches_streamed(_Odd(), 0, 0, 95, 0, held_out=0.05)) as batches:
    found = next(batches)[0].ravel()
  assert {*found.tolist()} == {*range(0, 100, 2)} - {10, 30, 50, 70, 90}
