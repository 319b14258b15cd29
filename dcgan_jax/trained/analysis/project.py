"""Finds the latents of given images, and scores how well the generator can reproduce each.

z.npy         the latents, float32 [N, width], for --latents of --mode=sample and --mode=walk
project.png   originals beside their reconstructions, and the errors
ranked.png    the same, the highest anomaly scores first
project.json  the errors and the score of each image
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import arrays, cache
from dcgan_jax.devices import placement, processes, programs
from dcgan_jax.evaluation import given
from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.runs.experiment import TrainedRun
from dcgan_jax.runs.sampling import Sampler
from dcgan_jax.trained.analysis import inversion
from dcgan_jax.trained.analysis.inversion import Search

BATCH_SIZE = 16  # images in a device's batch, at most
SHOWN = 64  # images in a picture, at most
COLUMNS = 4  # pairs in a row of a picture
TILE = 96  # approximate side of enlarged images in pixels


class Projected(NamedTuple):
  """Results for N images.

  Attributes:
    z: Latents, float32 [N, width].
    made: Their images as they are kept, [N, H, W, C].
    pixel_error: Mean absolute difference of the pixels, in 0..255, [N].
    residual: Mean squared difference of the pixels, in [-1, 1], [N].
    feature_error: Mean squared difference of D's last activations, [N].
    score: Anomaly score, [N].
  """

  z: np.ndarray
  made: np.ndarray
  pixel_error: np.ndarray
  residual: np.ndarray
  feature_error: np.ndarray
  score: np.ndarray


def run(
  folder: Path,
  checkpoint: str,
  out: str,
  images_from: str,
  num: int,
  seed: int,
  classes: str | None,
  search: Search,
) -> None:
  """Projects images and writes the results.

  Args:
    folder: The workdir of a run.
    checkpoint: 'last', 'best' or the number of a step.
    out: Folder for the results.
    images_from: Origin of the images, see `given.read`.
    num: Largest number of images.
    seed: Seed of the random latents that the descent starts from.
    classes: Comma-separated names of the classes to try; None for all.
    search: Effort of the search.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = files.folder_to_be_written('out', out)
  images, names = given.read(images_from, experiment.build(workdir.read_settings(folder)).fit, num)
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  sampler = sampling.sampler_of(trained)
  numbers = None if classes is None else sampler.find_classes(classes)
  start = time.monotonic()
  found = project(trained, sampler, images, search, seed, numbers)
  seconds = (time.monotonic() - start) / len(images)
  if processes.is_main():
    about = {'workdir': str(folder), 'step': trained.step, 'images_from': images_from, 'seed': seed}
    with files.output('out', target):
      _write(target, images, found, _report(about | vars(search), sampler, names, found), sampler.pixels)
  for name in ('pixel_error', 'feature_error', 'score'):
    values = getattr(found, name)
    print(
      f'{name.replace("_", " "):16}mean {values.mean():.4g}, from {values.min():.4g} to {values.max():.4g}'
    )
  if not trained.state.discriminator.params:
    print(f'{folder}: has no discriminator, so the score is of the pixels alone')
  print(f'{len(images)} images by step {trained.step} of {folder}, {seconds:.2g} s each, in {target}')


