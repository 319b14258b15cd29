"""The way of the images to the devices: the whole data set at once if it fits, read ahead if not.

What does not fit on the devices is decoded once to the disk and read from there. Only what does not fit on
the disk either is decoded again in every epoch.
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
from dcgan_jax.devices import parallel
from dcgan_jax.errors import InputError

HUNDRED = 100  # steps


class Block(NamedTuple):
  """The input of one program of steps, and how many steps these are."""

  batches: parallel.Batches
  steps: int


@dataclass(frozen=True)
class Feed:
  """Batches of a source for every step of a run.

  Attributes:
    source: the images.
    title: what to call them in errors and progress bars.
    seed: of their order.
    batch_size: images of a step, of all devices together.
    memory_limit: MiB of each device; of a data set that takes more, each batch is put there for its step.
    workers: processes that decode a data set too large for the disk as well; 0 decodes in threads.
    classes: of the images, int32 [N], if the networks are told them.
  """

  source: Source
  title: str
  seed: int
  batch_size: int
  memory_limit: int = 4096
  workers: int = 0
  classes: np.ndarray | None = None

  def blocks(self, mesh: Mesh, step: int, most: Callable[[int], int]) -> Generator[Block, None, None]:
    """Yields what each program of steps needs, from `step` on, on the devices of the mesh.

    Args:
      mesh: all devices.
      step: that the first program begins with.
      most: how many steps a program may have that begins with a step. One has fewer where the order of the
        images on the devices ends, and those of a streamed data set have 1.

    Raises:
      InputError: no image could be decoded, or a class would go to the wrong one.
    """
    if cache.size(self.source) / 2**20 <= self.memory_limit:
      return self._resident(mesh, step, most)
    return self._large(mesh, step)

  def _large(self, mesh: Mesh, step: int) -> Generator[Block, None, None]:
    """Reads the images from the disk if every process can keep them there, and says what it does."""
    loaded = cache.load_large(self.source, self.title)
    mapped = parallel.all_agree(loaded is not None)
    if loaded is None or not mapped:
      way = 'decoded again in every epoch, because the cache has no room for them'
    else:
      way = f'read from {"the disk" if isinstance(loaded[0], np.memmap) else "memory"} as needed'
    mib = cache.size(self.source) / 2**20
    decoded = f'{mib / 2**10:,.1f} GiB' if mib >= 2**10 else f'{mib:,.1f} MiB'
    limit = f'data.memory_limit={self.memory_limit} MiB'
    print(f'images: {decoded} decoded are more than {limit}, so they are {way}', flush=True)
    rows = parallel.own_rows(mesh, self.batch_size)
    batches = self._mapped(step, rows, *loaded) if loaded and mapped else self._streamed(step, rows)
    with contextlib.closing(batches):
      for batch in batches:
        yield Block(parallel.put_batch(mesh, Examples(*batch)), 1)

  def _mapped(self, step: int, rows: slice, images: np.ndarray, skipped: list[str]) -> stream.Batches:
    classes = self.classes
    if classes is not None and skipped:  # They are of all images, also of those that were left out.
      left_out = set(skipped)
      classes = classes[[self.source.name(i) not in left_out for i in range(len(classes))]]
    return stream.batches_mapped(images, self.seed, step, self.batch_size, rows, classes)

  def _streamed(self, step: int, rows: slice) -> stream.Batches:
    return stream.batches_streamed(
      self.source, self.seed, step, self.batch_size, self.workers, rows, self.classes
    )

  def _resident(self, mesh: Mesh, step: int, most: Callable[[int], int]) -> Generator[Block, None, None]:
    images = cache.load(self.source, self.title)
    if self.classes is not None and len(self.classes) != len(images):
      raise InputError('data.classes: images that cannot be decoded have classes; remove them')
    examples = parallel.put_data_set(mesh, Examples(images, self.classes))
    length = steps_of_window(len(images), self.batch_size)
    # A resumed run has the windows of one that was not stopped.
    for number in itertools.count(step // length):
      first, end = number * length, (number + 1) * length
      # A window is a single batch of as many images, and in the same order.
      rows = order.batch_indices(self.seed, number, length * self.batch_size, len(images))
      rows = rows.reshape(length, self.batch_size)
      window = parallel.put_whole(mesh, parallel.Window(rows, np.array(first, np.int32)))
      while step < end:
        count = min(most(step), end - step)
        yield Block(parallel.Batches(examples, window, np.int32(count)), count)
        step += count


def steps_of_window(num_images: int, batch_size: int) -> int:
  """Returns for how many steps the order of the images is on the devices: for an epoch, in full hundreds.

  Programs end where this order ends, so it is as round as the steps after which something is due.
  """
  return -(-num_images // (batch_size * HUNDRED)) * HUNDRED
