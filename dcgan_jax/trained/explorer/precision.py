"""The effect of float16 kernels on a generator's images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.core import compiling
from dcgan_jax.core.models import Generator
from dcgan_jax.trained.interop.onnx import graph

CHECKED = 64  # latents whose images are compared
# Largest difference of images in float16 and float32, in units of a pixel's 255 steps. Below 1 no pixel can
# differ by two after rounding; the margin is for other orders of summation in browsers.
MOST = 0.75


def largest_difference(generator: Generator, variables: Any, z: np.ndarray) -> float:
  """Returns how much images change if kernels are rounded as by `onnx.generator_bytes` with `half`.

  Args:
    generator: The generator.
    variables: 'params' and 'batch_stats' of the network.
    z: Latents, float32 [N, width].

  Returns:
    The largest difference, in units of a pixel's 255 steps; infinite or not a number if float16 overflows.
  """
  generate = compiling.jit(generator.apply)
  halved = variables | {'params': _halved(generator, variables['params'])}
  return float(jnp.abs(generate(halved, z) - generate(variables, z)).max()) * 127.5


def _halved(generator: Generator, params: Any) -> Any:
  """Returns parameters with rounded kernels, see `graph.halved`.

  A batch norm goes into the units, which are not rounded.
  """

  def halve(path: Any, kernel: np.ndarray) -> np.ndarray:
    layer, name = (part.key for part in path)
    if name != 'kernel':
      return kernel
    transposed = layer.startswith('conv') and generator.upsample != 'bilinear'
    rounded, unit = graph.halved(kernel, 2 if transposed else kernel.ndim - 1)
    return rounded.astype(np.float32) * unit

  return jax.tree_util.tree_map_with_path(halve, jax.tree.map(np.asarray, params))
