"""Curves: which numbers are taken, and how they are thinned."""

import math

import numpy as np

from dcgan_jax.trained.report import curves
from dcgan_jax.trained.report.curves import Curve


def test_a_curve_takes_means_where_there_are_some_and_finite_numbers_only():
  rows = [
    {'step': 1, 'loss': 1.0},
    {'step': 2, 'loss': 2.0, 'loss_mean': 1.5},
    {'step': 3, 'loss': math.nan},
    {'step': 3, 'coverage': 0.5},
    {'step': 4, 'loss': math.inf},
    {'step': 5, 'loss': 3.0},
  ]
  curve = curves.find(rows, 'loss')
  assert curve.steps.tolist() == [1, 2, 5] and curve.values.tolist() == [1.0, 1.5, 3.0]
  assert len(curves.find(rows, 'nothing').steps) == 0


def test_thinning_keeps_ends_and_extremes():
  values = np.random.default_rng(0).normal(size=10_007)
  values[4321], values[8765] = 99, -99
  thin = curves.thin(Curve(np.arange(10_007), values), most=100)
  assert len(thin.steps) <= 100 and {0, 4321, 8765, 10_006} <= set(thin.steps.tolist())
  assert (np.diff(thin.steps) > 0).all() and (values[thin.steps] == thin.values).all()


def test_a_short_curve_is_not_thinned():
  curve = Curve(np.arange(100), np.arange(100.0))
  assert curves.thin(curve, most=100) is curve


def test_items_are_chosen_evenly():
  assert curves.evenly(range(101), 5) == [0, 25, 50, 75, 100]
  assert curves.evenly('abc', 40) == ['a', 'b', 'c'] and curves.evenly('', 40) == []
  assert curves.evenly(range(9), 1) == [0]
