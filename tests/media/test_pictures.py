import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import fuzz_inputs
from dcgan_jax.core import pixels
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures


@given(count=st.integers(1, 12), height=st.integers(1, 4), width=st.integers(1, 4), gap=st.integers(0, 2))
def test_grid_places_every_image(count, height, width, gap):
  made = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
  sheet = pictures.grid(made, gap=gap)
  columns = (sheet.shape[1] - gap) // (width + gap)
  assert columns == int(np.ceil(np.sqrt(count)))
  for i, image in enumerate(made):
    top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
    np.testing.assert_array_equal(sheet[top : top + height, left : left + width], image)
  assert sheet.shape[0] == -(-count // columns) * (height + gap) + gap


@pytest.mark.parametrize('channels', [1, 3])
def test_gray_and_colour_are_drawn_as_they_are(channels):
  images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, channels), np.uint8)
  assert pictures.drawable(images) is images


def test_transparent_images_are_drawn_on_a_checkered_ground():
  images = np.zeros((1, 8, 8, 4), np.uint8)
  images[0, 0] = (200, 100, 0, 255)
  images[0, 7] = (200, 100, 0, 51)
  drawn = pictures.drawable(images, pixels.Pixels(transparent=True))
  assert drawn.shape == (1, 8, 8, 3) and drawn.dtype == np.uint8
  assert (drawn[0, 0] == (200, 100, 0)).all()
  ground = drawn[0, 1:7]
  assert (ground[:3, :4] == 255).all() and (ground[:3, 4:] == 204).all()
  assert (ground[3:, :4] == 204).all() and (ground[3:, 4:] == 255).all()
  assert (drawn[0, 7, :4] == (203, 183, 163)).all()  # a fifth of it, the rest 204


@pytest.mark.parametrize(('channels', 'rows', 'columns'), [(2, 1, 2), (5, 2, 3), (4, 2, 2), (64, 8, 8)])
def test_channels_that_are_no_colours_stand_side_by_side(channels, rows, columns):
  images = np.random.default_rng(0).integers(0, 65_536, (3, 4, 6, channels), np.uint16)
  numbers = pixels.of('uint16')
  drawn = pictures.drawable(images, numbers)
  assert drawn.shape == (3, rows * 5 - 1, columns * 7 - 1, 1) and drawn.dtype == np.uint8
  for i in range(channels):
    top, left = i // columns * 5, i % columns * 7
    np.testing.assert_array_equal(
      drawn[:, top : top + 4, left : left + 6, 0], numbers.in_eight_bits(images[..., i])
    )
  assert (drawn[:, :, 6] == 0).all() and (drawn[:, 4::5] == 0).all()
  if channels == 5:
    assert (drawn[:, 5:, 14:] == 255).all()  # There is no sixth.


def test_zoom_keeps_pixels_square():
  small = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
  large = pictures.zoom(small, 9)
  assert large.shape == (6, 9, 1)
  np.testing.assert_array_equal(large[::3, ::3], small)


def test_zoom_of_many_is_that_of_each():
  small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
  np.testing.assert_array_equal(pictures.zoom(small, 9), [pictures.zoom(image, 9) for image in small])


def _ink(picture):
  """Returns the first and last row, and the first and last column, that are not white."""
  dark = (picture < 128).any(2)
  rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
  return rows[0], rows[-1], columns[0], columns[-1]


def test_text_is_in_the_middle_and_within():
  top, bottom, left, right = _ink(pictures.text('88', 20, 60, 3))
  assert abs(top + bottom - 19) <= 4 and abs(left + right - 59) <= 3 and 6 <= bottom - top <= 12
  long = pictures.text('T-shirt/top', 20, 40, 1)
  assert long.shape == (20, 40, 1) and (long[:, [0, -1]] == 255).all()  # It is made smaller, not cut.


def test_captions_are_under_the_images_and_their_own():
  made = np.full((3, 30, 40, 3), 77, np.uint8)
  got = pictures.captioned(made, ['7', '', '7'], 16)
  assert got.shape == (3, 46, 40, 3)
  np.testing.assert_array_equal(got[:, :30], made)
  np.testing.assert_array_equal(got[0], got[2])
  assert (got[1, 30:] == 255).all() and (got[0, 30:] < 128).any()


def test_titles_are_over_their_columns():
  picture = pictures.grid(np.full((4, 20, 20, 1), 200, np.uint8), columns=2)
  got = pictures.headed(picture, ['', '1'])
  np.testing.assert_array_equal(got[16:], picture)
  _, bottom, left, right = _ink(got)
  assert bottom < 16 and 22 < left < right < 44


def test_pictures_beside_each_other_stand_on_one_line():
  low, high = np.full((2, 3, 1), 10, np.uint8), np.full((4, 1, 1), 20, np.uint8)
  got = pictures.beside([low, high])[:, :, 0]
  np.testing.assert_array_equal(got, [[255] * 3 + [20]] * 2 + [[10] * 3 + [20]] * 2)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_gif_of_arrays(tmp_path, channels):
  frames = [np.full((6, 8, channels), 50 * i, np.uint8) for i in range(5)]
  pictures.save_gif(tmp_path / 'loop.gif', frames, milliseconds=60, hold=60)
  with Image.open(tmp_path / 'loop.gif') as gif:
    assert gif.n_frames == 5 and gif.info['loop'] == 0 and gif.size == (8, 6)
    for i in range(5):
      gif.seek(i)
      assert gif.info['duration'] == 60
      np.testing.assert_allclose(np.asarray(gif.convert('L')), 50 * i, atol=2)


