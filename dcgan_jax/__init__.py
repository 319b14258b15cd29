"""DCGAN (Radford, Metz, Chintala 2015) in JAX.

import dcgan_jax
images = dcgan_jax.load('runs/mnist').sample(16, seed=0)  # uint8 [16, 28, 28, 1]
"""

from typing import Any


def __getattr__(name: str) -> Any:
  """Imports `load` when it is first asked for, so that importing the package stays instant."""
  if name == 'load':
    from dcgan_jax.trained.hub.loading import load

    return load
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
