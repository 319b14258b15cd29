"""The stamp of a checkpoint: version of its layout, shapes and checksums of its arrays; and its score."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dcgan_jax import files
from dcgan_jax.errors import InputError

SCORES = 'metrics'  # Orbax's folder of scores in a checkpoint
LAYOUT = 1  # version of the arrays' names; renaming one needs a migration in `reading`, a new one does not


class Score(NamedTuple):
  """A score of a generator: a distance, the lower the better, and how it was taken.

  Only scores of the same protocol can be compared; it is '' in older checkpoints.
  """

  distance: float
  protocol: str = ''


class Stamp(NamedTuple):
  """Shape and checksum of each array of a checkpoint, by the array's path; {} in older checkpoints."""

  shapes: dict[str, tuple[int, ...]]
  checksums: dict[str, int]


def make(state: Any, sums: Mapping[str, Array]) -> dict[str, Any]:
  """Returns the stamp of a state, given its `sums`, to be saved with it as JSON."""
  shapes = {path: list(shape) for path, shape in shapes_of(state).items()}
  return {'layout': LAYOUT, 'shapes': shapes, 'checksums': _numbers(sums)}


def read(path: Path, found: Any) -> Stamp:
  """Returns the stamp of a checkpoint.

  Args:
    path: Path of the checkpoint.
    found: Its `custom_metadata`, as Orbax reads it.

  Raises:
    InputError: The checkpoint was written by a newer version of this package.
  """
  found = found if isinstance(found, dict) else {}
  layout = found.get('layout', LAYOUT)
  if layout != LAYOUT:
    raise InputError(
      f'{path}: has state layout {layout}, and this version of dcgan_jax reads {LAYOUT}; use the version '
      'that wrote it, or a newer one'
    )
  shapes = {name: tuple(shape) for name, shape in found.get('shapes', {}).items()}
  return Stamp(shapes, found.get('checksums', {}))


def read_score(path: Path) -> Score | None:
  """Returns the score of a checkpoint; None if it has none, or a broken one.

  Raises:
    InputError: The file cannot be read now, which says nothing about its content.
  """
  try:
    content = json.loads(files.read_bytes(path / SCORES / 'metrics', 2**20))
    return Score(float(content['score']), str(content.get('protocol', '')))
  except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
    return None
  except OSError as error:
    if error.errno in (errno.EINVAL, errno.EISDIR, errno.EFBIG):  # Not a file that this package wrote.
      return None
    raise InputError(f'{path / SCORES}: cannot be read: {error.strerror}') from error


def named(tree: Any) -> dict[str, Any]:
  """Returns the arrays of a tree by their paths, e.g. 'generator/params/dense/kernel'."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def shapes_of(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns the shape of each array of a tree, by the array's path."""
  return {path: tuple(leaf.shape) for path, leaf in named(tree).items()}


def dtypes_of(tree: Any) -> dict[str, str]:
  """Returns the dtype of each array of a tree, by the array's path."""
  return {path: str(leaf.dtype) for path, leaf in named(tree).items()}


def checksums(tree: Any) -> dict[str, int]:
  """Returns a checksum of each array of a tree, by the array's path.

  They are of the numbers alone, whatever devices and processes hold them, and find every change of a single
  bit.
  """
  return _numbers(sums(tree))


def _numbers(sums: Mapping[str, Array]) -> dict[str, int]:
  """Returns checksums as numbers; waits for the devices."""
  return {path: int(value) for path, value in jax.device_get(sums).items()}


@jax.jit
def sums(tree: Any) -> dict[str, Array]:
  """Returns `checksums` as arrays on the devices, uint32 []."""
  return {path: _checksum(leaf) for path, leaf in named(tree).items()}


def _checksum(x: Array) -> Array:
  """Returns the sum, modulo 2**32, of a hash of each number and its place; the order of the sum is free."""
  kinds = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}  # 8 bytes become two numbers.
  bits = jax.lax.bitcast_convert_type(x, kinds[x.dtype.itemsize]).reshape(-1).astype(jnp.uint32)
  mixed = bits ^ jax.lax.iota(jnp.uint32, bits.size) * jnp.uint32(0x9E3779B9)
  # The finalizer of MurmurHash3, a bijection: a change of one number always changes the sum.
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    mixed = (mixed ^ mixed >> shift) * jnp.uint32(factor)
  return jnp.sum(mixed ^ mixed >> 16, dtype=jnp.uint32)
