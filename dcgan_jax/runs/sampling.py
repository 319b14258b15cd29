"""Images from a trained generator: in Python, as a grid, as files or as an array."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from dcgan_jax import files
from dcgan_jax.core import norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Generator, to_pixels
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.core.train_state import Gan
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
    latents: Size and prior of z.
    step: Training step of the checkpoint.
    classes: Class names; () if the generator is unconditional.
    statistics: Batch-norm statistics by default.
    pixels: Pixel format of the images.
    folder: Workdir that keeps population statistics once they are measured; None keeps them in memory.
    measured: Whether the variables have population statistics already.
  """

  def __init__(
    self,
    gan: Gan,
    variables: Any,
    step: int = 0,
    classes: Sequence[str] = (),
    statistics: str = 'stored',
    folder: Path | None = None,
    measured: bool = False,
  ):
    self.latents, self.pixels, self.step = gan.latents, gan.pixels, step
    self.classes = tuple(classes) or tuple(map(str, range(gan.latents.classes)))
    self.statistics, self.folder, self.measured = statistics, folder, measured
    mesh = placement.mesh()
    self._generator = gan.generator
    self._variables = jax.device_put(variables, placement.replicated(mesh))
    self._generate = {
      name: programs.map_rows(make_images(gan.generator, name, gan.pixels), mesh) for name in STATISTICS
    }

  def sample(
    self, num: int, seed: int = 0, statistics: str | None = None, label: Label | None = None
  ) -> np.ndarray:
    """Draws images; image i of a seed is the same for any `num`, unless the statistics are the batch's.

    Args:
      num: Number of images, 1 or more.
      seed: Seed of the latents; the run's own seed gives the latents of its pictures.
      statistics: Batch-norm statistics, see `from_latents`.
      label: Class of all images, by name or number, or the number of one for each, integers [num]; None draws
        classes uniformly.

    Returns:
      [num, H, W, C] in the dtype and the range of the data: uint8 of pictures. The last channel of
      transparent ones is alpha, and the others are not premultiplied by it, as in a PNG.

    Raises:
      InputError: the generator is unconditional, or has no such class.
    """
    return self.from_latents(self.draw(num, seed, label), statistics)[:num]

  def draw(self, num: int, seed: int = 0, label: Label | None = None) -> np.ndarray:
    """Draws the latents of `sample`, padded with the next ones of the seed to whole batches.

    So the last images are not normalised with copies of themselves, if the statistics are the batch's.

    Returns:
      float32 [M, width], M a multiple of `BATCH_SIZE`.
    """
    numbers = self.find_classes(label) if isinstance(label, str) else label
    if numbers is not None and not self._are_classes(np.atleast_1d(numbers)):
      raise InputError(f'label={label}: this generator has {len(self.classes)} classes, numbered from 0')
    return self.latents.draw(seed, -(-num // BATCH_SIZE) * BATCH_SIZE, numbers)

  def _are_classes(self, numbers: np.ndarray) -> bool:
    """Returns whether all of these are numbers of classes; there is no class 2.5, and none numbered '3'."""
    return numbers.dtype.kind in 'iu' and bool(((numbers >= 0) & (numbers < len(self.classes))).all())

  def sheet(self, num: int, seed: int) -> np.ndarray:
    """Returns the grid of samples that training draws, uint8 [h, w, 1 or 3]."""
    z, columns = self.latents.draw_grid(seed, num)
    return pictures.zoom(pictures.sheet(self.from_latents(z), self.pixels, columns))

  def drawable(self, z: Array | np.ndarray) -> np.ndarray:
    """Returns the images of latents [..., width] as pictures, uint8 [..., h, w, 1 or 3]."""
    made = pictures.drawable(self.from_latents(z.reshape(-1, z.shape[-1])), self.pixels)
    return made.reshape(*z.shape[:-1], *made.shape[1:])

  def find_classes(self, text: str) -> list[int]:
    """Returns the numbers of the classes in a comma-separated list of names, or of 'all'.

    Raises:
      InputError: the generator is unconditional, or has no such class.
    """
    if not self.classes:
      raise InputError(f'class={text}: this generator is unconditional; train one with data.classes')
    if text == 'all':
      return list(range(len(self.classes)))
    return [find_class('class', name.strip(), self.classes) for name in text.split(',')]

  def from_latents(self, z: Array | np.ndarray, statistics: str | None = None) -> np.ndarray:
    """Makes the images of given latents.

    Args:
      z: Latents, float [N, z_size]; of a conditional generator [N, z_size + classes], see `Latents`.
      statistics: Batch-norm statistics: 'stored' are the running averages of training, with which an image
        depends on its own z alone; 'batch' those of each 64 images (the last batch is padded by repetition),
        as the paper's authors take them; 'population' those of 10,000 latents through the trained generator,
        with which again an image depends on its own z alone; None the run's own (`sample.statistics`).

    Returns:
      [N, H, W, C], as `sample` does.

    Raises:
      InputError: the latents have another shape, or are not finite.
    """
    z = self.latents.validated(z)
    statistics = statistics or self.statistics
    return self.pixels.restore(self._generate[statistics](self.variables(statistics), z, BATCH_SIZE))

  def variables(self, statistics: str) -> Any:
    """Returns the generator's variables, with population statistics of batch norm or with the stored ones."""
    return self._population if statistics == 'population' else self._variables

  @property
  def network(self) -> tuple[Generator, Any]:
    """The generator, and variables with which an image depends on its own z alone.

    In place of statistics of each batch these have those of the population, their limit.
    """
    return self._generator, self.variables('population' if self.statistics == 'batch' else self.statistics)

  @functools.cached_property
  def _population(self) -> Any:
    """The variables with population statistics, measured at the first use."""
    if self.measured:
      return self._variables
    if self.folder is None:
      return with_population(self._generator, self.latents, self._variables)

    def measure() -> dict[str, np.ndarray]:
      measured = with_population(self._generator, self.latents, self._variables)['batch_stats']
      return {f'{norm}/{key}': np.asarray(x) for norm, both in measured.items() for key, x in both.items()}

    # The name tells generators and populations apart, also those of the same step of a run that was started
    # over, or whose settings were changed.
    content = b''.join(np.asarray(array).tobytes() for array in jax.tree.leaves(self._variables['params']))
    content += f'{self.latents} {self._generator}'.encode()
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


def with_population(generator: Generator, latents: Latents, variables: Any, num: int | None = None) -> Any:
  """Returns the generator's variables with the statistics of `num` latents, on the same devices."""
  params = jax.tree.map(lambda x: x.addressable_data(0), variables['params'])
  stats = norm_statistics.of_latents(generator, params, latents, num=num)
  return variables | {'batch_stats': jax.device_put(stats, jax.tree.leaves(variables)[0].sharding)}


def find_class(flag: str, name: str, names: tuple[str, ...]) -> int:
  """Returns the number of a class; case matters only where names differ in nothing else.

  Args:
    flag: Flag with the name, for the error message.
    name: Name of the class.
    names: Names of all classes.

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
  """Returns the function (variables, z [B, z_size]) -> images [B, H, W, C] in the stored format, to jit."""

  def generate(variables: Any, z: Array) -> Array:
    made: Any
    if statistics != 'batch':
      made = generator.apply(variables, z)
    else:
      rngs = {'dropout': jax.random.key(0)}
      made, _ = generator.apply(variables, z, train=True, mutable=['batch_stats'], rngs=rngs)
    return to_pixels(made, pixels)

  return generate


def open_sampler(folder: str | Path, checkpoint: str | int = 'last') -> Sampler:
  """Opens the generator of a run, or a trained one's folder, see `experiment.open_run`.

  Args:
    folder: The folder.
    checkpoint: 'last', 'best' by score, or a step.

  Raises:
    InputError: there is neither, or no such checkpoint, in the folder.
  """
  return sampler_of(experiment.open_run(Path(folder), str(checkpoint)))


def sampler_of(run: experiment.TrainedRun) -> Sampler:
  """Returns the generator of an open run."""
  parts, names = run.experiment, workdir.read_classes(run.folder)
  statistics, folder = parts.settings.sample.statistics, workdir.keeping(run.folder)
  measured = folder is None and statistics == 'population'
  return Sampler(parts.gan, run.state.sampling_variables, run.step, names, statistics, folder, measured)


def run(
  folder: Path,
  checkpoint: str,
  out: str,
  num: int | None = None,
  seed: int = 0,
  latents_file: str | None = None,
  classes: str | None = None,
  statistics: str | None = None,
) -> None:
  """Writes images of a run's generator.

  Args:
    folder: The workdir.
    checkpoint: 'last', 'best' or the number of a step.
    out: Path ending in .png for a grid, in .npy for an array [N, H, W, C] in the dtype and the range of the
      data, or in .npz for the same under the name 'x'; else a folder for one PNG each. A grid of classes has
      a row for each.
    num: Number of images; with `classes`, of each; None for 64, or for 8 of each class.
    seed: Seed of the latents.
    latents_file: .npy of latents, float [N, width], in place of random ones.
    classes: Comma-separated names of classes, or 'all'; None draws them uniformly.
    statistics: Batch-norm statistics, see `Sampler.from_latents`.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = files.to_be_written('out', out)
  if target.suffix not in ('.png', '.npy', '.npz', ''):
    raise InputError(f'out={out}: must end in .png (a grid), .npy or .npz (an array) or be a folder')
  if target.suffix == '' and target.exists() and not target.is_dir():
    raise InputError(f'out={out}: is a file; choose a folder, a .png, an .npy or an .npz')
  if latents_file is not None and classes is not None:
    raise InputError(
      f'class={classes}: the file of --latents already sets the classes; give only one of the two flags'
    )
  cache.keep_compiled_programs()
  sampler = open_sampler(folder, checkpoint)
  columns = None
  if latents_file is not None:
    made = sampler.from_latents(read_latents(latents_file), statistics)
  elif classes is not None:
    columns = num or 8
    z = sampler.latents.draw_classes(seed, columns, sampler.find_classes(classes))
    made = sampler.from_latents(z, statistics)
  else:
    made = sampler.sample(num or 64, seed, statistics)
  if processes.is_main():
    with files.output('out', target):
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
  if target.suffix == '.png':
    pictures.save_png(target, pictures.zoom(pictures.sheet(made, pixels, columns)))
  elif target.suffix:
    with files.whole(target) as part, part.open('wb') as file:
      if target.suffix == '.npy':
        np.save(file, made)
      else:
        np.savez_compressed(file, x=made)
  else:
    digits = max(5, len(str(len(made) - 1)))
    drawn = made if pixels.transparent else pictures.drawable(made, pixels)
    target.mkdir(exist_ok=True)
    for i, image in enumerate(drawn):
      pictures.save_png(target / f'{i:0{digits}d}.png', image)
