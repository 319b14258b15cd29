"""The pieces of the training loop; the loop itself is run by test_main."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import lenient
from jax.sharding import Mesh

from configs import base, cifar10, digits
from dcgan_jax import state, steps
from dcgan_jax.commands import train
from dcgan_jax.losses import LOSSES


@pytest.mark.parametrize('devices', [1, 4])
def test_several_steps_in_one_program_are_those_steps(tiny, devices):
  """Gathered on the devices from the whole data set, or given: the same batches, the same metrics."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (train.AXIS,))
  optimizer = lenient(state.make_optimizer(1e-3))
  axis = train.AXIS if devices > 1 else None
  run = train.compile_steps(
    steps.make_train_step(*tiny, optimizer, optimizer, LOSSES['hinge'], z_size=5, axis_name=axis), mesh
  )
  create = jax.jit(lambda: state.create(*tiny, optimizer, optimizer, 5, 0))
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8))
  indices = np.random.default_rng(1).integers(0, 20, (3, 8), np.int32)

  together, metrics = run(create(), train.Batches(images, indices))
  assert int(together.step) == 3 and metrics['loss_d'].shape == (3,)
  single = create()
  for i in range(3):
    single, values = run(single, train.Batches(None, images[indices[i]][None]))
    np.testing.assert_allclose(values['loss_d'][0], metrics['loss_d'][i], rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
    together.generator.params,
    single.generator.params,
  )


def test_how_many_steps_are_one_program(monkeypatch):
  small, large = digits.get_config(), cifar10.get_config()
  assert train.steps_per_dispatch(small) == 1  # on CPU
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert train.steps_per_dispatch(small) == 10
  assert train.steps_per_dispatch(large) == 1
  small.log.every_steps = 4  # with pictures every 100 and checkpoints every 1000
  assert train.steps_per_dispatch(small) == 4
  large.train.steps_per_dispatch = 20
  assert train.steps_per_dispatch(large) == 10  # divides the 50 steps between lines of metrics
  assert base.get_config().train.steps_per_dispatch == 0


class _Value:
  def __init__(self, ready):
    self.is_ready = lambda: ready


@pytest.mark.parametrize(('ready', 'least', 'most'), [(True, 0.5, 1.0), (False, 0.0, 0.0)])
def test_waiting_counts_only_while_devices_are_idle(ready, least, most):
  clock = train._Clock(0)
  with clock.waiting({'loss': _Value(ready)}):
    time.sleep(0.05)
  assert least <= clock.lap(1, 8)['input_wait'] <= most
