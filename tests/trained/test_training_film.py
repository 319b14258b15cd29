"""Films of training, from the pictures of a run."""

import numpy as np
import pytest
from conftest import draw_sample
from PIL import Image, ImageSequence

from dcgan_jax.errors import InputError
from dcgan_jax.media import pace, pictures
from dcgan_jax.media.pace import Pace
from dcgan_jax.records import workdir
from dcgan_jax.trained import films as training

ASKED = Pace(seconds=2.4, fps=10)  # of whose 24 frames the last 6 are held


@pytest.fixture
def run(tmp_path):
  """A folder with the pictures of a run that is still going on, and with others."""
  for step, shade in ((0, 40), (200, 130), (1000, 220)):
    draw_sample(tmp_path / 'run', step, np.full((50, 60, 1), shade, np.uint8))
  (tmp_path / 'run' / 'samples' / 'step_00001200.png.part').write_bytes(b'half')
  (tmp_path / 'run' / 'samples' / 'step_mine.png').write_bytes(b'not of training')
  return tmp_path / 'run'


def _read(path):
  """Returns the frames of a GIF, gray [H, W], and how long each is shown."""
  with Image.open(path) as moving:
    both = [(np.asarray(x.convert('L')), x.info['duration']) for x in ImageSequence.Iterator(moving)]
  return tuple(zip(*both))


def test_a_film_shows_each_picture_and_fades_between_them(run, tmp_path, capsys):
  training.run(run, f'{tmp_path}/x.gif', ASKED)
  frames, times = _read(tmp_path / 'x.gif')
  assert {frame.shape for frame in frames} == {(66, 60)}
  shown = [int(frame[10, 10]) for frame in frames]
  np.testing.assert_allclose(shown, (40, 50, 70, 90, 110, 130, 140, 160, 180, 200, 220), atol=1)
  assert times == (500, 100, 100, 100, 100, 500, 100, 100, 100, 100, 600)  # Pillow joins equal frames.
  want = f'film of steps 0 to 1,000 of {run}, 3 pictures in 24 frames, in {tmp_path}/x.gif\n'
  assert capsys.readouterr().out == want


def test_the_step_is_under_the_picture(run, tmp_path):
  training.run(run, f'{tmp_path}/x.gif', ASKED)
  frames, _ = _read(tmp_path / 'x.gif')
  lines = [pictures.text(f'step {step}', 16, 60, 1, 11)[:, :, 0] for step in ('0', '200', '1,000')]
  # In a fade it is the step of the picture that is seen more.
  for number, line in ((0, 0), (2, 0), (3, 1), (5, 1), (7, 1), (8, 2), (10, 2)):
    np.testing.assert_allclose(frames[number][50:], lines[line], atol=3)


@pytest.mark.parametrize('size', [200, 48])
def test_the_whole_is_as_large_as_asked(run, tmp_path, size):
  training.run(run, f'{tmp_path}/x.webp', Pace(1, 10, size))
  with Image.open(tmp_path / 'x.webp') as moving:
    assert max(moving.size) == size


def test_pictures_of_other_sizes_are_shown_in_that_of_the_last(run, tmp_path):
  draw_sample(run, 200, np.full((25, 30, 1), 130, np.uint8))
  training.run(run, f'{tmp_path}/x.gif', ASKED)
  frames, _ = _read(tmp_path / 'x.gif')
  assert (abs(frames[5][:50].astype(int) - 130) <= 1).all()


def test_more_pictures_than_frames_are_thinned(tmp_path):
  for step in range(50):
    draw_sample(tmp_path, step, np.full((20, 20, 3), 5 * step, np.uint8))
  training.run(tmp_path, f'{tmp_path}/x.gif', Pace(2, 10))
  frames, times = _read(tmp_path / 'x.gif')
  shown = [int(frame[5, 5]) for frame in frames]
  np.testing.assert_allclose(shown, [5 * number for number, _ in pace.through(50, 20, 10)[:16]], atol=1)
  assert sum(times) == 2000 and shown[-1] >= 244


def test_too_few_pictures_are_one_line(tmp_path):
  (tmp_path / 'run').mkdir()
  text = r'^workdir=.*: a film takes two or more pictures of training, samples/step_N\.png, and here '
  for folder in ('nowhere', 'run'):
    with pytest.raises(InputError, match=text + r'are none; config\.sample\.every_steps says'):
      training.run(tmp_path / folder, f'{tmp_path}/x.gif', Pace())
  draw_sample(tmp_path / 'run', 0, np.zeros((8, 8, 1), np.uint8))
  with pytest.raises(InputError, match=text + 'is one; '):
    training.run(tmp_path / 'run', f'{tmp_path}/x.gif', Pace())


@pytest.mark.parametrize('step', [200, 1000])
def test_a_broken_picture_is_one_line(run, tmp_path, step):
  path = workdir.sample(run, step)
  path.write_bytes(path.read_bytes()[:50])
  for suffix in ('gif', 'webp', 'mp4'):
    with pytest.raises(InputError, match=rf'/step_0*{step}\.png: is not a readable picture: .*; remove'):
      training.run(run, f'{tmp_path}/x.{suffix}', ASKED)
  assert [found.name for found in tmp_path.iterdir()] == ['run']


@pytest.mark.parametrize('out', ['x.png', 'x', 'x.avi'])
def test_another_format_is_one_line(run, out):
  with pytest.raises(InputError, match=rf'^out={out}: must end in \.mp4, \.webp or \.gif'):
    training.run(run, out, Pace())
