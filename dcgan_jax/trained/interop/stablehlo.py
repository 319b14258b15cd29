"""Networks as StableHLO, which JAX runs without this project's code.

The programs are for CPUs, CUDA and TPUs, and for any number of images. They have the plain form of the
convolutions, which all platforms compile, and float32 products everywhere, so that all make the same images.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export

from dcgan_jax.core.models import Discriminator, Generator

PLATFORMS = ('cpu', 'cuda', 'tpu')


def generator_bytes(generator: Generator, variables: Mapping[str, Any], width: int) -> bytes:
  """Returns the program z, float32 [B, width] -> images, float32 [B, H, W, C], with its weights, serialized.

  Args:
    generator: The generator.
    variables: 'params' and 'batch_stats' of the network.
    width: Length of its input for each image, see `Latents.width`.
  """
  generator = generator.clone(fast_conv=False)

  def make(z: Array) -> Any:
    return generator.apply(variables, z)

  return _serialized(make, ('batch', width))


def discriminator_bytes(
  discriminator: Discriminator, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> bytes:
  """Returns the program images, float32 [B, H, W, C] -> logits, float32 [B / packing], serialized.

  A conditional one takes classes as a second argument, float32 [B, classes], one-hot; zeros mean no class.

  Args:
    discriminator: The discriminator.
    variables: 'params' and 'batch_stats' of the network.
    image_shape: Height, width and channels.
  """
  discriminator = discriminator.clone(fast_conv=False)

  def judge(images: Array, classes: Array | None = None) -> Array:
    return discriminator.apply(variables, images, classes)[0]

  batch = 'batch' if discriminator.packing == 1 else f'{discriminator.packing}*packs'
  classes = [(batch, discriminator.classes)] if discriminator.classes else []
  return _serialized(judge, (batch, *image_shape), *classes)


def _serialized(function: Any, *shapes: tuple[int | str, ...]) -> bytes:
  """Returns a function of float32 arrays, serialized; text in their shapes is symbolic."""
  scope = export.SymbolicScope()
  arguments = [
    jax.ShapeDtypeStruct(export.symbolic_shape(','.join(map(str, shape)), scope=scope), jnp.float32)
    for shape in shapes
  ]
  with jax.default_matmul_precision('highest'):
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).serialize())
