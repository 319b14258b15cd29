"""The way of the images to the devices: the whole data set at once if it fits, read ahead if not."""

import contextlib
import math
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
    memory_limit: MiB of each device; a data set that takes more is streamed.
    workers: processes that read a streamed data set; 0 reads in threads.
    classes: of the images, int32 [N], if the networks are told them.
    together: steps that are one program, see `parallel.compile_steps`; a streamed data set takes 1.
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
    fit = self.source.fit
    bytes_in_memory = len(self.source) * math.prod((*fit.image_size, fit.channels))
    fits = bytes_in_memory / 2**20 <= self.memory_limit
    return self._resident(mesh, step, num_steps) if fits else self._streamed(mesh, step)

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
