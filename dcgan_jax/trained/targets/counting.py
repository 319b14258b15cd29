"""How many images a source has, as far as this machine can tell without a download."""

import inspect
from pathlib import Path

from dcgan_jax.data import sources
from dcgan_jax.data.decode import Fit


def count_here(source: str, split: str, fit: Fit) -> int | None:
  """Returns how many images a source has; None if it is not on this machine.

  Args:
    source: as `sources.open_source` takes it.
    split: of a tfds data set, in its notation.
    fit: how each image is made to fit.

  Raises:
    InputError: the source is here, and has no images that can be used.
  """
  kind, _, name = source.partition(':')
  if kind == 'stacked':
    return inspect.signature(sources.Stacked).parameters['count'].default
  if kind == 'tfds':
    from dcgan_jax.data import tfds  # slow to import

    return tfds.count_prepared(name, split)
  if kind in ('folder', 'npy') and not Path(name).exists():
    return None
  return len(sources.open_source(source, split, fit))
