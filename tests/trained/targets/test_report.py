import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from configs import cifar10, digits, mnist_conditional
from dcgan_jax import settings
from dcgan_jax.data import feed
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment
from dcgan_jax.trained.targets import names, programs, report, topology
from dcgan_jax.trained.targets.report import Images, Report

pytestmark = pytest.mark.usefixtures('standard_promotion')


def small(**train):
  """Returns the settings of a small run on the digits."""
  config = digits.get_config()
  config.data.image_size = (8, 8)
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.latent.size = 10
  config.train.batch_size = 16
  config.train.update(train)
  return settings.check(config)


@pytest.fixture(scope='module')
def made():
  """The report of a small run on the four CPU devices of the tests."""
  parts, target = experiment.build(small()), names.parse('cpu')
  with jax.numpy_dtype_promotion('standard'):
    return report.measure(parts, target, topology.mesh(target), report.find_images(parts, None))


@pytest.mark.slow
def test_what_a_step_takes_of_each_device(made):
  state = experiment.build(small()).shapes
  assert made.state == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  assert made.data == 1797 * 64 + 200 * 16 * 4 + 4  # The images, and their order in 200 steps.
  assert made.temporaries > 0 and made.total > made.state + made.data + made.temporaries
  assert made.devices == 4 and made.memory == made.target.memory * 2**20 // 4 and made.fits
  assert made.collectives[0].kind == 'all-reduce' and not made.copies and not made.branches
  assert made.flops > 1e5 and made.products > 0


@pytest.mark.slow(1)
def test_report_of_this_machine(call_main, monkeypatch, made):
  chosen = small()
  monkeypatch.setattr(settings, 'check', lambda config: chosen)
  monkeypatch.setattr(report, 'measure', lambda *arguments: made)
  status, printed, error = call_main('--mode=summary', '--config=configs/digits.py', '--target=cpu')
  assert (status, error) == (0, '')
  assert printed.startswith('Train step of 16 images on cpu: 4 devices, 4 images on each')
  assert '(1,797 images, counted in digits)' in printed and '(fits: each device has' in printed


@pytest.mark.slow(1)
def test_what_does_not_fit_is_an_error(monkeypatch, capsys, made):
  monkeypatch.setattr(report, 'measure', lambda *arguments: dataclasses.replace(made, total=2**50))
  with pytest.raises(InputError, match=r'--target=cpu: a step takes .* MiB of each device, which has '):
    report.run(small(), names.parse('cpu'), 10_000, 1)
  assert 'does not fit' in capsys.readouterr().out


def test_a_batch_that_cannot_be_divided_is_refused_before_compiling(monkeypatch):
  monkeypatch.setattr(report, 'measure', None)
  with pytest.raises(InputError, match=r'train.batch_size=18: not divisible by the 4 devices'):
    report.run(small(batch_size=18), names.parse('cpu'), 100, 1)


def test_images_are_counted_assumed_or_said(monkeypatch, tmp_path, pictures_folder):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  assert report.find_images(experiment.build(small()), None) == Images(1797, 64, 'counted in digits', False)
  config = cifar10.get_config()
  config.data.memory_limit = 12
  parts = experiment.build(settings.check(config))
  origin = 'tfds:cifar10 is not on this machine: as many as data.memory_limit=12 holds'
  assert report.find_images(parts, None) == Images(1024, 12_288, origin, False)
  assert report.find_images(parts, 1025) == Images(1025, 12_288, 'by --num', True)
  for source, count in ((f'folder:{pictures_folder}', 9), ('stacked:tfds:mnist', 128_000)):
    config.data.source = source
    config.data.memory_limit = 4096
    found = report.find_images(experiment.build(settings.check(config)), None)
    assert (found.count, found.origin) == (count, f'counted in {source}')
  config.data.source = 'folder:nowhere'
  assert 'not on this machine' in report.find_images(experiment.build(settings.check(config)), None).origin


