"""Networks as safetensors: arrays by name, and texts that describe the network."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import traverse_util

from dcgan_jax.errors import InputError


def library(field: str = 'format=safetensors') -> ModuleType:
  """Imports the NumPy part of the package safetensors.

  Args:
    field: Flag or file that needs it, for the error message.

  Raises:
    InputError: it is not installed.
  """
  try:
    import safetensors.numpy
  except ImportError as error:
    raise InputError(f"{field}: needs the package safetensors; pip install -e '.[export]'") from error
  return safetensors.numpy


def to_bytes(variables: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
  """Returns the file of a network's variables; params.conv1.kernel is the name of an array.

  Args:
    variables: Variables of the module, float32.
    metadata: Names and texts for the header of the file.

  Raises:
    InputError: the package safetensors is missing.
  """
  flat = traverse_util.flatten_dict(dict(variables), sep='.')
  arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
  return library().save(arrays, dict(metadata))
