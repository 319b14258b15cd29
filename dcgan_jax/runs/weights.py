"""The arrays of a trained generator's folder, see `records.hub`."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from dcgan_jax import files
from dcgan_jax.core.train_state import GanState
from dcgan_jax.errors import InputError
from dcgan_jax.files import safetensors
from dcgan_jax.records import hub

SPARE_BYTES = 2**24  # of a file of weights for names and metadata
DTYPES = (np.float32, np.float16)


def read(path: Path, shapes: GanState, networks: tuple[str, ...]) -> dict[str, Any]:
  """Reads the variables of networks from a file of safetensors, as float32.

  Args:
    path: Path of the file.
    shapes: Shapes of the state.
    networks: Networks in the file.

  Returns:
    The variables of each network by its name.

  Raises:
    InputError: the file is damaged, or of other networks.
  """
  wanted = {name: getattr(shapes, name).variables for name in networks}
  numbers = sum(leaf.size for leaf in jax.tree.leaves(wanted))
  library = safetensors.library(f'{path}')
  try:
    arrays = library.load(files.read_bytes(path, SPARE_BYTES + 8 * numbers))  # twice what is needed
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror or error}') from error
  except Exception as error:  # its own kind for a damaged header, others for unknown types
    raise InputError(f'{path}: is damaged or no file of safetensors: {error}') from error
  flat = {}
  for name, leaf in traverse_util.flatten_dict(wanted, keep_empty_nodes=True, sep='.').items():
    if leaf is traverse_util.empty_node:
      flat[name] = leaf
      continue
    array = arrays.get(name)
    if array is None or array.shape != leaf.shape or array.dtype not in DTYPES:
      found = 'is missing' if array is None else f'is {array.dtype} {array.shape}'
      raise InputError(
        f'{path}: {name} {found}; by {hub.CONFIG} it is float32 {leaf.shape}; the two are not '
        'of the same model'
      )
    if not math.isfinite(float(np.abs(array).max(initial=0))):
      raise InputError(f'{path}: {name} has numbers that are not finite; copy it from where it was made')
    flat[name] = array.astype(np.float32)
  return traverse_util.unflatten_dict(flat, sep='.')
