import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcgan_jax import data
from dcgan_jax.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _three_bands(width=30, height=10):
  """Red, green and blue from left to right."""
  bands = np.zeros((height, width, 3), np.uint8)
  for i, color in enumerate((RED, GREEN, BLUE)):
    bands[:, i * width // 3 : (i + 1) * width // 3] = color
  return Image.fromarray(bands)


def test_crop_keeps_the_centre_and_squash_everything():
  crop = data.Fit((4, 4), 3, 'crop')(_three_bands())
  assert crop.shape == (4, 4, 3) and (crop == GREEN).all()
  squash = data.Fit((4, 6), 3, 'squash')(_three_bands())
  assert (squash[:, 0] == RED).all() and (squash[:, -1] == BLUE).all()
  tall = data.Fit((4, 4), 3, 'crop')(_three_bands().rotate(90, expand=True))
  assert (tall == GREEN).all()
  wide = data.Fit((2, 6), 3, 'crop')(_three_bands())  # already of the shape 1:3
  assert (wide[:, 0] == RED).all() and (wide[:, 5] == BLUE).all()


def test_resize_is_anti_aliased():
  stripes = np.zeros((64, 64), np.uint8)
  stripes[:, ::2] = 255
  small = data.Fit((8, 8), 1)(Image.fromarray(stripes))
  assert np.abs(small.astype(int) - 127).max() < 20  # sampling without averaging gives 0 or 255


def test_alpha_palette_gray_cmyk_and_16_bits():
  fit = data.Fit((2, 2), 3, background=(0, 255, 0))
  clear = Image.new('RGBA', (2, 2), (255, 0, 0, 0))
  assert (fit(clear) == GREEN).all()
  half = Image.new('RGBA', (2, 2), (255, 0, 0, 128))
  np.testing.assert_allclose(fit(half)[0, 0], (128, 127, 0), atol=1)
  palette = Image.new('P', (2, 2), 1)
  palette.putpalette([0, 0, 0, 0, 0, 255])
  assert (fit(palette) == BLUE).all()
  palette.info['transparency'] = 1
  assert (fit(palette) == GREEN).all()
  assert (fit(Image.new('L', (2, 2), 77)) == 77).all()
  assert (fit(Image.new('LA', (2, 2), (77, 0))) == GREEN).all()
  assert (fit(Image.new('CMYK', (2, 2), (0, 255, 255, 0))) == RED).all()
  sixteen = Image.fromarray(np.full((2, 2), 0x80FF, np.uint16))
  assert (fit(sixteen) == 0x80).all()
  assert (fit(Image.new('1', (2, 2), 1)) == 255).all()
  gray = data.Fit((2, 2), 1)(Image.new('RGB', (2, 2), GREEN))
  assert gray.shape == (2, 2, 1) and (gray == 150).all()  # luma 0.587


def test_exif_rotation(tmp_path):
  exif = Image.Exif()
  exif[274] = 3  # upside down
  _three_bands().save(tmp_path / 'turned.png', exif=exif)
  source = data.open_folder(tmp_path, data.Fit((4, 6), 3, 'squash'))
  image = source.read([0])[0]
  assert (image[:, 0] == BLUE).all() and (image[:, -1] == RED).all()


@pytest.fixture
def folder(tmp_path):
  """A folder as people have them."""
  inner = tmp_path / 'more' / 'inside'
  inner.mkdir(parents=True)
  rgb = _three_bands()
  rgb.save(tmp_path / 'a.png')
  rgb.save(tmp_path / 'b.JPG')
  rgb.save(inner / 'c.webp')
  rgb.save(inner / 'd.bmp')
  rgb.save(tmp_path / 'e.gif', save_all=True, append_images=[Image.new('RGB', rgb.size)])
  rgb.convert('CMYK').save(tmp_path / 'f.jpeg')
  Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / 'g.png')
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  Image.fromarray(noise).save(tmp_path / 'whole.png')
  (tmp_path / 'truncated.png').write_bytes((tmp_path / 'whole.png').read_bytes()[:3000])
  (tmp_path / 'text.jpg').write_text('no image')
  (tmp_path / 'notes.txt').write_text('no image')
  (tmp_path / 'empty.png').write_bytes(b'')
  return tmp_path


