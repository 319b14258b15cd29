"""Pictures in a page: their size, their ground, and what becomes of damaged ones."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dcgan_jax.media import pictures
from dcgan_jax.trained.report import images


def _grid(count, side, zoom, channels=3):
  made = np.random.default_rng(0).integers(0, 250, (count, side, side, channels), np.uint8)
  pixels = pictures.grid(made).repeat(zoom, 0).repeat(zoom, 1)
  return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def _decode(address):
  kind, _, data = address.partition(',')
  assert kind == 'data:image/webp;base64'
  return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(('count', 'zoom', 'channels'), [(9, 1, 3), (6, 3, 1), (64, 2, 3)])
def test_a_grid_is_found_and_its_ground_is_clear(count, zoom, channels):
  picture = _grid(count, 8, zoom, channels)
  grid = images.find_grid(picture, (8, 8))
  assert grid and grid.factor == zoom and grid.rows * grid.columns >= count
  clear = images.without_ground(picture, grid, (8, 8))
  alpha = np.asarray(clear)[..., 3]
  assert clear.width == picture.width - 4 * zoom
  assert (alpha == 255).mean() == grid.rows * grid.columns * (8 * zoom) ** 2 / alpha.size


def test_other_pictures_are_no_grids():
  assert images.find_grid(_grid(9, 8, 1), (9, 9)) is None
  assert images.find_grid(Image.new('RGB', (32, 32)), (8, 8)) is None


def test_a_small_picture_is_enlarged_and_keeps_its_pixels():
  picture = _grid(4, 8, 1)
  shown = images.embed(picture, (8, 8), 10**6)
  made = _decode(shown.address)
  assert (shown.width, shown.height) == made.size == (18 * 28, 18 * 28) and (shown.rows, shown.columns) == (
    2,
    2,
  )
  pixels = np.asarray(made.convert('RGB'))[::28, ::28]
  np.testing.assert_array_equal(pixels[:8, :8], np.asarray(picture)[2:10, 2:10])


@pytest.mark.parametrize('most', [60_000, 10_000, 2_000])
def test_a_picture_takes_no_more_than_there_is_room_for(most):
  noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)
  data = images.encode(Image.fromarray(noise), most)
  assert len(data) <= most
  with Image.open(io.BytesIO(data)) as made:
    assert made.width / made.height == pytest.approx(7 / 9, rel=0.05)


def _write_frames(folder, count):
  paths = [folder / f'{i}.png' for i in range(count)]
  for i, path in enumerate(paths):
    pictures.save_png(path, np.full((40, 40, 1), i % 256, np.uint8))
  return paths


def test_frames_are_thinned_evenly_and_the_last_one_stays(tmp_path):
  made, notes = images.frames(_write_frames(tmp_path, 300), None, 10**6)
  numbers = [i for i, _ in made]
  assert len(numbers) == images.MOST_FRAMES and numbers[0] == 0 and numbers[-1] == 299 and notes == []
  assert max(np.diff(numbers)) - min(np.diff(numbers)) <= 1
  size = len(base64.b64decode(made[-1][1].partition(',')[2]))
  few, _ = images.frames(_write_frames(tmp_path, 300), None, 12 * size)
  assert 5 <= len(few) <= 12 and few[-1][0] == 299


def test_damaged_frames_are_notes(tmp_path):
  paths = _write_frames(tmp_path, 4)
  paths[1].write_bytes(paths[1].read_bytes()[:50])
  paths[2].unlink()
  paths[2].mkdir()
  made, notes = images.frames(paths, None, 10**6)
  assert [i for i, _ in made] == [0, 3]
  reasons = ('image file is truncated', 'is a folder')
  assert notes == [
    f'{path}: is not a readable picture: {reason}; remove it' for path, reason in zip(paths[1:3], reasons)
  ]
  assert images.frames([], None, 10**6) == ([], [])
