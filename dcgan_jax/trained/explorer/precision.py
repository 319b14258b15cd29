"""What float16 kernels would change about a generator's images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.core import compiling
from dcgan_jax.core.models import Generator

CHECKED = 64  # latents whose images must come out alike
# Largest difference of images in float16 and float32, in units of a pixel's 255 steps. Below 1 no pixel can
# be rounded to a number two further; what is left is for other orders of sums in browsers.
MOST = 0.75


def largest_difference(generator: Generator, variables: Any, z: np.ndarray) -> float:
  """Returns how much images change if kernels are rounded as `onnx.generator_bytes` does with `half`.

  Args:
    generator: the module.
    variables: its 'params' and 'batch_stats'.
    z: latents, float32 [N, width].

  Returns:
    The largest difference, in units of a pixel's 255 steps; infinite or not a number if float16 overflows.
  """
  generate = compiling.jit(generator.apply)
  halved = variables | {'params': _halved(generator, variables['params'])}
  return float(jnp.abs(generate(halved, z) - generate(variables, z)).max()) * 127.5


def _halved(generator: Generator, params: Any) -> Any:
  """Returns parameters whose kernels are rounded, each relative to the largest weight of its output.

  The batch norm that is folded into a kernel scales all weights of an output alike, and changes nothing here.
  """

  def halve(path: Any, kernel: np.ndarray) -> np.ndarray:
    layer, name = (part.key for part in path)
    if name != 'kernel':
      return kernel
    transposed = layer.startswith('conv') and generator.upsample == 'transposed'
    axis = 2 if transposed else kernel.ndim - 1
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    unit = np.abs(kernel).max(others, keepdims=True)
    unit = np.where(unit == 0, np.float32(1), unit)
    return (kernel / unit).astype(np.float16).astype(np.float32) * unit

  return jax.tree_util.tree_map_with_path(halve, jax.tree.map(np.asarray, params))
