"""The compiler's options for networks: the one place where they are chosen."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Options = dict[str, str | int | bool]


def jit(
  function: Callable[..., Any],
  *,
  deterministic: bool = False,
  platform: str | None = None,
  runs_once: bool = False,
  **arguments: Any,
) -> jax.stages.Wrapped:
  """Returns `jax.jit(function, **arguments)` with the compiler's options that suit networks.

  Args:
    function: The function to compile.
    deterministic: Whether a GPU must repeat every bit, without atomic additions and the algorithms of cuDNN
      that use them.
    platform: 'cpu' | 'gpu' | 'tpu' to compile for; None for the default backend.
    runs_once: Whether the program runs only once, so that compiling it takes longer than running it.
    **arguments: Arguments of `jax.jit`.
  """
  platform = platform or jax.default_backend()
  options = _fast_to_compile(platform) if runs_once else _fast_to_run(platform, deterministic)
  return jax.jit(function, compiler_options=options, **arguments)


def _fast_to_compile(platform: str) -> Options:
  """Returns options for what draws the first parameters.

  On a CPU, LLVM takes seconds to optimize the random numbers of large kernels. Its lower level takes
  about half of that time, and the numbers are the same bits. A level in XLA_FLAGS is left alone.
  """
  if platform != 'cpu' or 'xla_backend_optimization_level' in os.environ.get('XLA_FLAGS', ''):
    return {}
  return {'xla_backend_optimization_level': 1}


@functools.cache
def _fast_to_run(platform: str, deterministic: bool) -> Options:
  """Returns options for convolutions.

  XLA:CPU of jaxlib 0.10 hands convolutions, matrix products and reductions to its YNN library. Its
  convolutions are slower than XLA's own, so only the other two stay there. Backends and versions without this
  option are found by compiling an empty program.
  """
  if platform == 'gpu' and deterministic:
    return {'xla_gpu_deterministic_ops': True}
  if platform != 'cpu':
    return {}
  options: Options = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE'
  }
  try:
    with jax.default_device(jax.devices('cpu')[0]):
      jax.jit(lambda: jnp.zeros(()), compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:  # This jaxlib does not have the option.
    return {}
  return options
