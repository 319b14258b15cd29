import numpy as np
import pytest

from dcgan_jax import data
from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import open_folder
from dcgan_jax.data.stream import batches_streamed


@pytest.mark.parametrize('workers', [0, 2])
def test_streaming_gives_the_batches_of_memory(pictures_folder, workers):
  """Streams across an epoch's end, from any step on."""
  (pictures_folder / 'truncated.png').unlink()
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  images, _ = data.load(source, 'folder')
  streamed = batches_streamed(source, seed=3, step=2, batch_size=3, workers=workers)
  for step in range(2, 6):
    np.testing.assert_array_equal(images[batch_indices(3, step, 3, len(images))], next(streamed)[0])
  streamed.close()


def test_classes_follow_their_images(pictures_folder):
  """Also when an image that cannot be decoded is replaced by the next one."""
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  classes = np.arange(len(source), dtype=np.int32)
  streamed = batches_streamed(source, 0, 0, len(source), 0, classes=classes)
  images, found = next(streamed)
  streamed.close()
  assert found.dtype == np.int32 and len(set(found)) == len(source) - 1
  for image, number in zip(images, found):
    np.testing.assert_array_equal(image, source.read([number])[0])


def test_streaming_replaces_what_cannot_be_decoded(pictures_folder):
  source = open_folder(pictures_folder, data.Fit((8, 8), 3))
  assert source.read([source.paths.index(pictures_folder / 'truncated.png')]) == [None]
  streamed = batches_streamed(source, seed=0, step=0, batch_size=len(source), workers=0)
  assert next(streamed)[0].shape == (9, 8, 8, 3)
  streamed.close()
