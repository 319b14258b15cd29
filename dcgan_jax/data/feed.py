"""Feeds images to the devices: the whole data set once if it fits, prefetched batches otherwise.

A data set that does not fit on the devices is decoded to disk once and read from there; one that does not fit
on disk either is decoded in every epoch.
"""

import contextlib
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from dcgan_jax.core.accumulation import Examples
from dcgan_jax.data import cache, order, stream
from dcgan_jax.data.sources import Source
from dcgan_jax.devices import placement, processes
from dcgan_jax.errors import InputError

HUNDRED = 100  # steps


class Round(NamedTuple):
  """The input of the steps that one call of a program takes, and their number."""

  batches: placement.Batches
  steps: int


@dataclass(frozen=True)
class Feed:
  """Batches of a source for every step of a run.

  Attributes:
    source: Source of the images.
    title: Name of the source in errors and progress bars.
    seed: Seed of the image order.
    batch_size: Number of images per step over all devices.
    memory_limit: MiB per device for the data set; a larger one is transferred batch by batch.
    workers: Number of worker processes for on-the-fly decoding; 0 for threads.
    classes: Classes of the images, int32 [N]; None if the networks are unconditional.
    held_out: Share of the images to leave out, see `order.held_out`.
  """

  source: Source
  title: str
  seed: int
  batch_size: int
  memory_limit: int = 4096
  workers: int = 0
  classes: np.ndarray | None = None
  held_out: float = 0.0

  def rounds(self, mesh: Mesh, step: int, most: Callable[[int], int]) -> Generator[Round, None, None]:
    """Yields the input of each round, from `step` on, on the devices of the mesh.

    Args:
      mesh: All devices.
      step: Step that the first round begins with.
      most: Returns the maximum number of steps in the round that begins with a step. A round is shorter where
        the order of the images on the devices ends, and has one step if the data set is streamed.

    Raises:
      InputError: No image can be decoded, or classes cannot be matched to images because some are unreadable.
    """
    if cache.size(self.source) / 2**20 <= self.memory_limit:
      return self._resident(mesh, step, most)
    return self._large(mesh, step)

  def _large(self, mesh: Mesh, step: int) -> Generator[Round, None, None]:
    """Reads the images from the disk if every process can keep them there, and says what it does."""
    loaded = cache.load_large(self.source, self.title)
    mapped = processes.all_agree(loaded is not None)
    if loaded is None or not mapped:
      way = 'decoded again in every epoch, because the cache has no room for them'
    else:
      way = f'read from {"the disk" if isinstance(loaded[0], np.memmap) else "memory"} as needed'
    mib = cache.size(self.source) / 2**20
    decoded = f'{mib / 2**10:,.1f} GiB' if mib >= 2**10 else f'{mib:,.1f} MiB'
    limit = f'data.memory_limit={self.memory_limit} MiB'
    print(f'images: {decoded} decoded are more than {limit}, so they are {way}', flush=True)
    rows = placement.own_rows(mesh, self.batch_size)
    batches = self._mapped(step, rows, *loaded) if loaded and mapped else self._streamed(step, rows)
    with contextlib.closing(batches):
      for batch in batches:
        yield Round(placement.put_batch(mesh, Examples(*batch)), 1)

  def _mapped(self, step: int, rows: slice, images: np.ndarray, skipped: list[str]) -> stream.Batches:
    classes = self.classes
    if classes is not None and skipped:  # The classes include those of unreadable images.
      left_out = set(skipped)
      classes = classes[[self.source.name(i) not in left_out for i in range(len(classes))]]
    return stream.batches_mapped(images, self.seed, step, self.batch_size, rows, classes, self.held_out)

  def _streamed(self, step: int, rows: slice) -> stream.Batches:
    return stream.batches_streamed(
      self.source, self.seed, step, self.batch_size, self.workers, rows, self.classes, self.held_out
    )

  def _resident(self, mesh: Mesh, step: int, most: Callable[[int], int]) -> Generator[Round, None, None]:
    images = cache.load(self.source, self.title)
    if self.classes is not None and len(self.classes) != len(images):
      raise InputError('data.classes: images that cannot be decoded have classes; remove them')
    examples = placement.put_data_set(mesh, Examples(images, self.classes))
    training = order.training(len(images), self.held_out)
    length = steps_of_window(len(training), self.batch_size)
    # Windows start at multiples of their length, so that a resumed run has those of an uninterrupted one.
    for number in itertools.count(step // length):
      first, end = number * length, (number + 1) * length
      # A window has the order of a single batch of all its images.
      rows = training[order.batch_indices(self.seed, number, length * self.batch_size, len(training))]
      rows = rows.reshape(length, self.batch_size)
      window = placement.put_whole(mesh, placement.Window(rows, np.array(first, np.int32)))
      while step < end:
        count = min(most(step), end - step)
        yield Round(placement.Batches(examples, window, np.int32(count)), count)
        step += count


def steps_of_window(num_images: int, batch_size: int) -> int:
  """Returns the number of steps whose image order is on the devices: an epoch, rounded up to hundreds.

  Rounds end where this order ends, so it is as round as the steps after which something is due.
  """
  return -(-num_images // (batch_size * HUNDRED)) * HUNDRED