def test_folder_names_what_it_skips(folder, capfd):
  source = data.open_source(f'folder:{folder}', 'train', data.Fit((8, 8), 3))
  images, skipped = data.load(source, 'folder')
  assert [name.rsplit('/', 1)[1] for name in skipped] == ['truncated.png']
  printed = capfd.readouterr().out
  assert images.shape == (8, 8, 8, 3) and images.dtype == np.uint8
  assert 'notes.txt' in printed and 'text.jpg' in printed and 'empty.png' in printed
  assert 'skipped 2 unreadable' in printed and 'skipped 1 unreadable' in printed
  assert 'truncated.png' in printed.splitlines()[-1]
  green = [np.abs(image.astype(int) - GREEN).max() < 90 for image in images]
  assert sum(green) == 6  # every format of the bands; JPEG and CMYK are near


def test_folder_without_images(tmp_path):
  fit = data.Fit((8, 8), 3)
  with pytest.raises(InputError, match='no such folder'):
    data.open_source(f'folder:{tmp_path}/missing', 'train', fit)
  with pytest.raises(InputError, match='no readable image among its 0 files'):
    data.open_source(f'folder:{tmp_path}', 'train', fit)
  (tmp_path / 'x.png').write_text('no image')
  with pytest.raises(InputError, match='no readable image among its 1 files'):
    data.open_source(f'folder:{tmp_path}', 'train', fit)
  _three_bands().save(tmp_path / 'x.png')
  whole = (tmp_path / 'x.png').read_bytes()
  (tmp_path / 'x.png').write_bytes(whole[:50])  # a good header, no pixels
  with pytest.raises(InputError, match='none of its 1 images can be decoded'):
    data.load(data.open_source(f'folder:{tmp_path}', 'train', fit), 'folder')


def test_digits():
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((16, 16), 1)), 'digits')
  assert images.shape == (1797, 16, 16, 1) and images.min() == 0 and images.max() > 200
  with pytest.raises(InputError, match='gray'):
    data.open_source('digits', 'train', data.Fit((16, 16), 3))
  with pytest.raises(InputError, match='choose digits'):
    data.open_source('mnist', 'train', data.Fit((16, 16), 1))


@given(
  seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), size=st.integers(1, 30), step=st.integers(0, 9)
)
def test_every_epoch_has_every_image_once(seed, count, size, step):
  """And any step's batch can be had without the ones before."""
  stream = np.concatenate([data.batch_indices(seed, s, size, count) for s in range(step + 1)])
  for start in range(0, len(stream) - count + 1, count):
    assert sorted(stream[start : start + count]) == list(range(count))
  np.testing.assert_array_equal(stream[step * size :], data.batch_indices(seed, step, size, count))


def test_epochs_and_seeds_differ():
  orders = {tuple(data.epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
  assert len(orders) == 9


@pytest.mark.parametrize('workers', [0, 2])
def test_streaming_gives_the_batches_of_memory(folder, workers):
  """Across an epoch's end, started at any step; an undecodable image is replaced by its neighbour."""
  (folder / 'truncated.png').unlink()
  source = data.open_folder(folder, data.Fit((8, 8), 3))
  images, _ = data.load(source, 'folder')
  streamed = data.batches_streamed(source, seed=3, step=2, batch_size=3, workers=workers)
  for step in range(2, 6):
    np.testing.assert_array_equal(images[data.batch_indices(3, step, 3, len(images))], next(streamed))
  streamed.close()


def test_streaming_replaces_what_cannot_be_decoded(folder):
  source = data.open_folder(folder, data.Fit((8, 8), 3))
  assert source.read([source.paths.index(folder / 'truncated.png')]) == [None]
  streamed = data.batches_streamed(source, seed=0, step=0, batch_size=len(source), workers=0)
  assert next(streamed).shape == (9, 8, 8, 3)
  streamed.close()


def test_tfds_errors(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  for name, channels, text in (
    ('mnst', 1, 'did you mean mnist'),
    ('imdb_reviews', 1, 'no images'),
    ('mnist/nonsense', 1, 'nonsense'),
    ('mnist', 3, 'gray'),
  ):
    with pytest.raises(InputError, match=text) as error:
      data.open_source(f'tfds:{name}', 'train', data.Fit((28, 28), channels))
    assert '\n' not in str(error.value)


def test_tfds_without_tensorflow_says_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  with pytest.raises(InputError, match='pip install tensorflow'):
    data.open_source('tfds:mnist', 'train', data.Fit((28, 28), 1))


def test_real_mnist_without_tensorflow(tfds_data):
  source = data.open_source('tfds:mnist', 'train[:300]', data.Fit((28, 28), 1))
  images, _ = data.load(source, 'mnist')
  assert images.shape == (300, 28, 28, 1) and images.max() == 255
  assert 25 < images.mean() < 40  # MNIST's mean is 33.3
  with pytest.raises(InputError, match='mnist has'):
    data.open_source('tfds:mnist', 'nonsense', data.Fit((28, 28), 1))
