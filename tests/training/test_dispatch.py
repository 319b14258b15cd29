"""How many steps are one program, and when it is compiled."""

import types

import jax
import numpy as np
import pytest
from conftest import digits_plan

from configs import base, cifar10, digits
from dcgan_jax import settings
from dcgan_jax.devices import parallel
from dcgan_jax.training import dispatch


def test_how_many_steps_are_one_program():
  small, large = digits.get_config(), cifar10.get_config()

  def steps_per_dispatch(config, platform):
    return dispatch.steps_per_dispatch(settings.check(config), platform)

  assert steps_per_dispatch(small, 'cpu') == steps_per_dispatch(large, None) == 1
  assert steps_per_dispatch(small, 'gpu') == 100 and steps_per_dispatch(large, 'tpu') == 10
  large.train.steps_per_dispatch = 20
  assert steps_per_dispatch(large, 'cpu') == steps_per_dispatch(large, 'gpu') == 20
  assert base.get_config().train.steps_per_dispatch == 0


def test_how_many_steps_are_in_the_inner_loop():
  """Divides the steps between rows (50), pictures (100) and checkpoints (1000) of the digits."""
  assert dispatch.steps_of_loop(digits_plan(), 1) == 0
  assert dispatch.steps_of_loop(digits_plan(), 100) == 10 and dispatch.steps_of_loop(digits_plan(), 7) == 5
  assert dispatch.steps_of_loop(digits_plan(**{'log.every_steps': 12}), 10) == 4
  assert dispatch.steps_of_loop(digits_plan(**{'log.every_steps': 7}), 10) == 1


@pytest.mark.parametrize(
  ('step', 'counts'), [(0, [50, 50, 50]), (47, [3, 50, 50]), (13, [7, 30, 50]), (98, [2, 50, 50])]
)
def test_blocks_begin_at_multiples_of_the_loop(step, counts):
  config = digits.get_config()
  config.train.steps_per_dispatch = 100
  steps_of_block = dispatch.steps_of_block(settings.check(config), digits_plan(), 10)
  for count in counts:
    assert steps_of_block(step) == count
    step += count


def test_blocks_that_are_no_whole_loops_have_a_program_of_their_own():
  compiled = []

  def compile_steps(mesh, loop):
    compiled.append(loop)
    return jax.jit(lambda state, batches: (state + batches.steps * max(loop, 1), {}, {}))

  def block(steps):
    return parallel.Batches(None, None, np.int32(steps))

  take_steps = dispatch.Steps(types.SimpleNamespace(compile_steps=compile_steps), None, 10)
  assert compiled == [10, 1] and take_steps.must_compile(block(20)) and take_steps.must_compile(block(7))
  state = np.int32(0)
  take_steps.compile(state, block(20))
  assert not take_steps.must_compile(block(50)) and take_steps.must_compile(block(7))
  assert take_steps(state, block(50))[0] == 500
  assert take_steps(state, block(7))[0] == 7 and not take_steps.must_compile(block(3))
