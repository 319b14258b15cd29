"""Programs in StableHLO make our images and logits, for any number of them, on every platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow
from jax import export

from benchmarks import exports
from dcgan_jax.trained.interop import stablehlo

OVERRIDES = {
  'bilinear': {'generator.upsample': 'bilinear', 'discriminator.spectral_norm': True},
  'classes': {'data.classes': 3, 'discriminator.packing': 2, 'discriminator.condition': 'concat'},
}


@pytest.mark.parametrize('overrides', OVERRIDES.values(), ids=OVERRIDES)
def test_images_and_logits_are_ours(overrides):
  gan, variables = exports.random_networks(narrow('digits', overrides))
  z = exports.random_latents(gan, 4)
  want = np.asarray(jax.jit(gan.generator.apply)(variables['generator'], z))
  program = export.deserialize(
    bytearray(stablehlo.generator_bytes(gan.generator, variables['generator'], gan.latents.width))
  )
  assert program.platforms == ('cpu', 'cuda', 'tpu')
  assert str(program.in_avals[0].shape) == f'(batch, {gan.latents.width})'
  assert want.std() > 0.1
  for num in (4, 2):
    np.testing.assert_allclose(program.call(jnp.asarray(z[:num])), want[:num], atol=1e-5)
  classes = (np.eye(3, dtype=np.float32)[[0, 2, 1, 1]],) if gan.latents.classes else ()
  logits = np.asarray(jax.jit(gan.discriminator.apply)(variables['discriminator'], want, *classes)[0])
  judge = export.deserialize(
    bytearray(stablehlo.discriminator_bytes(gan.discriminator, variables['discriminator'], want.shape[1:]))
  )
  got = judge.call(jnp.asarray(want), *map(jnp.asarray, classes))
  assert got.shape == (4 // gan.discriminator.packing,) and logits.std() > 1e-3
  np.testing.assert_allclose(got, logits, atol=1e-5, rtol=1e-5)


def test_products_are_of_full_precision_on_every_platform():
  """Finds the word in each product, because a GPU and a TPU would otherwise round its factors."""
  gan, variables = exports.random_networks(narrow('digits'))
  program = export.deserialize(
    bytearray(stablehlo.generator_bytes(gan.generator, variables['generator'], gan.latents.width))
  )
  lines = str(program.mlir_module()).splitlines()
  products = [line for line in lines if 'stablehlo.convolution' in line or 'stablehlo.dot_general' in line]
  assert len(products) >= 3 and all(line.count('HIGHEST') == 2 for line in products)