def test_arguments_of_the_step_lie_where_a_run_puts_them():
  mesh = placement.mesh()
  parts = experiment.build(settings.check(mnist_conditional.get_config()))
  state, batches = report.step_arguments(parts, mesh, 500)
  assert jax.tree.structure(state) == jax.tree.structure(parts.shapes)
  assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves((state, batches.examples)))
  assert batches.examples.classes.shape == (500,) and batches.examples.images.shape == (500, 28 * 28)
  assert batches.window.rows.shape == (feed.HUNDRED, 128)
  _, mapped = report.step_arguments(parts, mesh, None)
  assert mapped.window is None and mapped.examples.images.shape == (128, 28, 28, 1)
  assert not mapped.examples.classes.sharding.is_fully_replicated


def test_compilers_errors_are_the_users(monkeypatch):
  class Lowered:
    def __init__(self, text):
      self.text = text

    def compile(self):
      raise jax.errors.JaxRuntimeError(self.text)

  target = names.parse('cpu')
  with pytest.raises(InputError, match='--target=cpu: a step does not fit: RESOURCE_EXHAUSTED: Used 20G of'):
    report._compile(Lowered('RESOURCE_EXHAUSTED: Used 20G\nof 15G'), target)
  with pytest.raises(InputError, match='needs ptxas'):
    report._compile(Lowered('UNAVAILABLE: No PTX compilation provider is available.'), target)
  with pytest.raises(jax.errors.JaxRuntimeError):
    report._compile(Lowered('INTERNAL: a bug'), target)


def test_a_machine_that_the_compiler_does_not_know(monkeypatch):
  def refuse(**description):
    assert description == {'platform': 'tpu', 'topology_name': 'v5e:1x1', 'chips_per_host_bounds': [1, 1, 1]}
    raise jax.errors.JaxRuntimeError('INVALID_ARGUMENT: Invalid TPU\nname')

  monkeypatch.setattr(topology.topologies, 'get_topology_desc', refuse)
  monkeypatch.setattr(jax.config, 'update', lambda name, value: None)
  target = names.Target('v5e:1x1', 'v5e', 'tpu', (1, 1), 16_384)
  with pytest.raises(InputError, match=r'--target=v5e:1x1: the installed compiler .* INVALID_ARGUMENT: '):
    topology.mesh(target)


def test_gpus_are_described_by_the_text_of_the_package(monkeypatch):
  asked = []

  def describe(**description):
    asked.append(description)
    return topology.topologies.TopologyDescription(jax.devices()[:2])

  monkeypatch.setattr(topology.topologies, 'get_topology_desc', describe)
  monkeypatch.setattr(jax.config, 'update', lambda name, value: None)
  mesh = topology.mesh(names.Target('h100:2', 'h100', 'gpu', (2,), 81_559))
  assert mesh == Mesh(np.array(jax.devices()[:2]), (placement.AXIS,))
  assert asked[0]['topology'] == '1x1x2' and 'NVIDIA H100 80GB HBM3' in asked[0]['target_config']


def test_text_of_a_report():
  target = names.Target('v5e:2x4', 'v5e', 'tpu', (2, 4), 16_384)
  images = Images(50_000, 12_288, 'by --num', False)
  mib = 2**20
  made = Report(
    target=target,
    images=images,
    batch=128,
    devices=8,
    steps=10,
    state=73 * mib,
    data=586 * mib,
    temporaries=100 * mib,
    code=mib // 2,
    total=20_000 * mib,
    flops=None,
    convolutions={'in a fusion': 42},
    products=2,
    collectives=[programs.Counted('all-reduce', 23, 24 * mib)],
    copies=[programs.Counted('copy', 1, 586 * mib)],
    branches=0,
  )
  text = report.to_text(made)
  for part in (
    'on v5e:2x4: 8 devices, 16 images on each',
    'one program takes 10 steps',
    'does not fit: each device has 16,384',
    '42 in a fusion',
    '24.0 MiB in all',
    'copy of data',
    'unknown',
  ):
    assert part in text
  assert not made.fits and 'are streamed' in report.to_text(
    dataclasses.replace(made, images=dataclasses.replace(images, streamed=True))
  )
  gpu = names.Target('h100', 'h100', 'gpu', (1,), 81_559)
  close = dataclasses.replace(made, target=gpu, total=70_000 * mib)
  assert close.fits and 'XLA_PYTHON_CLIENT_MEM_FRACTION' in report.to_text(close)
  assert 'MEM_FRACTION' not in report.to_text(dataclasses.replace(close, total=90_000 * mib))
