"""Images that users name: folders, pictures, arrays and data sets."""

import numpy as np
import pytest
from PIL import Image

from dcgan_jax import data
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import given

FIT = data.Fit((4, 6), 3)


def test_a_folder_is_made_to_fit_and_what_is_broken_is_left_out(pictures_folder, capsys):
  images, names = given.read(str(pictures_folder), FIT, 99)
  assert images.shape == (8, 4, 6, 3) and images.dtype == np.uint8
  assert names[0] == str(pictures_folder / 'a.png') and names[-1] == str(pictures_folder / 'whole.png')
  np.testing.assert_array_equal(images[0], FIT(Image.open(pictures_folder / 'a.png')))
  assert 'truncated.png' in capsys.readouterr().out
  first = given.read(str(pictures_folder), FIT, 2)
  np.testing.assert_array_equal(first.images, images[:2])
  assert first.names == names[:2]


def test_a_single_picture(pictures_folder):
  images, names = given.read(str(pictures_folder / 'b.JPG'), FIT, 9)
  assert images.shape == (1, 4, 6, 3) and names == [str(pictures_folder / 'b.JPG')]


def test_an_array(tmp_path):
  made = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
  np.savez_compressed(tmp_path / 'x.npz', x=made)
  images, names = given.read(str(tmp_path / 'x.npz'), FIT, 3)
  np.testing.assert_array_equal(images, made[:3])
  np.save(tmp_path / 'x.npy', made)
  np.testing.assert_array_equal(given.read(str(tmp_path / 'x.npy'), FIT, 3).images, made[:3])
  assert names == ['x.npz[0]', 'x.npz[1]', 'x.npz[2]']


def test_the_images_of_an_npz_are_those_that_a_run_would_learn(tmp_path):
  """Reads an .npz that a run learns from, whose first array has the classes."""
  made = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
  np.savez(tmp_path / 'both.npz', labels=np.arange(5), images=made)
  np.testing.assert_array_equal(given.read(str(tmp_path / 'both.npz'), FIT, 9).images, made)


def test_a_data_set(tfds_data):
  images, names = given.read('tfds:mnist', data.Fit((28, 28), 1), 3)
  assert images.shape == (3, 28, 28, 1) and len(set(names)) == 3
  other = given.read('tfds:mnist:train[5:]', data.Fit((28, 28), 1), 3)
  assert (other.images != images).any()


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    (
      'nothing',
      '^images=.*nothing: no such file or folder; give a folder, a picture, an .npy, an .npz or tfds:NAME$',
    ),
    ('empty.png', '^images=.*empty.png: none of 1 images can be decoded, e.g. .*empty.png$'),
    (
      'notes.txt',
      '^images=.*notes.txt: is not a folder, a picture, or an .npy or .npz of images: is no whole .npz',
    ),
    ('more/none', '^images=.*none: no readable image in 0 files'),
    (
      'gray.npz',
      r'gray.npz: uint8 \(2, 4, 6\); this run has uint8 \(N, \*\(4, 6, 3\)\)',
    ),
    ('none.npz', 'none.npz: has 0 images; 1 or more are needed'),
  ],
)
def test_what_cannot_be_read_is_one_line(pictures_folder, name, text):
  (pictures_folder / 'more' / 'none').mkdir()
  np.savez(pictures_folder / 'gray.npz', np.zeros((2, 4, 6), np.uint8))
  np.savez(pictures_folder / 'none.npz', np.zeros((0, 4, 6, 3), np.uint8))
  with pytest.raises(InputError, match=text) as error:
    given.read(str(pictures_folder / name), FIT, 9)
  assert '\n' not in str(error.value)
