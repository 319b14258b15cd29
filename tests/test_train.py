"""The pieces of the training loop; the loop itself is run by test_main."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import lenient
from jax.sharding import Mesh

from configs import base, cifar10, digits
from dcgan_jax import data, programs, state, steps
from dcgan_jax.commands import build, train
from dcgan_jax.losses import LOSSES


@pytest.mark.parametrize('devices', [1, 4])
def test_several_steps_in_one_program_are_those_steps(tiny, devices):
  """Gathered on the devices from the whole data set, or given: the same batches, the same metrics."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (programs.AXIS,))
  optimizer = lenient(state.make_optimizer(1e-3))
  axis = programs.mesh_axis(mesh)
  run = programs.compile_steps(
    steps.make_train_step(*tiny, optimizer, optimizer, LOSSES['hinge'], z_size=5, axis_name=axis), mesh
  )
  create = jax.jit(lambda: state.create(*tiny, optimizer, optimizer, 5, 0))
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8))
  indices = np.random.default_rng(1).integers(0, 20, (3, 8), np.int32)

  together, metrics = run(create(), programs.Batches(images, indices))
  assert int(together.step) == 3 and metrics['loss_d'].shape == (3,)
  single = create()
  for i in range(3):
    single, values = run(single, programs.Batches(None, images[indices[i]][None]))
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


def _learn(config, num_steps=60):
  """Mean losses of the last 20 of some steps on the digits."""
  generator, discriminator = build.networks(config)
  optimizer = lenient(state.make_optimizer(5e-4))
  step = steps.make_train_step(
    generator, discriminator, optimizer, optimizer, LOSSES['non_saturating'], z_size=10
  )
  now = jax.jit(lambda: state.create(generator, discriminator, optimizer, optimizer, 10, 0))()
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((8, 8), 1)), 'digits')
  indices = np.stack([data.batch_indices(0, i, 32, len(images)) for i in range(num_steps)])
  mesh = Mesh(np.array(jax.devices()[:1]), (programs.AXIS,))
  _, metrics = programs.compile_steps(step, mesh)(now, programs.Batches(jnp.asarray(images), indices))
  return np.array([metrics['loss_d'][-20:].mean(), metrics['loss_g'][-20:].mean()]), metrics['loss_d']


def test_bfloat16_and_plain_convolutions_learn_alike():
  """D's loss falls by the same, whatever the arithmetic; `benchmarks/curves.py` does this at length."""
  config = digits.get_config()
  config.data.image_size = (8, 8)
  config.generator.widths, config.discriminator.widths = (16, 32), (32, 32)
  want, losses = _learn(config)
  assert want[0] < losses[0] - 0.08
  with jax.numpy_dtype_promotion('standard'):  # Flax's batch norm mixes float32 statistics with bfloat16
    for key, value in (('fast_conv', False), ('dtype', 'bfloat16')):
      other = config.copy_and_resolve_references()
      other.train[key] = value
      np.testing.assert_allclose(_learn(other)[0], want, rtol=0.01)
