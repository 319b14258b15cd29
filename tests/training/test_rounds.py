"""How many steps a round has, and when its program is compiled."""

import types

import jax
import numpy as np
import pytest
from conftest import digits_schedule

from configs import base, cifar10, digits
from dcgan_jax import settings
from dcgan_jax.devices.placement import Batches
from dcgan_jax.training import rounds


def test_how_many_steps_a_round_has():
  small, large = digits.get_config(), cifar10.get_config()

  def most_steps(config, platform):
    return rounds.most_steps(settings.check(config), platform)

  assert most_steps(small, 'cpu') == most_steps(large, None) == 1
  assert most_steps(small, 'gpu') == 100 and most_steps(large, 'tpu') == 10
  large.train.steps_per_dispatch = 20
  assert most_steps(large, 'cpu') == most_steps(large, 'gpu') == 20
  assert base.get_config().train.steps_per_dispatch == 0


def test_the_inner_loop_divides_what_is_between_two_things_that_are_due():
  """Divides the steps between rows (50), grids (100) and checkpoints (1000) of the digits."""
  assert rounds.inner_length(digits_schedule(), 1) is None
  assert rounds.inner_length(digits_schedule(), 100) == 10 and rounds.inner_length(digits_schedule(), 7) == 5
  assert rounds.inner_length(digits_schedule(**{'log.every_steps': 12}), 10) == 4
  assert rounds.inner_length(digits_schedule(**{'log.every_steps': 7}), 10) == 1


@pytest.mark.parametrize(
  ('step', 'counts'), [(0, [50, 50, 50]), (47, [3, 50, 50]), (13, [7, 30, 50]), (98, [2, 50, 50])]
)
def test_rounds_begin_at_multiples_of_the_inner_loop(step, counts):
  round_length = rounds.round_length(digits_schedule(), 100, 10)
  for count in counts:
    assert round_length(step) == count
    step += count


@pytest.mark.parametrize('inner', [None, 1])
def test_rounds_without_an_inner_loop_have_one_program(inner):
  take_round, compiled = _take_round(inner)
  assert rounds.round_length(digits_schedule(), 7, inner)(47) == 3
  assert take_round(np.int32(0), _batches(1))[0] == (inner or 0) and compiled == [inner]
  assert not take_round.must_compile(_batches(3))


def test_rounds_that_are_no_multiple_of_the_inner_loop_have_a_program_of_their_own():
  take_round, compiled = _take_round(10)
  assert take_round.must_compile(_batches(20)) and take_round.must_compile(_batches(7))
  state = np.int32(0)
  take_round.compile(state, _batches(20))
  assert not take_round.must_compile(_batches(50)) and take_round.must_compile(_batches(7))
  assert take_round(state, _batches(50))[0] == 500
  assert take_round(state, _batches(7))[0] == 7 and not take_round.must_compile(_batches(3))
  assert compiled == [10, 1]


def _take_round(inner):
  """Returns a TakeRound whose programs multiply steps by their inner loop, and the inner loops compiled."""
  compiled = []

  def train_program(mesh, inner):
    compiled.append(inner)
    return jax.jit(lambda state, batches: (state + batches.steps * (inner or 0), {}, {}))

  return rounds.TakeRound(types.SimpleNamespace(train_program=train_program), None, inner), compiled


def _batches(steps):
  return Batches(None, None, np.int32(steps))
