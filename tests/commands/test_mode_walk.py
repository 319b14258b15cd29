"""Walks as a user asks for them."""

from pathlib import Path

import pytest
from conftest import succeed
from PIL import Image

from dcgan_jax.analysis import walk

FLAGS = ('points', 'plus', 'minus', 'plus2', 'turn_from', 'turn_to')


@pytest.mark.slow
def test_as_a_user_starts_it(untrained, tmp_path):
  terms = ['--plus', '3,8', '--minus=1', '--plus2=2']
  printed = succeed('--mode=walk', f'--workdir={untrained}', *terms, f'--out={tmp_path}/x.png')
  origin = f'arithmetic of step 0 of {untrained}, seed 0, in {tmp_path}/x.png'
  assert printed == f'--plus=3,8\n--minus=1\n--plus2=2\n{origin}\n'
  with Image.open(tmp_path / 'x.png') as picture:
    assert picture.size > (300, 200)


def test_flags_reach_the_command(call_main, monkeypatch):
  """Gives flags with a space, and with `=`."""
  called = []
  monkeypatch.setattr(walk, 'run', lambda *arguments: called.append(arguments))
  status, *_ = call_main('--mode=walk', '--workdir=w', '--plus', '3,8', '--turn_to=a b', '--nosheet')
  named = dict.fromkeys(FLAGS) | {'plus': '3,8', 'turn_to': 'a b'}
  assert status == 0 and called == [(Path('w'), None, 0, 'last', None, walk.Asked(False, None, None, named))]
