"""Batches of a data set that does not fit on the devices, read ahead of their use.

Decoded images on the disk are gathered in threads. Where there is no room for them, Grain decodes each image
when its turn comes, in threads or in processes.
"""

import functools
import itertools
import sys
from collections.abc import Generator

import numpy as np

from dcgan_jax import threads
from dcgan_jax.data.order import batch_indices
from dcgan_jax.data.sources import Source, report_unreadable
from dcgan_jax.errors import InputError

Batches = Generator[tuple[np.ndarray, ...], None, None]

# Two threads read as fast as the disk that we measured; on one that takes long to answer, more of them help.
THREADS, AHEAD = 4, 8


def batches_mapped(
  images: np.ndarray,
  seed: int,
  step: int,
  batch_size: int,
  rows: slice | None = None,
  classes: np.ndarray | None = None,
) -> Batches:
  """Yields the batches of step, step + 1 and so on without end, in the order of `batch_indices`.

  Args:
    images: all of them, [N, H, W, C], as a rule mapped from the disk.
    seed: of the order.
    step: the step of the first batch.
    batch_size: images of a global batch.
    rows: the rows of each global batch that are read; None for all.
    classes: of all images, int32 [N], if they are wanted.

  Yields:
    Images, [rows, H, W, C], and their classes, int32 [rows], if they are wanted; new arrays each time.
  """
  every = [np.asarray(x) for x in (images, classes) if x is not None]  # What is taken of a memmap is one too.

  def gather(step: int) -> tuple[np.ndarray, ...]:
    indices = batch_indices(seed, step, batch_size, len(images))
    # This releases the GIL, also while it waits for the disk; a loop would ask for the GIL at every row.
    return tuple(np.take(x, indices if rows is None else indices[rows], axis=0) for x in every)

  return threads.map_ahead(gather, itertools.count(step), THREADS, AHEAD)


def batches_streamed(
  source: Source,
  seed: int,
  step: int,
  batch_size: int,
  workers: int,
  rows: slice | None = None,
  classes: np.ndarray | None = None,
) -> Batches:
  """Yields the batches of `batches_mapped`, of images that are decoded when they are needed.

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
    Images, [rows, H, W, C], and their classes, int32 [rows], if they are wanted.

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
