"""Shared helpers, four CPU devices and strict dtype promotion for all tests."""
# ruff: noqa: E402  # JAX reads the environment when it is imported.

import atexit
import collections
import contextlib
import functools
import gc
import importlib.metadata
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import warnings

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_DTYPE_PROMOTION'] = 'strict'
# Tests spend their time compiling, and the second flag saves half of it. XLA ends a process that gives it a
# flag which it does not know, and later versions do not know the second.
COMPILE_FAST = ' --xla_backend_optimization_level=0'
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  COMPILE_FAST += ' --xla_cpu_use_fusion_emitters=false'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4' + COMPILE_FAST
)
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
if 'PYTEST_XDIST_WORKER' not in os.environ:  # Its workers share what pytest's own process has made.
  os.environ['DCGAN_JAX_CACHE'] = tempfile.mkdtemp(prefix='dcgan_jax_tests_')
# Many tests compile the same programs, and so do the processes that they start. Each worker has a folder of
# its own, because JAX may read files that another process is still writing; XLA's caches would make programs
# depend on its name.
PROGRAMS = pathlib.Path(
  os.environ['DCGAN_JAX_CACHE'], f'programs of {os.environ.get("PYTEST_XDIST_WORKER", "alone")}'
)
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(PROGRAMS)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES'] = 'none'

import forked
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import main
from configs import digits
from dcgan_jax import settings
from dcgan_jax.core import norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.regularizers import PENALTIES, Penalty
from dcgan_jax.core.train_state import Gan
from dcgan_jax.media import pictures
from dcgan_jax.records import checkpoints, schedule, workdir
from dcgan_jax.runs import experiment, sampling

KEPT = pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'programs'  # those of earlier sessions
if 'PYTEST_XDIST_WORKER' not in os.environ:
  atexit.register(shutil.rmtree, os.environ['DCGAN_JAX_CACHE'], True)
  if sum(path.stat().st_size for path in KEPT.glob('*')) > 2**30:
    shutil.rmtree(KEPT)
