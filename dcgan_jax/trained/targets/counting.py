"""The number of images of a source, as far as it is known without a download."""

import inspect
from pathlib import Path

from dcgan_jax.data import sources
from dcgan_jax.data.decode import Fit


def count_here(source: str, split: str, fit: Fit) -> int | None:
  """Returns the number of images of a source; None if it is not on this machine.

  Args:
    source: Source, see `sources.open_source`.
    split: Split of a tfds data set, in its notation.
    fit: Rules by which each image is made to fit.

  Raises:
    InputError: the source is here, and has no usable images.
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
