"""Streaming of a data set that does not fit into memory: Grain reads ahead, in threads or in processes."""

import functools
import sys
from collections.abc import Generator

import numpy as np

from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import Source, report_unreadable
from dcgan_jax.errors import InputError

Batches = Generator[tuple[np.ndarray, ...], None, None]


def batches_streamed(
  source: Source,
  seed: int,
  step: int,
  batch_size: int,
  workers: int,
  rows: slice | None = None,
  classes: np.ndarray | None = None,
) -> Batches:
  """Yields the batches of step, step + 1 and so on without end, in the order of `batch_indices`.

  An image that cannot be decoded is replaced by the next one that can.

  Args:
    source: the images; picklable if there are workers.
    seed: of the order.
    step: the step of the first batch.
    batch_size: images of a global batch.
    workers: how many processes read; 0 reads in threads of this one.
    rows: the rows of each global batch that are read; None for all.
    classes: of all images, int32 [N], if they are wanted.

  Yields:
    Images, uint8 [rows, H, W, C], and their classes, int32 [rows], if they are wanted.

  Raises:
    InputError: no image can be decoded.
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's workers insist on it, and nothing else uses these.
  rows = rows or slice(0, batch_size)
  count = rows.stop - rows.start
  own = grain.MapDataset.range(step * count, sys.maxsize // 2)
  positions = own.map(functools.partial(_global_position, batch_size, rows))
  images = positions.map(functools.partial(_read_at, source, classes, seed)).batch(count)
  stream = images.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=8))
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  iterator = iter(stream)
  try:
    yield from iterator
  finally:
    iterator.close()


def _global_position(batch_size: int, rows: slice, position: int) -> int:
  """Returns the position in the whole stream of the image at a position in the stream of these rows."""
  step, row = divmod(position, rows.stop - rows.start)
  return step * batch_size + rows.start + row


def _read_at(source: Source, classes: np.ndarray | None, seed: int, position: int) -> tuple[np.ndarray, ...]:
  """Returns the image at a position of the stream; the next one in the source if it cannot be decoded.

  Its class follows it, if classes are wanted.
  """
  index = int(batch_indices(seed, position, 1, len(source))[0])
  for i in range(index, index + len(source)):
    image = source.read([i % len(source)])[0]
    if image is not None:
      return (image,) if classes is None else (image, classes[i % len(source)])
    report_unreadable([source.name(i % len(source))])
  raise InputError('data.source: none of its images can be decoded')
