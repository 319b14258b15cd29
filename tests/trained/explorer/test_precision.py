"""What float16 kernels change."""

import jax
import numpy as np
import pytest

from dcgan_jax.core.models import Generator
from dcgan_jax.trained.explorer import precision
from dcgan_jax.trained.interop import onnx

G = Generator((8, 6), (2, 2), (True, True), image_size=(8, 8), channels=1, initializer='glorot')


@pytest.mark.parametrize(
  'generator',
  [
    G,
    G.clone(upsample='bilinear', dense_norm='unit'),
    G.clone(classes=3, condition='embedding', dense_widths=(7,)),
  ],
  ids=['transposed', 'bilinear', 'embedding'],
)
def test_it_is_what_the_exported_model_differs_by(generator):
  """Compares with the two models in onnxruntime, whose differences are the same up to the order of sums."""
  pytest.importorskip('onnx')
  runtime = pytest.importorskip('onnxruntime')
  width = 5 + generator.classes
  z = np.random.default_rng(0).standard_normal((16, width)).astype(np.float32)
  variables = jax.tree.map(np.asarray, jax.jit(generator.init)(jax.random.key(0), z))
  draw = np.random.default_rng(1).uniform
  variables |= {
    'batch_stats': jax.tree.map(lambda x: draw(0.2, 3, x.shape).astype(np.float32), variables['batch_stats'])
  }
  made = [
    runtime.InferenceSession(onnx.generator_bytes(generator, variables, width, half)).run(None, {'z': z})[0]
    for half in (False, True)
  ]
  want = abs(made[0] - made[1]).max() * 127.5
  assert want > 1e-3
  assert abs(precision.largest_difference(generator, variables, z) - want) < 1e-3 * max(want, 0.1)


def test_kernels_that_were_rounded_before_stay_as_they_are():
  """The models of this repository have float16 kernels, and their pages draw the same pictures."""
  z = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
  variables = jax.tree.map(np.asarray, jax.jit(G.init)(jax.random.key(0), z))
  assert precision.largest_difference(G, variables, z) > 1e-3
  rounded = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), variables['params'])
  assert precision.largest_difference(G, variables | {'params': rounded}, z) == 0
