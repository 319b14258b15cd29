import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcgan_jax import images


def test_to_uint8_inverts_the_normalisation():
  every = np.arange(256)
  np.testing.assert_array_equal(images.to_uint8(jnp.asarray(every.astype(np.float32) / 127.5 - 1)), every)
  np.testing.assert_array_equal(images.to_uint8(jnp.float32([-3.0, 3.0])), [0, 255])


@given(count=st.integers(1, 12), height=st.integers(1, 4), width=st.integers(1, 4), gap=st.integers(0, 2))
def test_grid_places_every_image(count, height, width, gap):
  made = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
  sheet = images.grid(made, gap=gap)
  columns = (sheet.shape[1] - gap) // (width + gap)
  assert columns == int(np.ceil(np.sqrt(count)))
  for i, image in enumerate(made):
    top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
    np.testing.assert_array_equal(sheet[top : top + height, left : left + width], image)
  assert sheet.shape[0] == -(-count // columns) * (height + gap) + gap


def test_zoom_keeps_pixels_square():
  small = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
  large = images.zoom(small, 9)
  assert large.shape == (6, 9, 1)
  np.testing.assert_array_equal(large[::3, ::3], small)


@pytest.mark.parametrize('channels', [1, 3])
def test_png_and_gif(tmp_path, channels):
  frames = []
  for i in range(5):
    frames.append(tmp_path / f'{i}.png')
    side = 4 if i == 0 else 8  # the run went on with more samples
    images.save_png(frames[-1], np.full((side, side, channels), 50 * i, np.uint8))
  np.testing.assert_array_equal(np.asarray(Image.open(frames[3])), 150)
  images.save_gif(tmp_path / 'all.gif', frames)
  images.save_gif(tmp_path / 'some.gif', frames, most=3)
  with Image.open(tmp_path / 'all.gif') as gif, Image.open(tmp_path / 'some.gif') as thinned:
    assert (gif.n_frames, thinned.n_frames) == (5, 3) and gif.info['loop'] == 0
    assert gif.size == (8, 8)
    for picture, value in ((gif, 200), (thinned, 200)):
      picture.seek(picture.n_frames - 1)
      np.testing.assert_allclose(np.asarray(picture.convert('L')), value, atol=2)
  assert not list(tmp_path.glob('*.part'))
