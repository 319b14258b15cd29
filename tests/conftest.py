"""For every test: four CPU devices, no implicit dtype promotion; pyproject makes warnings errors."""

import atexit
import os
import pathlib
import shutil
import tempfile
import warnings

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_DTYPE_PROMOTION'] = 'strict'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + (
  ' --xla_force_host_platform_device_count=4'
  ' --xla_backend_optimization_level=0'  # halves the time to compile, which is what tests spend
)
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ['DCGAN_JAX_CACHE'] = tempfile.mkdtemp(prefix='dcgan_jax_tests_')

import hypothesis
import jax
import numpy as np
import optax
import pytest

from benchmarks import inception_parity
from dcgan_jax import checkpoints
from dcgan_jax.commands import build, workdir
from dcgan_jax.models import Discriminator, Generator

atexit.register(shutil.rmtree, os.environ['DCGAN_JAX_CACHE'], True)
hypothesis.settings.register_profile('ours', deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile('ours')


ROOT = pathlib.Path(__file__).parents[1]
TINY = [
  '--config=configs/digits.py',
  '--config.data.image_size=8',
  '--config.generator.widths=(8,6)',
  '--config.discriminator.widths=(6,8)',
  '--config.discriminator.dropout=0.2',
  '--config.generator.initializer=glorot',  # images that are not all gray from the start
  '--config.latent.size=10',
  '--config.train.batch_size=16',
  '--config.train.num_steps=24',
  '--config.log.every_steps=4',
  '--config.log.tensorboard=False',
  '--config.sample.every_steps=8',
  '--config.sample.num=9',
  '--config.checkpoint.every_steps=8',
]


def environment(devices=1, optimized=False):
  """Of a process that is started as a user would, with so many devices."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  flags += '' if optimized else ' --xla_backend_optimization_level=0'
  return os.environ | {'XLA_FLAGS': flags, 'JAX_NUMPY_DTYPE_PROMOTION': 'standard'}


def state_of(folder, step):
  """A checkpoint of a run."""
  config = workdir.read_config(folder)
  return checkpoints.restore(folder / 'checkpoints', step, jax.eval_shape(build.initial_state(config)))


def assert_same_state(a, b, step):
  """Of two runs, bit for bit."""
  jax.tree.map(np.testing.assert_array_equal, state_of(a, step), state_of(b, step))


def import_torchvision():
  """For the ports of scores, which need it and SciPy."""
  pytest.importorskip('scipy')
  inception_parity.complete_torchvision()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return pytest.importorskip('torchvision')


def lenient(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """optax itself mixes int32 with float32: strictness is for our code."""

  def update(*arguments):
    with jax.numpy_dtype_promotion('standard'):
      return optimizer.update(*arguments)

  return optax.GradientTransformation(optimizer.init, update)


@pytest.fixture(scope='session')
def tiny() -> tuple[Generator, Discriminator]:
  """Networks small enough to compile and run in a moment, with everything the presets have."""
  generator = Generator(
    widths=(8, 6), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(8, 8), channels=1
  )
  discriminator = Discriminator(widths=(6, 8), strides=(2, 2), norm=(False, True), dropout=0.2)
  return generator, discriminator


@pytest.fixture
def tfds_data() -> str:
  """The folder of prepared tfds data sets, where there is one."""
  folder = os.environ.get('TFDS_DATA_DIR')
  if not folder or not os.path.isdir(os.path.join(folder, 'mnist')):
    pytest.skip('TFDS_DATA_DIR does not point at a prepared MNIST')
  return folder
