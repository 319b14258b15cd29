"""The way of the images to the devices: the whole data set at once if it fits, read ahead if not.

What does not fit on the devices is decoded once to the disk and read from there. Only what does not fit on
the disk either is decoded again in every epoch.
"""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from dcgan_jax import parallel
from dcgan_jax.accumulation import Examples
from dcgan_jax.data import cache, order, stream
from dcgan_jax.data.sources import Source
from dcgan_jax.errors import InputError


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
    together: steps that are one program, see `parallel.compile_steps`; 1 if the images stay on the host.
  """

  source: Source
  title: str
  seed: int
  batch_size: int
  memory_limit: int = 4096
  workers: int = 0
  together: int = 1
  classes: np.ndarray | None = None

  def batches(self, mesh: Mesh, step: int, num_steps: int) -> Generator[parallel.Batches, None, None]:
    """Yields what each program of steps needs, from `step` on, on the devices of the mesh.

    Raises:
      InputError: no image could be decoded, or a class would go to the wrong one.
    """
    if cache.size(self.source) / 2**20 <= self.memory_limit:
      return self._resident(mesh, step, num_steps)
    return self._large(mesh, step)

  def _large(self, mesh: Mesh, step: int) -> Generator[parallel.Batches, None, None]:
    """Reads the images from the disk if every process can keep them there, and says what it does."""
    loaded = cache.load_large(self.source, self.title)
    mapped = parallel.all_agree(loaded is not None)
    if loaded is None or not mapped:
      way = 'decoded again in every epoch, because the cache has no room for them'
    else:
      way = f'read from {"the cache" if isinstance(loaded[0], np.memmap) else "memory"} as needed'
    mib = cache.size(self.source) / 2**20
    decoded = f'{mib / 2**10:,.1f} GiB' if mib >= 2**10 else f'{mib:,.1f} MiB'
    limit = f'data.memory_limit={self.memory_limit} MiB'
    print(f'images: {decoded} decoded are more than {limit}, so they are {way}', flush=True)
    yield from self._mapped(mesh, step, *loaded) if loaded and mapped else self._streamed(mesh, step)

  def _mapped(
    self, mesh: Mesh, step: int, images: np.ndarray, skipped: list[str]
  ) -> Generator[parallel.Batches, None, None]:
    classes = self.classes
    if classes is not None and skipped:  # They are of all images, also of those that were left out.
      left_out = set(skipped)
      classes = classes[[self.source.name(i) not in left_out for i in range(len(classes))]]
    rows = parallel.own_rows(mesh, self.batch_size)
    batches = stream.batches_mapped(images, self.seed, step, self.batch_size, rows, classes)
    with contextlib.closing(batches):
      for batch in batches:
        yield parallel.put_batches(mesh, None, Examples(*(x[None] for x in batch)))

  def _streamed(self, mesh: Mesh, step: int) -> Generator[parallel.Batches, None, None]:
    rows = parallel.own_rows(mesh, self.batch_size)
    batches = stream.batches_streamed(
      self.source, self.seed, step, self.batch_size, self.workers, rows, self.classes
    )
    with contextlib.closing(batches):
      for batch in batches:
        yield parallel.put_batches(mesh, None, Examples(*(x[None] for x in batch)))

  def _resident(self, mesh: Mesh, step: int, num_steps: int) -> Generator[parallel.Batches, None, None]:
    rows = parallel.own_rows(mesh, self.batch_size)
    images = cache.load(self.source, self.title)
    if self.classes is not None and len(self.classes) != len(images):
      raise InputError('data.classes: images that cannot be decoded have classes; remove them')
    resident = jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(parallel.replicated(mesh), x, x.shape),
      Examples(images, self.classes),
    )
    while True:
      # Single steps lead to where blocks begin, and from where they no longer fit.
      count = self.together if step % self.together == 0 and step + self.together <= num_steps else 1
      steps = range(step, step + count)
      indices = [order.batch_indices(self.seed, i, self.batch_size, len(images)) for i in steps]
      yield parallel.put_batches(mesh, resident, np.stack(indices)[:, rows])
      step += count
