"""A data set that does not fit into memory: read ahead by Grain, in threads or in processes."""

import functools
import sys
from collections.abc import Generator

import numpy as np

from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import Source, report_unreadable
from dcgan_jax.errors import InputError

Batches = Generator[np.ndarray, None, None]


def batches_streamed(
  source: Source, seed: int, step: int, batch_size: int, workers: int, rows: slice | None = None
) -> Batches:
  """Rows of the images of `batch_indices` for step, step + 1, ... without end, read ahead by Grain.

  Args:
    source: picklable when there are workers.
    seed: of the order.
    step: to start from.
    batch_size: global.
    workers: processes; 0 reads in threads of this one.
    rows: of each global batch, which alone are read; None for all.

  Yields:
    uint8 [rows, H, W, C].
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # in a notebook or a test; Grain's workers insist
  rows = rows or slice(0, batch_size)
  count = rows.stop - rows.start
  own = grain.MapDataset.range(step * count, sys.maxsize // 2)
  positions = own.map(functools.partial(_global_position, batch_size, rows))
  images = positions.map(functools.partial(_read_at, source, seed)).batch(count)
  stream = images.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=8))
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  iterator = iter(stream)
  try:
    yield from iterator
  finally:
    iterator.close()


def _global_position(batch_size: int, rows: slice, position: int) -> int:
  """Of an image among all, from that among those of these rows of each batch."""
  step, row = divmod(position, rows.stop - rows.start)
  return step * batch_size + rows.start + row


def _read_at(source: Source, seed: int, position: int) -> np.ndarray:
  """The image at a position; one that cannot be decoded is replaced by the next that can."""
  index = int(batch_indices(seed, position, 1, len(source))[0])
  for i in range(index, index + len(source)):
    image = source.read([i % len(source)])[0]
    if image is not None:
      return image
    report_unreadable([source.name(i % len(source))])
  raise InputError('data.source: none of its images can be decoded')
