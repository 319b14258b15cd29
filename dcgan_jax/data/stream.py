"""Prefetched batches of a data set that does not fit on the devices.

Decoded images on disk are gathered in threads. Without room for them, Grain decodes images on the fly, in
threads or processes.
"""

import functools
import itertools
import sys
from collections.abc import Generator

import numpy as np

from dcgan_jax import threads
from dcgan_jax.data.order import batch_indices, training
from dcgan_jax.data.sources import Source, report_unreadable
from dcgan_jax.errors import InputError

Batches = Generator[tuple[np.ndarray, ...], None, None]

# Two threads saturate the disk that we measured; more of them hide latency on others.
THREADS, AHEAD = 4, 8


def batches_mapped(
  images: np.ndarray,
  seed: int,
  step: int,
  batch_size: int,
  rows: slice | None = None,
  classes: np.ndarray | None = None,
  held_out: float = 0.0,
) -> Batches:
  """Yields the batches of all steps from `step` on, in the order of `batch_indices`.

  Args:
    images: All images, [N, H, W, C], usually memory-mapped.
    seed: Seed of the order.
    step: Step of the first batch.
    batch_size: Number of images in a global batch.
    rows: Rows of each global batch to read; None for all.
    classes: Classes of all images, int32 [N]; None to leave them out.
    held_out: Share of the images to leave out, see `order.held_out`.

  Yields:
    Images, [rows, H, W, C], and their classes, int32 [rows], if given; new arrays each time.
  """
  every = [np.asarray(x) for x in (images, classes) if x is not None]  # `take` of a memmap is one too.
  positions = training(len(images), held_out)

  def gather(step: int) -> tuple[np.ndarray, ...]:
    indices = positions[batch_indices(seed, step, batch_size, len(positions))]
    # `take` releases the GIL, also while it waits for the disk; a loop would acquire it for every row.
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
  held_out: float = 0.0,
) -> Batches:
  """Yields the batches of `batches_mapped`, decoding images on the fly.

  An unreadable image is replaced by the next readable one.

  Args:
    source: Source of the images; picklable if there are workers.
    seed: Seed of the order.
    step: Step of the first batch.
    batch_size: Number of images in a global batch.
    workers: Number of worker processes; 0 for threads.
    rows: Rows of each global batch to read; None for all.
    classes: Classes of all images, int32 [N]; None to leave them out.
    held_out: Share of the images to leave out, see `order.held_out`.

  Yields:
    Images, [rows, H, W, C], and their classes, int32 [rows], if given.

  Raises:
    InputError: No image can be decoded.
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's workers require it; nothing else uses these flags.
  rows = rows or slice(0, batch_size)
  count = rows.stop - rows.start
  own = grain.MapDataset.range(step * count, sys.maxsize // 2)
  places = own.map(functools.partial(_global_position, batch_size, rows))
  read = functools.partial(_read_at, source, classes, seed, training(len(source), held_out))
  images = places.map(read).batch(count)
  stream = images.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=8))
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  iterator = iter(stream)
  try:
    yield from iterator
  finally:
    iterator.close()


def _global_position(batch_size: int, rows: slice, position: int) -> int:
  """Converts a position in the stream of these rows to one in the global stream."""
  step, row = divmod(position, rows.stop - rows.start)
  return step * batch_size + rows.start + row


def _read_at(
  source: Source, classes: np.ndarray | None, seed: int, indices: np.ndarray, place: int
) -> tuple[np.ndarray, ...]:
  """Returns the image at a place in the stream, or the next readable one; and its class, if given.

  Args:
    source: Source of the images.
    classes: Classes of all images; None to leave them out.
    seed: Seed of the order.
    indices: Indices of the images to train on.
    place: Place in the stream.
  """
  first = int(batch_indices(seed, place, 1, len(indices))[0])
  for i in range(first, first + len(indices)):
    index = int(indices[i % len(indices)])
    image = source.read([index])[0]
    if image is not None:
      return (image,) if classes is None else (image, classes[index])
    report_unreadable([source.name(index)])
  raise InputError('data.source: none of its images can be decoded')
