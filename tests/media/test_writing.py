"""Moving pictures, read again."""

import subprocess
import weakref

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import read_mp4
from PIL import Image, ImageSequence

from dcgan_jax.errors import InputError
from dcgan_jax.media import pace, pictures, writing
from dcgan_jax.media.pace import Timing

COLOURS = np.array([[200, 30, 40], [20, 160, 60], [30, 60, 220], [240, 220, 30], [128, 128, 128]], np.uint8)


def _frames(channels=3, height=24, width=30):
  """Returns five frames, each of another colour."""
  return np.broadcast_to(COLOURS[:, None, None, :channels], (5, height, width, channels)).copy()


@pytest.mark.parametrize('channels', [1, 3])
def test_an_mp4(tmp_path, channels):
  path = tmp_path / 'new' / 'x.mp4'
  writing.write(path, iter(_frames(channels)), Timing(5, 12, 240))
  about, read = read_mp4(path)
  assert (about['codec'], about['fps'], about['size']) == ('h264', 12, (240, 192))
  assert about['pix_fmt'].startswith('yuv420p(tv, bt709')
  want = np.broadcast_to(COLOURS[:, :channels], (5, 3))[:, None, None]
  np.testing.assert_allclose(read, np.broadcast_to(want, read.shape), atol=3)
  content = path.read_bytes()
  assert content.index(b'moov') < content.index(b'mdat')  # It plays while it is loaded.
  assert [found.name for found in path.parent.iterdir()] == ['x.mp4']


def test_an_mp4_is_crisp(tmp_path):
  """Enlarges a chessboard."""
  board = np.indices((8, 8)).sum(0) % 2
  frame = (30 + 200 * board[:, :, None]).astype(np.uint8)
  writing.write(tmp_path / 'x.mp4', iter([frame] * 4), Timing(4, 30, 128))
  _, read = read_mp4(tmp_path / 'x.mp4')
  want = frame.repeat(16, 0).repeat(16, 1).repeat(3, 2)
  np.testing.assert_allclose(read, np.broadcast_to(want, read.shape), atol=6)


def test_an_mp4_has_even_sides(tmp_path):
  writing.write(tmp_path / 'x.mp4', iter(_frames(height=21, width=33)), Timing(5, 30, None))
  about, read = read_mp4(tmp_path / 'x.mp4')
  assert about['size'] == (34, 22) and len(read) == 5
  assert (abs(read[:, 9, 15].astype(int) - COLOURS) <= 3).all()  # Nothing is stretched: white is added.
  brightness = read.mean(3)  # Colours have half the resolution and bleed into it.
  assert (brightness[:, 21, :32] > 200).all() and (brightness[:, :20, 33] > 200).all()


@pytest.mark.parametrize('suffix', ['.gif', '.webp'])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_gif_and_a_webp_loop(tmp_path, suffix, channels):
  writing.write(tmp_path / f'x{suffix}', iter(_frames(channels)), Timing(5, 30, 240))
  with Image.open(tmp_path / f'x{suffix}') as moving:
    assert (moving.n_frames, moving.info['loop'], moving.size) == (5, 0, (240, 192))
    times, read = [], []
    for frame in ImageSequence.Iterator(moving):
      read.append(np.asarray(frame.convert('RGB')))
      times.append(frame.info['duration'])
  assert times == ([30, 40, 30, 30, 40] if suffix == '.gif' else [33, 34, 33, 33, 34])
  want = np.broadcast_to(COLOURS[:, :channels], (5, 3))[:, None, None]
  np.testing.assert_allclose(read, np.broadcast_to(want, (5, 192, 240, 3)), atol=8)
  assert [path.name for path in tmp_path.iterdir()] == [f'x{suffix}']


def test_a_gif_is_as_before(tmp_path):
  made = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), np.uint8)
  writing.write(tmp_path / 'new.gif', iter(made), Timing(4, 10, None))
  pictures.save_gif(tmp_path / 'old.gif', list(made), most=4, hold=100)
  assert (tmp_path / 'new.gif').read_bytes() == (tmp_path / 'old.gif').read_bytes()


