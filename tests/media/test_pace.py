"""The pace of moving pictures: how many frames, how long each, and what it shows."""

import importlib.util
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.errors import InputError
from dcgan_jax.media import pace
from dcgan_jax.media.pace import Pace, Timing

FRAMES = st.integers(2, 400)
FPS = st.integers(*pace.FPS)


@given(frames=FRAMES, fps=st.integers(1, 50), unit=st.sampled_from([1, 10]))
def test_durations_do_not_drift(frames, fps, unit):
  times = pace.durations(frames, fps, unit)
  assert len(times) == frames and all(time % unit == 0 and time > 0 for time in times)
  for done in (1, frames // 2, frames):
    assert abs(sum(times[:done]) - 1000 * done / fps) <= unit / 2
  assert max(times) - min(times) <= unit


@given(pictures=st.integers(2, 60), frames=FRAMES, fps=FPS)
def test_a_film_goes_evenly_to_the_last_picture_and_holds_it(pictures, frames, fps):
  plan = pace.through(pictures, frames, fps)
  held = max(1, round(min(2 * fps, frames / 4)))
  assert len(plan) == frames and plan[0] == (0, 0)
  assert plan[-held:] == [(pictures - 1, 0)] * held
  assert all(0 <= weight < 1 and (not weight or number < pictures - 1) for number, weight in plan)
  places = [number + weight for number, weight in plan]
  assert places == sorted(places)
  moving = frames - held
  for i, place in enumerate(places[:moving]):
    # It is never more than half a picture from where it would be without holding any.
    assert abs(place - i * (pictures - 1) / moving) <= 0.5 + 1e-9


def test_many_frames_hold_a_picture_and_fade_into_the_next():
  plan = pace.through(3, 24, 10)  # of which the last 6 are held
  assert plan[:5] == [(0, 0)] * 5
  assert plan[5:9] == [(0, pytest.approx(weight)) for weight in (1 / 9, 3 / 9, 5 / 9, 7 / 9)]
  assert plan[9:18] == [(number + 1, pytest.approx(weight)) for number, weight in plan[:9]]
  assert plan[18:] == [(2, 0)] * 6


@given(pictures=st.integers(2, 60), frames=FRAMES)
def test_few_frames_show_whole_pictures_thinned_evenly(pictures, frames):
  plan = pace.through(pictures, frames, 30)
  moving = frames - max(1, round(min(60, frames / 4)))
  assert any(weight for _, weight in plan) == (moving >= 4 * (pictures - 1))
  if moving < 4 * (pictures - 1):
    steps = {b - a for (a, _), (b, _) in itertools.pairwise(plan[:moving])}
    assert not steps or max(steps) - min(steps) <= 1
  if moving >= pictures - 1:
    assert {number for number, _ in plan} == set(range(pictures))


def test_what_is_not_asked_for_suits_the_format():
  assert pace.timing(Pace(), '.gif', 9.0) == Timing(90, 10, None)
  assert pace.timing(Pace(), '.webp', 9.0) == Timing(270, 30, 512)
  assert pace.timing(Pace(), '.mp4', 9.0) == Timing(270, 30, 720)
  assert pace.timing(Pace(3.5, 12, 64), '.gif', 9.0) == Timing(42, 12, 64)
  with pytest.raises(InputError, match=r'^seconds=0\.1: is less than two frames at 10 a second'):
    pace.timing(Pace(0.1), '.gif', 9.0)


def test_too_much_for_a_gif_is_one_line():
  assert pace.timing(Pace(100, 10, 1024), '.gif', 9.0).frames == 1000
  assert pace.timing(Pace(600, 50, 4096), '.webp', 9.0).frames == 30_000
  with pytest.raises(
    InputError, match=r'^out: 1,025 frames of 1024 x 1024 pixels are too much for a GIF; cho'
  ):
    pace.timing(Pace(102.5, 10, 1024), '.gif', 9.0)


@pytest.mark.parametrize('asked', [Pace(), Pace(0.1, 1, 32), Pace(600, 50, 4096)])
@pytest.mark.parametrize('out', ['a.gif', 'b.c/d.webp', 'x.mp4'])
def test_what_can_be_is_not_refused(asked, out):
  assert pace.check_moving(asked, out) is None


@pytest.mark.parametrize(
  ('asked', 'out', 'text'),
  [
    (Pace(seconds=2), None, '^seconds=2: is of a moving picture; give --out=NAME.gif, NAME.webp or NAME.mp4'),
    (Pace(fps=5), 'x.png', '^fps=5: is of a moving picture'),
    (Pace(size=64), 'mp4', '^size=64: is of a moving picture'),
    (Pace(seconds=0), 'x.gif', r'^seconds=0: must be from 0\.1 to 600'),
    (Pace(seconds=-1), 'x.gif', '^seconds=-1: must be from'),
    (Pace(seconds=600.5), 'x.gif', r'^seconds=600\.5: must be from'),
    (Pace(seconds=math.nan), 'x.mp4', '^seconds=nan: must be from'),
    (Pace(seconds=math.inf), 'x.mp4', '^seconds=inf: must be from'),
    (Pace(fps=0), 'x.mp4', '^fps=0: must be from 1 to 60'),
    (Pace(fps=61), 'x.webp', '^fps=61: must be from'),
    (Pace(fps=51), 'x.gif', r'^fps=51: a GIF has 50 at most; choose \.webp or \.mp4'),
    (Pace(size=30), 'x.gif', '^size=30: must be an even number from 32 to 4096'),
    (Pace(size=4098), 'x.mp4', '^size=4098: must be'),
    (Pace(size=101), 'x.webp', '^size=101: must be'),
  ],
)
def test_what_cannot_be_is_one_line(asked, out, text):
  with pytest.raises(InputError, match=text) as error:
    pace.check_moving(asked, out)
  assert '\n' not in str(error.value)


def test_an_mp4_without_the_extra_is_one_line(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  pace.check_moving(Pace(), 'x.webp')
  with pytest.raises(
    InputError, match=r"^out=x\.mp4: an MP4 needs imageio-ffmpeg, .*install -e '\.\[video\]'"
  ):
    pace.check_moving(Pace(), 'x.mp4')
