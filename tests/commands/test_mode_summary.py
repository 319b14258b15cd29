"""The summary as a user starts it."""

import re

import pytest
from conftest import succeed

pytestmark = pytest.mark.slow


def test_summary_from_config_and_from_workdir(trained):
  printed = succeed('--mode=summary', '--config=configs/mnist.py')
  assert (
    '2,330,944' in printed and '212,865' in printed and '(batch, 7, 7, 256)' not in printed.splitlines()[2]
  )
  printed = succeed('--mode=summary', f'--workdir={trained[0]}', devices=2)
  assert 'Generator' in printed and '16 images on 2 cpu devices, 8 on each' in printed
  state, step = (float(re.search(rf'{name} +([\d.]+)', printed)[1]) for name in ('state', 'whole step'))
  assert 0 <= state < step < 100
