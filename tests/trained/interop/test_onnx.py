"""ONNX models in onnxruntime make our images and logits."""

import json
import pkgutil
import sys

import jax
import numpy as np
import pytest
from conftest import LIKE_OTHERS, narrow

import configs
from benchmarks import exports
from dcgan_jax.core.models import to_pixels
from dcgan_jax.errors import InputError
from dcgan_jax.trained.interop import onnx

PRESETS = sorted(module.name for module in pkgutil.iter_modules(configs.__path__))
VARIANTS = {
  'bilinear': {'generator.upsample': 'bilinear', 'generator.kernel_size': 5},
  'filtered': {'generator.upsample': 'filtered', 'data.classes': 3, 'generator.condition': 'norm'},
  'filtered_crops': {
    'generator.upsample': 'filtered',
    'generator.kernel_size': 7,
    'generator.padding': 'symmetric',
    'generator.strides': (3, 1, 2),
    'discriminator.strides': (1, 3, 2),
    'data.image_size': (18, 12),
  },
  'bilinear_symmetric': {
    'generator.upsample': 'bilinear',
    'generator.padding': 'symmetric',
    'generator.strides': (3, 1, 2),
    'discriminator.strides': (1, 3, 2),
    'data.image_size': (18, 12),
  },
  'oblong': {'data.image_size': (16, 24), 'generator.use_bias': True, 'generator.dense_norm': 'unit'},
  'kernel_1': {'generator.kernel_size': 1, 'discriminator.kernel_size': 1},
  'kernel_3': {'generator.kernel_size': 3, 'discriminator.kernel_size': 3, 'generator.padding': 'symmetric'},
  'no_norm': {'generator.norm': (False,) * 3, 'discriminator.norm': (False,) * 3, 'generator.leak': 0.1},
  'classes': {'data.classes': 3, 'generator.dense_widths': (7, 5), 'discriminator.dense_widths': (6,)},
  'embedding': {'data.classes': 3, 'generator.condition': 'embedding', 'discriminator.packing': 2},
  'class_norm': {'data.classes': 3, 'generator.condition': 'norm', 'generator.dense_widths': (7,)},
  'class_norm_of_units': {
    'data.classes': 3,
    'generator.condition': 'norm',
    'generator.dense_norm': 'unit',
    'generator.upsample': 'bilinear',
    'generator.use_bias': True,
  },
  'packing': {
    'discriminator.packing': 2,
    'discriminator.spectral_norm': True,
    'discriminator.use_bias': True,
  },
  'packed_classes': {
    'data.classes': 3,
    'discriminator.condition': 'concat',
    'discriminator.packing': 2,
    'discriminator.spectral_norm': True,
    'discriminator.dense_widths': (9,),
  },
}


def cases():
  """Yields the settings of all presets, those of the same networks once, and of the variants."""
  presets = {}
  for name in PRESETS:
    chosen = narrow(name)
    networks = chosen.generator, chosen.discriminator, chosen.data.size, chosen.data.channels
    presets.setdefault(networks, []).append((name, chosen))
  for same in presets.values():
    names = [name for name, _ in same]
    marks = [pytest.mark.nightly(1)] if {*names} <= LIKE_OTHERS else []
    yield pytest.param(same[0][1], id='='.join(names), marks=marks)
  for name, overrides in VARIANTS.items():
    yield pytest.param(narrow('cifar10_32', overrides), id=name)


def run(model, **inputs):
  """Runs a model in onnxruntime and returns its only output."""
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
  (output,) = session.run(None, {name: np.asarray(x, np.float32) for name, x in inputs.items()})
  return output


@pytest.mark.slow
@pytest.mark.parametrize('chosen', list(cases()))
def test_images_and_logits_are_ours(chosen):
  gan, variables = exports.random_networks(chosen)
  z = exports.random_latents(gan, 4)
  want = np.asarray(jax.jit(gan.generator.apply)(variables['generator'], z))
  assert 0.1 < want.std() < 0.9
  model = onnx.generator_bytes(gan.generator, variables['generator'], gan.latents.width)
  got = run(model, z=z)
  assert got.dtype == np.float32 and got.shape == want.shape
  np.testing.assert_allclose(got, want, atol=1e-5)
  inputs, classes = {'images': want}, ()
  if gan.latents.classes:
    classes = (np.eye(gan.latents.classes, dtype=np.float32)[[0, 2, 1, 1]],)
    inputs['classes'] = classes[0]
  logits = np.asarray(jax.jit(gan.discriminator.apply)(variables['discriminator'], want, *classes)[0])
  model = onnx.discriminator_bytes(gan.discriminator, variables['discriminator'], want.shape[1:])
  got = run(model, **inputs)
  assert got.shape == logits.shape and logits.std() > 1e-3
  np.testing.assert_allclose(got, logits, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope='module')
def example():
  """A generator that is told classes, its variables, latents and its images."""
  gan, variables = exports.random_networks(narrow('mnist_conditional'))
  z = exports.random_latents(gan, 3)
  return gan, variables['generator'], z, np.asarray(jax.jit(gan.generator.apply)(variables['generator'], z))


def test_kernels_of_half_the_size(example):
  """Stores kernels as float16, also where batch norm makes them tiny or huge; pixels move by 1 at most."""
  gan, variables, z, images = example
  params, stats = dict(variables['params']), dict(variables['batch_stats'])
  for norm, factor in (('norm0', 1e6), ('hidden_norm1', 1e-7)):
    layer = dict(gan.generator.norms)[norm]
    params[layer] = {'kernel': params[layer]['kernel'] * factor}
    stats[norm] = {'mean': stats[norm]['mean'] * factor, 'var': stats[norm]['var'] * factor**2}
  variables = {'params': params, 'batch_stats': stats}
  images = np.asarray(jax.jit(gan.generator.apply)(variables, z))
  models = [onnx.generator_bytes(gan.generator, variables, gan.latents.width, half) for half in (False, True)]
  np.testing.assert_allclose(run(models[0], z=z), images, atol=1e-5)
  got = run(models[1], z=z)
  assert 1e-6 < np.abs(got - images).max() < 1 / 127.5
  assert np.abs(np.int64(to_pixels(got)) - np.int64(to_pixels(images))).max() == 1
  assert len(models[1]) < 0.6 * len(models[0])


def test_any_batch_size_and_metadata(example):
  library = pytest.importorskip('onnx')
  gan, variables, z, images = example
  names = json.dumps(['<script>', 'ä'])
  model = onnx.generator_bytes(gan.generator, variables, gan.latents.width, metadata={'classes': names})
  for num in (1, 2):
    np.testing.assert_allclose(run(model, z=z[:num]), images[:num], atol=1e-5)
  read = library.load_from_string(model)
  assert {prop.key: prop.value for prop in read.metadata_props} == {'classes': names}
  assert (read.opset_import[0].version, read.ir_version) == (13, 7)
  library.checker.check_model(read, full_check=True)
  assert read.SerializeToString(deterministic=True) == model


def test_without_the_package(example, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnx', None)
  with pytest.raises(InputError, match=r"needs the package onnx; pip install -e '\.\[export\]'"):
    onnx.generator_bytes(example[0].generator, example[1], example[0].latents.width)
