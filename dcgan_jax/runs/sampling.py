"""Images from a trained generator: in Python, as a grid, as files or as an array."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcgan_jax import files
from dcgan_jax.core import norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Generator, to_pixels
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import arrays, cache
from dcgan_jax.devices import placement, processes, programs
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment

# Images that a device makes at a time. It is constant, so that one program serves any number of images and
# the images do not depend on the number of devices.
BATCH_SIZE = 64
STATISTICS = ('stored', 'batch', 'population')

Label = str | int | Sequence[int] | np.ndarray


class Sampler:
  """A trained generator at work on all devices of all processes; each process gets all images.

  Attributes:
    latents: size and prior of z.
    step: of training that its checkpoint is from.
    classes: names of those that the generator is told; () if it is told none.
    statistics: of batch norm, where none are asked for.
    pixels: what the numbers of its images are.
    folder: workdir in which population statistics are kept once they are measured; None keeps them in memory.
  """

  def __init__(
    self,
    generator: Generator,
    variables: Any,
    latents: Latents,
    step: int,
    classes: Sequence[str] = (),
    folder: Path | None = None,
    pixels: Pixels = BYTES,
  ):
    self.latents, self.step, self.folder, self.statistics = latents, step, folder, 'stored'
    self.pixels = pixels
    self.classes = tuple(classes) or tuple(map(str, range(latents.classes)))
    mesh = placement.mesh()
    self._generator = generator
    self._variables = jax.device_put(variables, placement.replicated(mesh))
    self._generate = {s: programs.map_rows(make_images(generator, s, pixels), mesh) for s in STATISTICS}

  def sample(
    self,
    num: int,
    seed: int = 0,
    statistics: str | None = None,
    label: str | int | Sequence[int] | np.ndarray | None = None,
  ) -> np.ndarray:
    """Draws images; image i of a seed is the same whatever their number, unless statistics are the batch's.

    Args:
      num: how many images, 1 or more.
      seed: of the latents; the run's own seed gives the latents of its pictures.
      statistics: see `from_latents`.
      label: class of all images, by name or number, or the number of one for each, integers [num]; None draws
        them uniformly.

    Returns:
      [num, H, W, C] in the dtype and the range of the data: uint8 of pictures. Of transparent ones the last
      channel is the opacity, and the others are not multiplied by it, as in a PNG.

    Raises:
      InputError: the generator is not told classes, or not this one.
    """
    z = draw_batches(self.latents, seed, num)
    if label is not None:
      numbers = self.find_classes(label) if isinstance(label, str) else np.atleast_1d(label)
      if not all(0 <= number < len(self.classes) for number in numbers):
        raise InputError(f'label={label}: this generator has {len(self.classes)} classes, numbered from 0')
      z = np.asarray(self.latents.of_classes(jnp.asarray(z), jnp.asarray(np.resize(numbers, len(z)))))
    return self.from_latents(z, statistics)[:num]

  def find_classes(self, text: str) -> list[int]:
    """Returns the numbers of the classes that a text names, with commas between, or of 'all'.

    Raises:
      InputError: the generator is told no classes, or not these.
    """
    if not self.classes:
      raise InputError(f'class={text}: this generator is told no classes; train one with data.classes')
    if text == 'all':
      return list(range(len(self.classes)))
    return [find_class('class', name.strip(), self.classes) for name in text.split(',')]

  def from_latents(self, z: Array | np.ndarray, statistics: str | None = None) -> np.ndarray:
    """Makes the images of given latents.

    Args:
      z: float [N, z_size]; for a generator that is told classes [N, z_size + classes], see `Latents`.
      statistics: of batch norm: 'stored' takes the running averages of training, so that an image depends
        on its own z alone; 'batch' takes those of each 64 images (the last ones filled up by
        repetition), as the paper's authors do; 'population' takes those of 10,000 latents through the
        generator as it is, so that again an image depends on its own z alone; None takes those that the run
        is configured for (`sample.statistics`).

    Returns:
      [N, H, W, C], as `sample` does.

    Raises:
      InputError: the latents have another shape, or are not finite.
    """
    z = self.latents.check(z)
    statistics = statistics or self.statistics
    return self.pixels.restore(self._generate[statistics](self.variables(statistics), z, BATCH_SIZE))

  def variables(self, statistics: str) -> Any:
    """Returns the generator's variables, with population statistics of batch norm or with the stored ones."""
    return self._population if statistics == 'population' else self._variables

  @property
  def network(self) -> tuple[Generator, Any]:
    """Returns the generator and variables with which an image depends on its own z alone.

    Where the run's statistics are those of each batch, these are those of the population, their limit.
    """
    return self._generator, self.variables('population' if self.statistics == 'batch' else self.statistics)

  @functools.cached_property
  def _population(self) -> Any:
    """The variables with population statistics, which are measured when they are first asked for."""
    if self.folder is None:
      return with_population(self._generator, self.latents, self._variables)

    def measure() -> dict[str, np.ndarray]:
      measured = with_population(self._generator, self.latents, self._variables)['batch_stats']
      return {f'{norm}/{key}': np.asarray(x) for norm, both in measured.items() for key, x in both.items()}

    # Another generator has another file, also if it is of the same step of a run that was begun anew, and so
    # has another population.
    measured_on = [*jax.tree.leaves(self._variables['params']), np.array(self.latents.counts, np.int64)]
    content = b''.join(np.asarray(array).tobytes() for array in measured_on)
    name = f'{self.step}-{hashlib.sha256(content).hexdigest()[:16]}.npz'
    shapes = {
      f'{norm}/{key}': x.shape
      for norm, both in self._variables['batch_stats'].items()
      for key, x in both.items()
    }

    def fits(kept: dict[str, np.ndarray]) -> bool:
      return {key: x.shape for key, x in kept.items()} == shapes

    flat = processes.agreed(cache.arrays_in(self.folder / 'statistics' / name, measure, fits))
    stats = {
      norm: {key: flat[f'{norm}/{key}'] for key in ('mean', 'var')} for norm, _ in self._generator.norms
    }
    return self._variables | {'batch_stats': jax.device_put(stats, placement.replicated(placement.mesh()))}


