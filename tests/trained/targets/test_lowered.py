"""The train step of every preset as GPUs and TPUs get it: what is wrong here is slow there.

Nothing is compiled, so it takes neither such a device nor its compiler.
"""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import LIKE_OTHERS, ROOT
from jax.sharding import Mesh

from dcgan_jax import settings
from dcgan_jax.command_line import shared
from dcgan_jax.devices import placement
from dcgan_jax.runs import experiment
from dcgan_jax.trained.targets import programs, report

PRESETS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem[0] not in '_')
PRESETS.remove('base')  # It has keys that belong to no data.
QUICK = {'digits', 'mnist'}  # All presets take half a minute.
MARKS = {name: pytest.mark.nightly(2) if name in LIKE_OTHERS else pytest.mark.slow(2) for name in PRESETS}
FOLDERS = {name for name in PRESETS if name.startswith('image_folder')}
N = 50_021  # images: no other size in a program is this prime
# Convolutions of a kernel's gradient, in the form that cuDNN and the TPU's compiler know.
PLAIN_KERNEL_GRADIENT = 'dim_numbers = [f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]'


def chosen(name):
  """Returns the settings of a preset; those for a folder of images need its name."""
  if name not in FOLDERS:
    return shared.preset(name)
  config = __import__(f'configs.{name}', fromlist=['get_config']).get_config()
  config.data.source = f'folder:{Path.cwd()}'
  return settings.check(config)


def lowered(name, devices, *platforms, **train):
  """Returns the lowered train step of a preset for each platform, and the type of its data set."""
  mesh = Mesh(np.array(jax.devices()[:devices]), (placement.AXIS,))
  settings_of_run = chosen(name)
  parts = experiment.build(
    dataclasses.replace(settings_of_run, train=dataclasses.replace(settings_of_run.train, **train))
  )
  with jax.numpy_dtype_promotion('standard'):  # Optax mixes int32 with float32.
    arguments = report.step_arguments(parts, mesh, N)
    # What nobody uses is dropped here from a single step, and from a loop only by the compiler.
    traced = parts.train_program(mesh).trace(*arguments)
    texts = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in platforms]
  (images,) = [leaf for leaf in jax.tree.leaves(arguments[1]) if leaf.dtype == np.uint8]
  return texts, 'x'.join(map(str, images.shape)) + 'xui8'


def small_layers(network, size):
  """Returns how many layers have features that are smaller than the kernel, from images of so many pixels."""
  features = [size // np.prod(network.strides[:i]) for i in range(1, len(network.strides) + 1)]
  return sum(feature < network.kernel_size and s > 1 for feature, s in zip(features, network.strides))


def expected_convolutions(name, platform):
  """Returns how many convolutions a step has, and how many of them are the gradients of kernels.

  D's first layer needs no gradient in its image when D learns, unless a penalty is of that gradient: then
  all layers have one, and of each a convolution and a kernel's gradient are the second derivatives. A
  relativistic G looks at real images, too. With one_per_batch, each of the two branches also has the
  forward passes that the other network's metrics are of. For layers with small features, a GPU computes
  transposes and gradients of kernels as products of matrices.
  """
  preset = chosen(name)
  train, (size, _) = preset.train, preset.data.size
  g, d = len(preset.generator.widths), len(preset.discriminator.widths)
  generator = {'forward': g, 'update': 2 * d + 2 * g}  # Forward and back through D, back through G.
  discriminator = 2 * (d + (d - 1) + d)  # Real images and fakes: forward, in the image, in the kernel.
  kernel_gradients = g + 2 * d
  if train.r1 and train.r2:
    discriminator += 2 * 3 * d
    kernel_gradients += 2 * d
  total = generator['forward'] * (1 + train.fresh_z) + generator['update'] + discriminator
  total += d * (train.loss == 'relativistic')
  if train.order == 'one_per_batch':
    total += d + 2 * d
  if platform != 'cuda':
    return total, kernel_gradients
  generator = dataclasses.replace(preset.generator, strides=preset.generator.strides[::-1])
  small_g, small_d = small_layers(generator, size), small_layers(preset.discriminator, size)
  assert not (small_d and train.r1)
  products = small_g + 2 * small_d
  total -= products + (1 + train.fresh_z) * small_g + 3 * small_d
  return total, kernel_gradients - products


@pytest.mark.parametrize(
  'name', [name if name in QUICK else pytest.param(name, marks=MARKS[name]) for name in PRESETS]
)
def test_lowered_train_step(name):
  platforms = 'cuda', 'tpu'
  texts, images = lowered(name, 1, *platforms)
  for platform, text in zip(platforms, texts):
    total, kernel_gradients = expected_convolutions(name, platform)
    assert text.count('stablehlo.convolution') == total
    assert text.count(PLAIN_KERNEL_GRADIENT) == kernel_gradients
    assert 'fft' not in text and 'float64' not in text
    assert programs.uses(text, images) == {'gather': 1}


@pytest.mark.slow(2)
def test_lowered_train_step_of_several_devices():
  texts, images = lowered('digits', 4, 'cuda', 'tpu')
  for text in texts:
    total, kernel_gradients = expected_convolutions('digits', 'tpu')
    assert text.count('stablehlo.convolution') == total
    assert text.count(PLAIN_KERNEL_GRADIENT) == kernel_gradients
    assert programs.uses(text, images) == {'gather': 1}
    gradients = re.findall(r'"stablehlo.all_reduce"\(%\w+\)', text)
    assert len(gradients) == text.count('"stablehlo.all_reduce"')


@pytest.mark.slow(2)
def test_precision_of_products():
  texts = [lowered('digits', 1, 'cuda', matmul_precision=value)[0][0] for value in ('default', 'highest')]
  products = [len(re.findall(r'stablehlo\.(?:convolution|dot_general)', text)) for text in texts]
  assert products[0] == products[1] > 20
  assert [text.count('HIGHEST') for text in texts] == [0, 2 * products[1]]


def test_a_cpu_gets_other_forms():
  """Shows that the counts above can fail."""
  (text,), _ = lowered('digits', 1, 'cpu')
  assert text.count('stablehlo.convolution') != expected_convolutions('digits', 'tpu')[0]
  assert PLAIN_KERNEL_GRADIENT not in text