@pytest.mark.parametrize('channels', [1, 3])
def test_png_and_gif(tmp_path, channels):
  frames = []
  for i in range(5):
    frames.append(tmp_path / f'{i}.png')
    side = 4 if i == 0 else 8  # This run went on with more samples.
    pictures.save_png(frames[-1], np.full((side, side, channels), 50 * i, np.uint8))
  np.testing.assert_array_equal(np.asarray(Image.open(frames[3])), 150)
  pictures.save_gif(tmp_path / 'all.gif', frames)
  pictures.save_gif(tmp_path / 'some.gif', frames, most=3)
  with Image.open(tmp_path / 'all.gif') as gif, Image.open(tmp_path / 'some.gif') as thinned:
    assert (gif.n_frames, thinned.n_frames) == (5, 3) and gif.info['loop'] == 0
    assert gif.size == (8, 8)
    for picture, value in ((gif, 200), (thinned, 200)):
      picture.seek(picture.n_frames - 1)
      np.testing.assert_allclose(np.asarray(picture.convert('L')), value, atol=2)
  assert not list(tmp_path.glob('*.part'))


def test_only_pictures_are_read_and_what_else_there_is_is_one_line(tmp_path):
  """Refuses at once what Pillow would give to Ghostscript, a pipe, and what takes gigabytes."""
  Image.new('RGB', (9, 9)).save(tmp_path / 'eps.png', 'EPS')
  os.mkfifo(tmp_path / 'pipe.png')
  (tmp_path / 'bomb.png').write_bytes(fuzz_inputs.bomb(10_000, 9_999))
  (tmp_path / 'zero.png').symlink_to('/dev/zero')
  for name, reason in (
    ('eps', 'it is none of PNG, JPEG, WEBP, BMP, GIF'),
    ('pipe', 'is not a regular file'),
    ('zero', 'is not a regular file'),
    ('bomb', 'Image size .* exceeds limit'),
    ('none', 'No such file or directory'),
  ):
    path = tmp_path / f'{name}.png'
    with pytest.raises(InputError, match=f'^{path}: is not a readable picture: {reason}.*; remove it$'):
      pictures.read(path)


def test_a_large_picture_is_made_smaller_as_it_is_read(tmp_path, monkeypatch):
  pictures.save_png(tmp_path / 'x.png', np.full((20, 30, 3), 90, np.uint8))
  assert pictures.read(tmp_path / 'x.png').size == (30, 20)
  monkeypatch.setattr(pictures, 'MOST_PIXELS', 600)
  assert pictures.read(tmp_path / 'x.png').size == (30, 20)
  monkeypatch.setattr(pictures, 'MOST_PIXELS', 599)
  smaller = pictures.read(tmp_path / 'x.png')
  assert smaller.size == (15, 10) and (np.asarray(smaller) == 90).all()


def test_large_frames_of_a_gif_are_made_smaller(tmp_path, monkeypatch):
  monkeypatch.setattr(pictures, 'MOST_PIXELS_OF_A_GIF', 4 * 60)
  frames = [tmp_path / f'{i}.png' for i in range(4)]
  for i, path in enumerate(frames):
    pictures.save_png(path, np.full((20, 30, 3), 60 * i, np.uint8))
  pictures.save_gif(tmp_path / 'x.gif', frames)
  with Image.open(tmp_path / 'x.gif') as gif:
    assert (gif.size, gif.n_frames) == ((9, 6), 4)


@given(
  height=st.integers(1, 9),
  width=st.integers(1, 9),
  factor=st.integers(1, 7),
  channels=st.sampled_from([1, 3]),
)
def test_fit_by_a_whole_factor_repeats_pixels(height, width, factor, channels):
  small = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
  large = pictures.fit(small, factor * width, factor * height)
  np.testing.assert_array_equal(large, small.repeat(factor, 0).repeat(factor, 1))


@given(height=st.integers(1, 60), width=st.integers(1, 60), side=st.integers(1, 90))
def test_fit_makes_the_longer_side_as_asked_and_keeps_the_shape(height, width, side):
  image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
  fitted = pictures.fit(image, side)
  assert max(fitted.shape[:2]) == side
  assert abs(min(fitted.shape[:2]) - min(height, width) * side / max(height, width)) <= 1
  wide = pictures.fit(image, side, 30)
  assert wide.shape[0] <= 30 and wide.shape[1] <= side and (wide.shape[0] == 30 or wide.shape[1] == side)


def test_fit_keeps_pixels_crisp_and_colours_even():
  small = np.array([[0, 255], [255, 0]], np.uint8)[:, :, None]
  large = pictures.fit(small, 9)[:, :, 0]
  np.testing.assert_array_equal(
    large[[0, 3, 5, 8]][:, [0, 3, 5, 8]], np.kron(small[:, :, 0], np.ones((2, 2)))
  )
  assert 120 <= large[4, 4] <= 135  # The middle belongs to all four.
  checked = np.indices((64, 64)).sum(0).astype(np.uint8)[:, :, None] % 2 * 200
  assert (abs(pictures.fit(checked, 16).astype(int) - 100) <= 1).all()