def draw_batches(latents: Latents, seed: int, num: int) -> np.ndarray:
  """Draws the first `num` latents of a seed, and those after them that fill up the last batch.

  So the last images are not normalised with copies of themselves, if statistics are the batch's.
  """
  return latents.draw(seed, -(-num // BATCH_SIZE) * BATCH_SIZE)


def with_population(generator: Generator, latents: Latents, variables: Any, num: int | None = None) -> Any:
  """Returns the generator's variables with population statistics, of `num` latents, on the same devices."""
  params = jax.tree.map(lambda x: x.addressable_data(0), variables['params'])
  stats = norm_statistics.of_latents(generator, params, latents, num=num)
  return variables | {'batch_stats': jax.device_put(stats, jax.tree.leaves(variables)[0].sharding)}


def find_class(flag: str, name: str, names: tuple[str, ...]) -> int:
  """Returns the number of a class; capitals in its name matter only where they tell two classes apart.

  Args:
    flag: that the name was given to, for the error message.
    name: of the class.
    names: of all classes.

  Raises:
    InputError: no class has this name.
  """
  if name in names:
    return names.index(name)
  lower = [known.casefold() for known in names]
  if lower.count(name.casefold()) != 1:
    raise InputError(f'{flag}={name}: no such class; the classes of the data are: {", ".join(names)}')
  return lower.index(name.casefold())


def make_images(generator: Generator, statistics: str, pixels: Pixels = BYTES) -> Callable[[Any, Any], Array]:
  """Returns the function (variables, z [B, z_size]) -> images as kept, [B, H, W, C], to be jitted."""

  def generate(variables: Any, z: Array) -> Array:
    made: Any
    if statistics != 'batch':
      made = generator.apply(variables, z)
    else:
      rngs = {'dropout': jax.random.key(0)}
      made, _ = generator.apply(variables, z, train=True, mutable=['batch_stats'], rngs=rngs)
    return to_pixels(made, pixels)

  return generate


def load(folder: str | Path, checkpoint: str | int = 'last') -> Sampler:
  """Opens the generator of a run.

  Args:
    folder: its workdir.
    checkpoint: 'last', 'best' by score, or a step.

  Raises:
    InputError: there is no run, or no such checkpoint, in the folder.
  """
  folder = Path(folder)
  return of_run(experiment.open_run(folder, str(checkpoint)), folder)


def of_run(run: experiment.TrainedRun, folder: Path) -> Sampler:
  """Returns the generator of a run that is open.

  Args:
    run: a run and one of its checkpoints.
    folder: its workdir.
  """
  gan, variables, names = run.experiment.gan, run.state.sampling_variables, workdir.read_classes(folder)
  sampler = Sampler(gan.generator, variables, gan.latents, run.step, names, folder, gan.pixels)
  sampler.statistics = run.experiment.settings.sample.statistics
  return sampler


@dataclass(frozen=True)
class Asked:
  """Which images a user asks for.

  Attributes:
    num: how many; with classes, of each; None for 64, or for 8 of each class.
    seed: of their latents.
    latents_file: .npy with float [N, z_size], instead of random latents.
    classes: names of classes with commas between, or 'all'; None for any images.
    statistics: 'stored' | 'batch' | 'population' | None, see `Sampler.from_latents`.
  """

  num: int | None
  seed: int
  latents_file: str | None
  classes: str | None
  statistics: str | None


def run(folder: Path, checkpoint: str, out: str, asked: Asked) -> None:
  """Writes images of a run's generator.

  Args:
    folder: the workdir.
    checkpoint: 'last', 'best' or the number of a step.
    out: ending in .png for a grid, in .npy for an array [N, H, W, C] in the dtype and the range of the data,
      in .npz for the same under the name 'x'; else a folder for one PNG each. Of classes, a grid has a row
      for each.
    asked: which images.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = files.to_be_written('out', out)
  if target.suffix not in ('.png', '.npy', '.npz', ''):
    raise InputError(f'out={out}: must end in .png (a grid), .npy or .npz (an array) or be a folder')
  if target.suffix == '' and target.exists() and not target.is_dir():
    raise InputError(f'out={out}: is a file; choose a folder, a .png, an .npy or an .npz')
  if asked.latents_file is not None and asked.classes is not None:
    raise InputError(f'class={asked.classes}: the latents of a file say the classes; give one of the two')
  cache.keep_compiled_programs()
  sampler = load(folder, checkpoint)
  columns = None
  if asked.latents_file is not None:
    made = sampler.from_latents(read_latents(asked.latents_file), asked.statistics)
  elif asked.classes is not None:
    columns = asked.num or 8
    z = sampler.latents.draw_classes(asked.seed, columns, sampler.find_classes(asked.classes))
    made = sampler.from_latents(z, asked.statistics)
  else:
    made = sampler.sample(asked.num or 64, asked.seed, asked.statistics)
  if processes.is_main():
    _write(target, made, sampler.pixels, columns)
  print(f'{len(made)} images of step {sampler.step} in {target}')


def read_latents(path: str) -> np.ndarray:
  """Reads the array of an .npy file that a user gave to --latents.

  Raises:
    InputError: in one line.
  """
  try:
    return arrays.read_npy(files.named('latents', path))
  except InputError as error:
    raise InputError(f'latents={path}: cannot be read as .npy: {error}') from error


def _write(target: Path, made: np.ndarray, pixels: Pixels, columns: int | None) -> None:
  """Writes a grid, an array or a folder of images, by the target's suffix."""
  try:
    if target.suffix == '.png':
      pictures.save_png(target, pictures.zoom(pictures.grid(pictures.drawable(made, pixels), columns)))
    elif target.suffix == '.npy':
      with files.whole(target) as part, part.open('wb') as file:
        np.save(file, made)
    elif target.suffix == '.npz':
      with files.whole(target) as part, part.open('wb') as file:
        np.savez_compressed(file, x=made)
    else:
      digits = max(5, len(str(len(made) - 1)))
      drawn = made if pixels.transparent else pictures.drawable(made, pixels)
      for i, image in enumerate(drawn):
        pictures.save_png(target / f'{i:0{digits}d}.png', image)
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}; choose another --out') from error