gc.set_threshold(200_000, 50, 50)  # What tests compile are millions of objects, which it need not look at.
hypothesis.settings.register_profile('ours', deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.register_profile('thorough', deadline=None, max_examples=1000)
hypothesis.settings.load_profile('ours')


ROOT = pathlib.Path(__file__).parents[1]
# Presets that compute what another one computes, in another size.
LIKE_OTHERS = {'celeba', 'cifar10_32', 'image_folder', 'image_folder_128', 'image_folder_256', 'modern_64'}
TINY = [
  '--config=configs/digits.py',
  '--config.data.image_size=8',
  '--config.generator.widths=(8,6)',
  '--config.discriminator.widths=(6,8)',
  '--config.discriminator.dropout=0.2',
  '--config.generator.initializer=glorot',  # Its images are not all gray from the start.
  '--config.latent.size=10',
  '--config.train.batch_size=16',
  '--config.train.num_steps=24',
  '--config.log.every_steps=4',
  '--config.log.tensorboard=False',
  '--config.log.report=False',
  '--config.sample.every_steps=8',
  '--config.sample.num=9',
  '--config.checkpoint.every_steps=8',
]


def environment(devices=1, optimized=False):
  """Returns the environment of a process as a user would start it, with fake devices."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  flags += '' if optimized else COMPILE_FAST
  return os.environ | {'XLA_FLAGS': flags, 'JAX_NUMPY_DTYPE_PROMOTION': 'standard'}


def start(*arguments, devices=1, optimized=False):
  """Runs main.py in a new process; returns the finished process."""
  return forked.run([*map(str, arguments)], environment(devices, optimized))


def succeed(*arguments, **options):
  """Runs main.py, which must succeed; returns its output."""
  done = start(*arguments, **options)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def start_together(arguments, processes=2, devices=1, heartbeat=None):
  """Starts the processes of a run as by hand on each host; see `forked.Started`."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  arguments = [*arguments]
  if processes > 1:
    arguments += [f'--coordinator=127.0.0.1:{port}', f'--num_processes={processes}']
  ids = [[f'--process_id={i}'] if processes > 1 else [] for i in range(processes)]
  return [forked.Started(arguments + own, environment(devices), heartbeat) for own in ids]


def succeed_together(*arguments, **topology):
  """Runs the processes, which must succeed; returns their outputs."""
  started = start_together(arguments, **topology)
  printed = [process.communicate()[0] for process in started]
  assert [process.returncode for process in started] == [0] * len(started), printed
  return printed


def read_mp4(path):
  """Returns ffmpeg's description of a film, and its frames, uint8 [N, H, W, 3]."""
  import imageio_ffmpeg

  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # It forks beside JAX's threads, and does not close its pipes.
    about, *frames = imageio_ffmpeg.read_frames(str(path))
  width, height = about['size']
  return about, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


def state_of(folder, step):
  """Returns the state in a checkpoint of a run."""
  create = experiment.build(workdir.read_settings(folder)).initial_state
  return checkpoints.restore(folder / 'checkpoints', step, create)


def assert_same_state(a, b, step):
  """Compares the states of two runs bit for bit."""
  jax.tree.map(np.testing.assert_array_equal, state_of(a, step), state_of(b, step))


def draw_sample(folder, step, image):
  """Writes a picture among the samples of a run, whose folder is created if necessary."""
  path = workdir.sample(folder, step)
  path.parent.mkdir(parents=True, exist_ok=True)
  pictures.save_png(path, image)


def untrained_run(folder, overrides=None):
  """Writes an untrained run on the digits, which is enough to make images."""
  config = digits.get_config()
  config.data.image_size = (8, 8)
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.generator.initializer = 'glorot'  # Its images are not all gray.
  config.latent.size = 10
  chosen = settings.check(_changed(config, overrides))
  workdir.write_settings(folder, chosen)
  saver = checkpoints.Saver(folder / 'checkpoints', 1)
  saver.save(_first_state(chosen))
  saver.close()
  return folder


@functools.cache
def _first_state(chosen):
  return experiment.build(chosen).first_state()


def narrow(name, overrides=None):
  """Returns the settings of a preset by name, with narrow layers and other changes."""
  config = importlib.import_module(f'configs.{name}').get_config()
  if config.data.source == 'folder:':
    config.data.source = 'folder:anywhere'
  if name == 'base':
    config.data.channels = 1
  for network in (config.generator, config.discriminator):
    network.widths = tuple(max(3, width * 12 // max(network.widths)) for width in network.widths)
    network.dense_widths = (16,) * len(network.dense_widths)
  config.latent.size = 10
  return settings.check(_changed(config, overrides))


def digits_schedule(**changes):
  """Returns the schedule of 2,000 steps on the digits, with other keys of the config."""
  config = digits.get_config()
  config.update_from_flattened_dict(changes)
  return schedule.of_run(settings.check(config), 1797, 0, 2000)


def _changed(config, overrides):
  """Sets keys of a config, 'SECTION.KEY', and returns it."""
  for key, value in (overrides or {}).items():
    section, field = key.split('.')
    config[section][field] = value
  return config


def import_torchvision():
  """Returns torchvision, which the score ports need in addition to SciPy, or skips the test."""
  from benchmarks import inception_parity

  pytest.importorskip('scipy')
  inception_parity.complete_torchvision()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return pytest.importorskip('torchvision')


def assert_full_precision(function, *arguments):
  """Asserts that all products of a function have float32 precision in the HLO of every platform."""
  lines = jax.jit(function).lower(*arguments).as_text().splitlines()
  products = [line for line in lines if 'stablehlo.convolution' in line or 'stablehlo.dot_general' in line]
  assert products and all(line.count('HIGHEST') == 2 for line in products)


def lenient(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Returns the optimizer with implicit promotion: optax itself mixes int32 with float32."""

  def update(*arguments, **extra):
    with jax.numpy_dtype_promotion('standard'):
      return optax.with_extra_args_support(optimizer).update(*arguments, **extra)

  return optax.GradientTransformationExtraArgs(optimizer.init, update)


def gan_of(networks, optimizer: optax.GradientTransformation, z_size: int = 5, classes: int = 0) -> Gan:
  """Returns a Gan whose networks learn with the same optimizer, from normal latents."""
  return Gan(*networks, optimizer, optimizer, Latents(z_size, classes=classes))


@pytest.fixture
def few_samples(monkeypatch):
  """Few samples from which statistics are taken, in several batches."""
  monkeypatch.setattr(norm_statistics, 'SAMPLES', 64)
  monkeypatch.setattr(norm_statistics, 'BATCH_SIZE', 32)
  monkeypatch.setattr(sampling, 'BATCH_SIZE', 16)


def pytest_addoption(parser):
  """Adds the flag that runs all tests."""
  parser.addoption('--nightly', action='store_true', help='run the tests marked as nightly, too')


def pytest_collection_modifyitems(config, items):
  """Leaves out nightly tests unless they are asked for; puts files with slow tests first, the slowest ahead.

  Workers take whole files, and so they end together.
  """
  if not config.option.nightly and 'nightly' not in config.option.markexpr:
    left_out = [item for item in items if item.get_closest_marker('nightly')]
    items[:] = [item for item in items if not item.get_closest_marker('nightly')]
    config.hook.pytest_deselected(items=left_out)
  seconds = collections.Counter()
  for item in items:
    for marker in item.iter_markers():
      if marker.name in ('slow', 'nightly'):
        seconds[item.path] += marker.args[0] if marker.args else 5
  items.sort(key=lambda item: -seconds[item.path])


def pytest_sessionfinish(session, exitstatus):
  """Fails the session if a test was skipped and FAIL_ON_SKIP is set."""
  reporter = session.config.pluginmanager.get_plugin('terminalreporter')
  if exitstatus == 0 and os.environ.get('FAIL_ON_SKIP') and reporter and reporter.stats.get('skipped'):
    reporter.write_line('FAIL_ON_SKIP is set, and tests were skipped')
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope='session', autouse=True)
def compiled_programs():
  """Keeps compiled programs for the next sessions; JAX finds one by all that it is compiled from."""
  PROGRAMS.mkdir(exist_ok=True)
  for path in KEPT.glob('*-cache'):
    with contextlib.suppress(FileExistsError):
      (PROGRAMS / path.name).symlink_to(path)
  yield
  KEPT.mkdir(parents=True, exist_ok=True)
  for path in PROGRAMS.glob('*-cache'):
    if not path.is_symlink():
      part = KEPT / f'{path.name}.{os.getpid()}'
      shutil.copy(path, part)
      part.rename(KEPT / path.name)


@pytest.fixture(scope='session')
def tiny() -> tuple[Generator, Discriminator]:
  """Small networks with all features of the presets that compile and run quickly."""
  generator = Generator(
    widths=(8, 6), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(8, 8), channels=1
  )
  discriminator = Discriminator(widths=(6, 8), strides=(2, 2), norm=(False, True), dropout=0.2)
  return generator, discriminator


@pytest.fixture
def anchored(monkeypatch) -> str:
  """The name of a penalty with memory in the table, which is like LeCam's: averages of logits."""

  def value(evidence, memory):
    real, fake = evidence.real.logits, evidence.fake.logits
    penalty = jnp.square(real - memory['fake']).mean() + jnp.square(fake - memory['real']).mean()
    means = {'real': real.mean(), 'fake': fake.mean()}
    return penalty, jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, memory, means)

  monkeypatch.setitem(PENALTIES, 'anchored', Penalty(value, memory={'real': 0.0, 'fake': 0.0}))
  return 'anchored'


@pytest.fixture(scope='session')
def untrained(tmp_path_factory):
  """The workdir of an `untrained_run`; read-only."""
  return untrained_run(tmp_path_factory.mktemp('runs') / 'untrained')


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
  """A finished TINY run of the command line: (workdir, output)."""
  folder = tmp_path_factory.mktemp('runs') / 'whole'
  return folder, succeed(*TINY, f'--workdir={folder}')


@pytest.fixture(scope='session')
def digits_classifier(untrained, tmp_path_factory):
  """Trains the classifier of 8x8 digits with the optimised programs of users, and caches it."""
  folder = shutil.copytree(untrained, tmp_path_factory.mktemp('runs') / 'judged')
  succeed('--mode=evaluate', f'--workdir={folder}', '--num=10', optimized=True)


@pytest.fixture(scope='session')
def browser():
  """A headless Chromium driven by Playwright; tests are skipped without either."""
  missing = "no Chromium: apt-get install chromium and pip install -e '.[browser]'"
  playwright = pytest.importorskip('playwright.sync_api', reason=missing)
  program = shutil.which('chromium') or shutil.which('chromium-browser')
  if program is None:
    pytest.skip(missing)
  quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-gpu']
  with playwright.sync_playwright() as driver:
    started = driver.chromium.launch(
      executable_path=program, args=quiet, chromium_sandbox=os.getuid() != 0
    )  # As root it has no sandbox.
    yield started
    started.close()


@pytest.fixture
def standard_promotion():
  """Lets libraries mix dtypes, as they do where users run them."""
  with jax.numpy_dtype_promotion('standard'):
    yield


@pytest.fixture
def call_main(monkeypatch, capsys):
  """A function that runs main.main() in this process; it returns status, stdout and stderr."""
  monkeypatch.chdir(ROOT)

  def call(*arguments):
    monkeypatch.setattr(sys, 'argv', ['main.py', *map(str, arguments)])
    capsys.readouterr()
    return main.main(), *capsys.readouterr()

  return call


@pytest.fixture
def printed_by(call_main):
  """A function that runs main.main(), which must succeed and print no errors; it returns what it printed."""

  def call(*arguments):
    status, printed, error = call_main(*arguments)
    assert (status, error) == (0, '')
    return printed

  return call


@pytest.fixture
def refused(call_main):
  """A function that runs main.main(), which must refuse the arguments; it returns the error line."""

  def call(*arguments):
    status, printed, error = call_main(*arguments)
    assert status == 2 and printed == ''
    assert error.startswith('error: ') and error.count('\n') == 1, error
    return error

  return call


@pytest.fixture
def bands() -> Image.Image:
  """A picture of 30 x 10 pixels, red, green and blue from left to right."""
  pixels = np.zeros((10, 30, 3), np.uint8)
  for i in range(3):
    pixels[:, 10 * i : 10 * i + 10, i] = 255
  return Image.fromarray(pixels)


@pytest.fixture
def pictures_folder(tmp_path, bands) -> pathlib.Path:
  """A realistic folder, with pictures of all formats, broken ones and other files."""
  inner = tmp_path / 'more' / 'inside'
  inner.mkdir(parents=True)
  bands.save(tmp_path / 'a.png')
  bands.save(tmp_path / 'b.JPG')
  bands.save(inner / 'c.webp')
  bands.save(inner / 'd.bmp')
  bands.save(tmp_path / 'e.gif', save_all=True, append_images=[Image.new('RGB', bands.size)])
  bands.convert('CMYK').save(tmp_path / 'f.jpeg')
  Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / 'g.png')
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  Image.fromarray(noise).save(tmp_path / 'whole.png')
  (tmp_path / 'truncated.png').write_bytes((tmp_path / 'whole.png').read_bytes()[:3000])
  (tmp_path / 'text.jpg').write_text('no image')
  (tmp_path / 'notes.txt').write_text('no image')
  (tmp_path / 'empty.png').write_bytes(b'')
  return tmp_path


@pytest.fixture
def tfds_data() -> str:
  """The folder of prepared tfds data sets, if any."""
  folder = os.environ.get('TFDS_DATA_DIR')
  if not folder or not os.path.isdir(os.path.join(folder, 'mnist')):
    pytest.skip('TFDS_DATA_DIR does not point at a prepared MNIST')
  return folder
