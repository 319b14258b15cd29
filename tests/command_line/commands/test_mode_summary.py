"""Summaries from the command line."""

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('standard_promotion')]


def test_summary_from_config_and_from_workdir(trained, printed_by):
  printed = printed_by('--mode=summary', '--config=configs/mnist.py')
  assert (
    '2,330,944' in printed and '212,865' in printed and '(batch, 7, 7, 256)' not in printed.splitlines()[2]
  )
  printed = printed_by('--mode=summary', f'--workdir={trained[0]}')
  assert 'Generator' in printed and '16 images on 4 cpu devices, 4 on each' in printed
  state, step = (float(re.search(rf'{name} +([\d.]+)', printed)[1]) for name in ('state', 'whole step'))
  assert 0 <= state < step < 100


def test_summary_for_a_target(trained, printed_by):
  printed = printed_by('--mode=summary', f'--workdir={trained[0]}', '--target=cpu', '--num=100')
  assert '16 images on cpu: 4 devices, 4 images on each' in printed and '(100 images, by --num)' in printed
  assert re.search(r'whole step +[\d.]+  \(fits', printed) and re.search(r'all-reduce +\d+', printed)
