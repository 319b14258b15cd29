"""Walks from the command line."""

from pathlib import Path

import pytest
from conftest import read_mp4
from PIL import Image

from dcgan_jax.command_line import shared
from dcgan_jax.media.pace import Pace
from dcgan_jax.trained.walks import walk
from dcgan_jax.trained.walks.request import Request

FLAGS = ('points', 'plus', 'minus', 'plus2', 'turn_from', 'turn_to')


@pytest.mark.slow
def test_as_a_user_asks_for_it(untrained, tmp_path, printed_by):
  terms = ['--plus', '3,8', '--minus=1', '--plus2=2']
  printed = printed_by('--mode=walk', f'--workdir={untrained}', *terms, f'--out={tmp_path}/x.png')
  origin = f'arithmetic of step 0 of {untrained}, seed 0, in {tmp_path}/x.png'
  assert printed == f'--plus=3,8\n--minus=1\n--plus2=2\n{origin}\n'
  with Image.open(tmp_path / 'x.png') as picture:
    assert picture.size > (300, 200)


@pytest.mark.slow
def test_a_film_as_a_user_asks_for_it(untrained, tmp_path, printed_by):
  flags = ['--points=1,2,3', '--seconds=2', '--fps=25', '--size=160', f'--out={tmp_path}/x.mp4']
  printed = printed_by('--mode=walk', f'--workdir={untrained}', *flags)
  assert printed.endswith(f'spherical walk of step 0 of {untrained}, seed 0, in {tmp_path}/x.mp4\n')
  about, frames = read_mp4(tmp_path / 'x.mp4')
  assert (about['fps'], about['size'], len(frames)) == (25, (160, 160), 50)


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    (['--seconds=3'], 'error: seconds=3: is of a moving picture; give --out=NAME.gif, NAME.webp or NAME.mp4'),
    (['--size=64', '--sheet', '--out=x.png'], 'error: size=64: is of a moving picture'),
    (['--out=x.mp4', '--fps=61'], 'error: fps=61: must be from 1 to 60'),
    (['--out=x.mp4', '--fps=2.5'], 'fps=2.5: must be a whole number'),
    (['--out=x.webp', '--seconds=nan'], 'error: seconds=nan: must be from 0.1 to 600'),
    (['--out=x.gif', '--size=5000'], 'error: size=5000: must be an even number from 32 to 4096'),
  ],
)
def test_a_pace_that_cannot_be_is_one_line(refused, flags, text):
  assert text in refused('--mode=walk', '--workdir=/nonexistent', *flags)


@pytest.mark.slow
@pytest.mark.parametrize('flags', [['--directions=ganspace', '--num=3'], ['--direction=2', '--points=1,2']])
def test_directions_as_a_user_asks_for_them(trained, tmp_path, flags, printed_by):
  printed = printed_by('--mode=walk', f'--workdir={trained[0]}', *flags, f'--out={tmp_path}/x.png')
  what = 'directions (ganspace)' if len(flags[0]) > 15 else 'direction 2 (sefa)'
  assert f'\n{what} of step 24 of' in printed
  with Image.open(tmp_path / 'x.png') as picture:
    assert picture.size[0] > 500


def test_flags_reach_the_command(call_main, monkeypatch):
  """Passes flags with a space and with `=`."""
  called = []
  monkeypatch.setattr(walk, 'run', lambda *arguments: called.append(arguments))
  monkeypatch.setattr(shared, 'check_run', lambda folder: None)
  pace = ['--seconds', '2.5', '--fps=20', '--size=200', '--out=x.webp']
  found = ['--directions=ganspace', '--direction=3', '--latents=z']
  status, *_ = call_main(
    '--mode=walk', '--workdir=w', '--plus', '3,8', '--turn_to=a b', '--nosheet', *pace, *found
  )
  named = dict.fromkeys(FLAGS) | {'plus': '3,8', 'turn_to': 'a b'}
  asked = Request(False, None, None, named, Pace(2.5, 20, 200), 'ganspace', 3, 'z')
  assert status == 0 and called == [(Path('w'), None, 0, 'last', 'x.webp', asked)]