@pytest.mark.parametrize('suffix', ['.webp', '.mp4'])
def test_frames_are_drawn_when_they_are_encoded(tmp_path, suffix):
  """Counts the frames that are in memory."""
  drawn, most = [], 0

  def draw():
    nonlocal most
    for i in range(40):
      frame = np.full((32, 32, 3), 6 * i, np.uint8)
      drawn.append(weakref.ref(frame))
      most = max(most, sum(one() is not None for one in drawn))
      yield frame

  writing.write(tmp_path / f'x{suffix}', draw(), Timing(40, 30, None))
  assert len(drawn) == 40 and most <= 4


def test_larger_than_can_be_played_is_made_smaller(tmp_path):
  made = [np.full((10, 4100, 3), shade, np.uint8) for shade in (20, 70)]
  writing.write(tmp_path / 'x.webp', iter(made), Timing(2, 2, None))
  with Image.open(tmp_path / 'x.webp') as moving:
    assert moving.size == (4096, 10)


def test_too_much_for_a_gif_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(pace, 'MOST_PIXELS_OF_A_GIF', 5 * 24 * 30 - 1)
  with pytest.raises(InputError, match=r'^out: 5 frames of 30 x 24 pixels are too much for a GIF; choose \.'):
    writing.write(tmp_path / 'x.gif', iter(_frames()), Timing(5, 10, None))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.mp4'])
def test_where_it_cannot_be_written_is_one_line(tmp_path, suffix):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match=rf'^out=.*/file/x\{suffix}: cannot be written: (Not a|File exists)'):
    writing.write(tmp_path / 'file' / f'x{suffix}', iter(_frames()), Timing(5, 10, None))


def _replace_ffmpeg(tmp_path, monkeypatch, script, mode=0o755):
  """Puts a shell script in its place."""
  path = tmp_path / 'ffmpeg'
  path.write_text(f'#!/bin/sh\n{script}\n')
  path.chmod(mode)
  monkeypatch.setenv('IMAGEIO_FFMPEG_EXE', str(path))


@pytest.mark.parametrize(
  ('script', 'text'),
  [
    ('echo "[libx264 @ 0x1] [error] no such preset" >&2; echo more >&2; exit 1', 'no such preset$'),
    ('exec 0<&-; sleep 0.1; echo "No space left" >&2; exit 3', 'No space left$'),
    ('cat > /dev/null; echo "too late" >&2; exit 1', 'too late$'),
    ('exit 1', 'it does not say why$'),
    ('kill -9 $$', 'it does not say why$'),
  ],
)
def test_an_encoder_that_fails_is_one_line(tmp_path, monkeypatch, script, text):
  _replace_ffmpeg(tmp_path, monkeypatch, script)
  made = np.zeros((60, 100, 100, 3), np.uint8)  # more than a pipe holds
  with pytest.raises(InputError, match=r'^out=.*x\.mp4: the encoder failed: ' + text):
    writing.write(tmp_path / 'x.mp4', iter(made), Timing(60, 10, None))
  assert [path.name for path in tmp_path.iterdir()] == ['ffmpeg']


def test_an_encoder_that_cannot_be_started_is_one_line(tmp_path, monkeypatch):
  _replace_ffmpeg(tmp_path, monkeypatch, '', mode=0o644)
  with pytest.raises(InputError, match=r'x\.mp4: the encoder .*ffmpeg cannot be started: Permission denied'):
    writing.write(tmp_path / 'x.mp4', iter(_frames()), Timing(5, 10, None))

  def find():
    raise RuntimeError('No ffmpeg exe could be found.')

  monkeypatch.setattr(imageio_ffmpeg, 'get_ffmpeg_exe', find)
  with pytest.raises(InputError, match=r'x\.mp4: there is no encoder: No ffmpeg exe could be found'):
    writing.write(tmp_path / 'x.mp4', iter(_frames()), Timing(5, 10, None))


@pytest.mark.parametrize('error', [KeyboardInterrupt(), InputError('a broken picture')])
def test_an_interrupted_film_leaves_no_part_and_no_process(tmp_path, monkeypatch, error):
  started = []

  class Noted(subprocess.Popen):
    def __init__(self, *arguments, **options):
      super().__init__(*arguments, **options)
      started.append(self)

  def interrupted():
    yield from _frames()
    raise error

  monkeypatch.setattr(subprocess, 'Popen', Noted)
  with pytest.raises(type(error)):
    writing.write(tmp_path / 'x.mp4', interrupted(), Timing(10, 10, None))
  assert len(started) == 1 and started[0].returncode is not None
  assert not list(tmp_path.iterdir())
