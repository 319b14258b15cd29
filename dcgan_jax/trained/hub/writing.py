"""Writes a folder that can be pushed to the Hugging Face Hub, from a trained run."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dcgan_jax import files
from dcgan_jax.core.train_state import PyTree
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.files import safetensors
from dcgan_jax.media import pictures
from dcgan_jax.records import hub, workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.settings import Settings
from dcgan_jax.trained.hub import card
from dcgan_jax.trained.interop import exporting

CARD = 'README.md'
NUM = 64  # images in the picture of an unconditional generator
OF_CLASS, CLASSES = 8, 16  # images of each class in that of a conditional one, for up to so many classes


def run(
  folder: Path,
  checkpoint: str,
  out: str,
  statistics: str | None = None,
  license: str | None = None,
  network: str | None = None,
  dtype: str = 'float32',
) -> None:
  """Writes config.json, model.safetensors, grid.png and README.md; other files in the folder stay.

  So does a README.md that is not a card of ours, or that was edited.

  Args:
    folder: The workdir of a run.
    checkpoint: 'last', 'best' or the number of a step.
    out: Path of the folder.
    statistics: G's batch-norm statistics, 'stored' | 'population', see `Sampler.from_latents`; None for the
      run's own.
    license: Licence of the data, in the user's words; None if it is not stated.
    network: 'generator' to leave the discriminator out; None for both.
    dtype: Dtype of the kernels, 'float32' | 'float16'.

  Raises:
    InputError: The run or the arguments cannot be exported, found before anything is compiled; or a number of
      a kernel is too large for float16.
  """
  target = _target(out)
  if license is not None and not license.strip():
    raise InputError('license: is empty; name the licence of the data, e.g. cc-by-4.0, or leave the flag out')
  safetensors.library('format=hub')
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  found = card.find_scores(folder, trained.step)
  kinds = hub.NETWORKS if network is None else (network,)
  networks = {kind: exporting.network_of(trained, kind, statistics) for kind in kinds}
  about = networks['generator'].about
  chosen, counts = without_paths(trained.experiment.settings), trained.experiment.gan.latents.counts
  classes = workdir.read_classes(folder)
  model = hub.Model(chosen, trained.step, classes, about['statistics'], counts, kinds)
  variables = {kind: exported.variables for kind, exported in networks.items()}
  kept = variables if dtype == 'float32' else {kind: _halved(each) for kind, each in variables.items()}
  picture, num = grid(sampling.Sampler(trained.experiment.gan, _widened(kept['generator'])), chosen.seed)
  name = folder.resolve().name
  described = card.About(name, model, about['moving_average'], found, license, num, dtype)
  contents = {
    hub.WEIGHTS: safetensors.to_bytes(kept, {'format': hub.LIBRARY}),
    hub.CONFIG: (json.dumps(model.to_json(), indent=2) + '\n').encode(),
    'grid.png': pictures.png(picture),
  }
  if _is_free(target / CARD):
    contents[CARD] = card.text(described).encode()
  else:
    print(
      f'{target / CARD}: is kept, because it was edited or is of something else or of an older version; '
      'remove it to get a new card'
    )
  with files.output('out', target):
    files.write_folder(target, contents)
  size = sum(map(len, contents.values()))
  what = ' and '.join(f'the {kind}' for kind in kinds)
  scored = f'{len(found)} tables of scores' if found else 'no scores; --mode=evaluate takes some'
  print(f'{target}: {what} of step {trained.step}; {size / 1e6:.2f} MB; {scored}')
  if dtype != 'float32':
    exact, _ = grid(sampling.Sampler(trained.experiment.gan, variables['generator']), chosen.seed)
    change = np.abs(exact.astype(int) - picture)
    print(
      f'{target}: {dtype} changes grid.png by {change.mean():.3f} of 255 on average, {change.max()} at most'
    )


def grid(sampler: sampling.Sampler, seed: int) -> tuple[np.ndarray, int]:
  """Returns the picture grid.png, uint8 [h, w, 1 or 3], and its number of images."""
  num = OF_CLASS * min(CLASSES, sampler.latents.classes) or NUM
  z, columns = sampler.latents.draw_grid(seed, num)
  return pictures.zoom(pictures.sheet(sampler.from_latents(z), sampler.pixels, columns)), len(z)


def _halved(variables: PyTree) -> PyTree:
  """Returns variables whose kernels are float16; all else, which is small, stays as it is.

  Raises:
    InputError: a number of a kernel is too large for float16.
  """

  def halve(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
    if path[-1].key != 'kernel':
      return array
    with np.errstate(over='ignore'):
      rounded = array.astype(np.float16)
    if not np.isfinite(rounded).all():
      raise InputError('dtype=float16: the kernels have numbers beyond 65504; leave the flag out')
    return rounded

  return jax.tree_util.tree_map_with_path(halve, variables)


def _widened(variables: PyTree) -> PyTree:
  """Returns variables as they are loaded."""
  return jax.tree.map(lambda array: array.astype(np.float32), variables)


def without_paths(chosen: Settings) -> Settings:
  """Returns settings in which paths of this machine are cut to their last names."""
  source = chosen.data.source
  if found := re.fullmatch(r'((?:stacked:)?(?:folder|npy):)(.+)', source):
    source = found[1] + (Path(found[2]).name or '.')
  return dataclasses.replace(
    chosen,
    data=dataclasses.replace(chosen.data, source=source),
    eval=dataclasses.replace(chosen.eval, weights=''),
  )


def _target(out: str) -> Path:
  """Returns the folder to write.

  Raises:
    InputError: it cannot be written, or is something else.
  """
  target = files.folder_to_be_written('out', out)
  if (target / hub.CONFIG).exists() and not hub.is_ours(target):
    raise InputError(f'out={out}: has a {hub.CONFIG} of something else; choose another folder')
  return target


def _is_free(path: Path) -> bool:
  """Returns whether a card may be written: there is none yet, or an unedited one."""
  if not path.exists():
    return True
  try:
    return path.is_file() and card.is_own(path.read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError):
    return False