def project(
  trained: TrainedRun,
  sampler: Sampler,
  images: np.ndarray,
  search: Search,
  seed: int = 0,
  classes: Sequence[int] | None = None,
) -> Projected:
  """Finds the latents of images, on all devices.

  Args:
    trained: The run, whose discriminator compares images.
    sampler: The run's generator.
    images: Images of the run's shape, as they are kept, [N, H, W, C].
    search: Effort of the search.
    seed: Seed of the random latents that the descent starts from.
    classes: Numbers of the classes to try; None for all.
  """
  gan, latents = trained.experiment.gan, sampler.latents
  z = latents.draw(seed, inversion.CANDIDATES, classes)
  generator, weights = sampler.network
  mesh, judge = placement.mesh(), trained.state.discriminator.variables
  variables = {
    'generator': weights,
    'discriminator': judge,
    'candidates': z.reshape(-1, inversion.CHUNK, latents.width),
  }
  variables = jax.device_put(variables, placement.replicated(mesh))
  discriminator = gan.discriminator if judge['params'] else None
  find = inversion.make_projection(generator, discriminator, latents, search, gan.pixels)
  apply = programs.map_rows(find, mesh)
  each = min(BATCH_SIZE, -(-len(images) // mesh.size))
  parts = []
  with tqdm(total=len(images), desc='projected', unit='image', disable=None) as bar:
    for start in range(0, len(images), each * mesh.size):
      parts.append(apply(variables, images[start : start + each * mesh.size], each))
      bar.update(len(parts[-1]['z']))
  found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  steady = 'population' if sampler.statistics == 'batch' else None
  made = gan.pixels.keep(sampler.from_latents(found['z'], steady))
  seen, wanted = (gan.pixels.in_eight_bits(x).astype(np.float32) for x in (made, images))
  differences = np.abs(seen - wanted)
  score = inversion.score(found['residual'], found['feature_error'])
  errors = (differences.mean((1, 2, 3)), found['residual'], found['feature_error'], score)
  return Projected(found['z'], made, *errors)


def _report(about: dict[str, Any], sampler: Sampler, names: list[str], found: Projected) -> dict[str, Any]:
  """Returns the content of project.json, of which `about` is the beginning."""
  rows: list[dict[str, Any]] = []
  for i, name in enumerate(names):
    row: dict[str, Any] = {'file': name}
    if sampler.classes:
      row['class'] = sampler.classes[int(found.z[i, sampler.latents.size :].argmax())]
    for field in ('pixel_error', 'residual', 'feature_error'):
      row[field] = float(getattr(found, field)[i])
    rows.append(row | {'anomaly_score': float(found.score[i])})
  return {
    **about,
    'about': {
      'pixel_error': 'mean absolute difference of the pixels, in 0..255',
      'residual': 'mean squared difference of the pixels, in [-1, 1]',
      'feature_error': "mean squared difference of the activations of D's last hidden layer",
      'anomaly_score': f'residual + {inversion.KAPPA:g} * feature_error (f-AnoGAN, Schlegl et al. 2019)',
    },
    'mean': {
      'pixel_error': float(found.pixel_error.mean()),
      'anomaly_score': float(found.score.mean()),
    },
    'images': rows,
  }


def _write(
  target: Path, images: np.ndarray, found: Projected, report: dict[str, Any], pixels: Pixels
) -> None:
  """Writes the latents, the report and both pictures."""
  target.mkdir(parents=True, exist_ok=True)
  arrays.write_npy(target / 'z.npy', [found.z], found.z.shape[1:], np.float32)
  workdir.write_json(target / 'project.json', report)
  order = np.argsort(-found.score, kind='stable')[:SHOWN]
  pictures.save_png(target / 'ranked.png', draw(images, found, order, pixels))
  pictures.save_png(target / 'project.png', draw(images, found, np.arange(min(SHOWN, len(images))), pixels))


def draw(images: np.ndarray, found: Projected, order: np.ndarray, pixels: Pixels = BYTES) -> np.ndarray:
  """Draws pairs of an original and its reconstruction; under it its number, its error and its score.

  Args:
    images: Originals as they are kept, [N, H, W, C].
    found: Results for them.
    order: Indices of those to draw, integers [n].
    pixels: Pixel format of the images.

  Returns:
    uint8 [h, w, 1 or 3].
  """
  both = [pictures.drawable(pixels.restore(x[order]), pixels) for x in (images, found.made)]
  pairs = pictures.zoom(np.concatenate(both, 2), 2 * TILE)
  lines = [f'{i}: error {found.pixel_error[i]:.1f}, score {found.score[i]:.2f}' for i in order]
  return pictures.grid(pictures.captioned(pairs, lines), min(COLUMNS, len(order)), gap=6)
