"""Images from a trained generator: in Python, as a grid, as files or as an array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import experiment, parallel
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.journal import pictures
from dcgan_jax.latents import Latents
from dcgan_jax.models import Generator, to_pixels

# Images that a device makes at a time. It is constant, so that one program serves any number of images and
# the images do not depend on the number of devices.
BATCH_SIZE = 64
STATISTICS = ('stored', 'batch')


class Sampler:
  """A trained generator at work on all devices of all processes; each process gets all images.

  Attributes:
    latents: size and prior of z.
    step: of training that its checkpoint is from.
  """

  def __init__(self, generator: Generator, variables: Any, latents: Latents, step: int):
    self.latents = latents
    self.step = step
    mesh = parallel.all_devices()
    self._variables = jax.device_put(variables, parallel.replicated(mesh))
    self._generate = {s: parallel.map_rows(make_images(generator, s), mesh) for s in STATISTICS}

  def sample(self, num: int, seed: int = 0, statistics: str = 'stored') -> np.ndarray:
    """Draws images; image i of a seed is the same whatever their number (with stored statistics).

    Args:
      num: how many images, 1 or more.
      seed: of the latents; the run's own seed gives the latents of its pictures.
      statistics: see `from_latents`.

    Returns:
      uint8 [num, H, W, C].
    """
    # Whole batches are drawn, so that the last images are not normalised with copies of themselves ('batch').
    whole_batches = -(-num // BATCH_SIZE) * BATCH_SIZE
    return self.from_latents(draw(self.latents, seed, whole_batches), statistics)[:num]

  def from_latents(self, z: Array | np.ndarray, statistics: str = 'stored') -> np.ndarray:
    """Makes the images of given latents.

    Args:
      z: float [N, z_size].
      statistics: of batch norm: 'stored' takes the running averages of training, so that an image depends
        on its own z alone; 'batch' takes those of each 64 images (the last ones filled up by
        repetition), as the paper's authors do.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      InputError: the latents have another shape, or are not finite.
    """
    z, size = np.asarray(z), self.latents.size
    if z.ndim != 2 or z.shape[1] != size or not len(z):
      raise InputError(f'latents: of shape {z.shape}; this generator takes (N, {size}), N 1 or more')
    if z.dtype.kind not in 'fiu' or not np.isfinite(z).all():
      raise InputError('latents: must be finite numbers')
    return self._generate[statistics](self._variables, z.astype(np.float32), BATCH_SIZE)


def draw(latents: Latents, seed: int, num: int) -> np.ndarray:
  """Draws the first `num` latents of a seed, float32 [num, z_size]."""
  return np.asarray(latents.sample(jax.random.key(seed), jnp.arange(num)))


def make_images(generator: Generator, statistics: str) -> Callable[[Any, Any], Array]:
  """Returns the function (variables, z [B, z_size]) -> uint8 [B, H, W, C], to be jitted."""

  def generate(variables: Any, z: Array) -> Array:
    made: Any
    if statistics == 'stored':
      made = generator.apply(variables, z)
    else:
      rngs = {'dropout': jax.random.key(0)}
      made, _ = generator.apply(variables, z, train=True, mutable=['batch_stats'], rngs=rngs)
    return to_pixels(made)

  return generate


def load(folder: str | Path, checkpoint: str | int = 'last') -> Sampler:
  """Opens the generator of a run.

  Args:
    folder: its workdir.
    checkpoint: 'last', 'best' by score, or a step.

  Raises:
    InputError: there is no run, or no such checkpoint, in the folder.
  """
  run = experiment.open_run(Path(folder), str(checkpoint))
  gan = run.experiment.gan
  return Sampler(gan.generator, run.state.sampling_variables, gan.latents, run.step)


def run(
  folder: Path, num: int, seed: int, out: str, latents_file: str | None, statistics: str, checkpoint: str
) -> None:
  """Writes images of a run's generator.

  Args:
    folder: the workdir.
    num: how many images; unused with latents given.
    seed: of their latents.
    out: ending in .png for a grid, in .npz for an array 'x' uint8 [N, H, W, C]; else a folder for one
      PNG each.
    latents_file: .npy with float [N, z_size], instead of random latents.
    statistics: 'stored' | 'batch', see `Sampler.from_latents`.
    checkpoint: 'last', 'best' or the number of a step.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = Path(out)
  if target.suffix not in ('.png', '.npz', ''):
    raise InputError(f'out={out}: must end in .png (a grid), .npz (an array) or be a folder')
  if target.suffix == '' and target.exists() and not target.is_dir():
    raise InputError(f'out={out}: is a file; choose a folder, a .png or an .npz')
  cache.keep_compiled_programs()
  sampler = load(folder, checkpoint)
  if latents_file is None:
    made = sampler.sample(num, seed, statistics)
  else:
    made = sampler.from_latents(_read_latents(latents_file), statistics)
  if parallel.is_main():
    _write(target, made)
  print(f'{len(made)} images of step {sampler.step} in {target}')


def _read_latents(path: str) -> np.ndarray:
  try:
    z = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise InputError(f'latents={path}: cannot be read as .npy: {str(error).splitlines()[0]}') from error
  if not isinstance(z, np.ndarray):
    raise InputError(f'latents={path}: holds several arrays; save one as .npy')
  return z


def _write(target: Path, made: np.ndarray) -> None:
  """Writes a grid, an array or a folder of images, by the target's suffix."""
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == '.png':
      pictures.save_png(target, pictures.zoom(pictures.grid(made)))
    elif target.suffix == '.npz':
      part = target.with_name(target.name + '.part.npz')
      np.savez_compressed(part, x=made)
      part.replace(target)
    else:
      digits = max(5, len(str(len(made) - 1)))
      for i, image in enumerate(made):
        pictures.save_png(target / f'{i:0{digits}d}.png', image)
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}') from error
