"""Axes, ticks, paths and numbers of charts."""

import math

import numpy as np
import pytest

from dcgan_jax.trained.report import scales
from dcgan_jax.trained.report.scales import Scale


@pytest.mark.parametrize(
  ('values', 'low', 'high', 'ticks'),
  [
    ([0.3, 2.7], 0, 3, [0, 1, 2, 3]),
    ([12, 988], 0, 1000, [0, 200, 400, 600, 800, 1000]),
    ([-0.4, 0.31], -0.4, 0.4, [-0.4, -0.2, 0, 0.2, 0.4]),
    ([5, 5], 2, 8, [2, 4, 6, 8]),
    ([0, 0], -0.6, 0.6, [-0.5, -0.25, 0, 0.25, 0.5]),
    ([], 0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
  ],
)
def test_an_axis_ends_at_round_numbers(values, low, high, ticks):
  scale = scales.fitting(values)
  np.testing.assert_allclose(scale[:2], (low, high), atol=1e-12)
  np.testing.assert_allclose(scale.ticks(), ticks, atol=1e-12)


@pytest.mark.parametrize(
  ('low', 'high', 'ticks'),
  [
    (4, 60, [5, 10, 20, 50]),
    (1, 1000, [1, 10, 100, 1000]),
    (21, 29, [22, 24, 26, 28]),
    (1e-6, 1e6, [1e-6, 1e-3, 1, 1e3, 1e6]),
  ],
)
def test_ticks_of_a_logarithmic_axis(low, high, ticks):
  np.testing.assert_allclose(Scale(low, high, log=True).ticks(), ticks, rtol=1e-12)


def test_a_logarithmic_axis_takes_positive_numbers_only():
  assert scales.fitting([1, 100], log=True).log
  assert not scales.fitting([0, 100], log=True).log
  np.testing.assert_allclose(Scale(1, 100, log=True).at([1, 10, 100]), [0, 0.5, 1])


def test_a_path_has_gaps_where_there_are_no_numbers():
  assert scales.path([0, 0.5, 1], [0, 1, 0.5]) == 'M0,1000L500,0L1000,500'
  assert scales.path([0, 0.2, 0.4, 0.6], [0, math.nan, 1, 1]) == 'M0,1000M400,0L600,0'
  assert scales.path([0, 1], [-1e9, 1e9]) == 'M0,2000L1000,-1000'
  assert scales.path([], []) == ''


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0, '0'),
    (15382, '15,382'),
    (1234567.8, '1,234,568'),
    (0.87961, '0.8796'),
    (5.5764, '5.576'),
    (20.0, '20'),
    (-0.05, '-0.05'),
    (1.5e-7, '1.5e-07'),
    (math.nan, 'none'),
  ],
)
def test_numbers_have_four_digits(value, text):
  assert scales.number(value) == text
