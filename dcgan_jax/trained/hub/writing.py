"""Writes a folder that can be pushed to the Hugging Face Hub, from a trained run."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax import files
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.settings import Settings
from dcgan_jax.trained.hub import card, loading
from dcgan_jax.trained.interop import exporting, safetensors

CARD = 'README.md'
NUM = 64  # images in the picture


class Asked(NamedTuple):
  """What a user wants to have in the folder.

  Attributes:
    out: the folder.
    statistics: of G's batch norm: 'stored' | 'population', see `Sampler.from_latents`; None as the run says.
    license: of the data, in the user's words; None says that it is not stated.
  """

  out: str
  statistics: str | None = None
  license: str | None = None


def run(folder: Path, checkpoint: str, asked: Asked) -> None:
  """Writes config.json, model.safetensors, grid.png and README.md; other files in the folder stay.

  So does a README.md that is not a card of this mode, or that was edited.

  Args:
    folder: the workdir of a run.
    checkpoint: 'last', 'best' or the number of a step.
    asked: what and where.

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = _target(asked.out)
  if asked.license is not None and not asked.license.strip():
    raise InputError('license: is empty; name the licence of the data, e.g. cc-by-4.0, or leave the flag out')
  safetensors.library('format=hub')
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  found = card.find_scores(folder, trained.step)
  generator = exporting.network_of(trained, folder, 'generator', asked.statistics)
  discriminator = exporting.network_of(trained, folder, 'discriminator')
  statistics = generator.about['statistics']
  chosen, counts = without_paths(trained.experiment.settings), trained.experiment.gan.latents.counts
  model = loading.Model(chosen, trained.step, workdir.read_classes(folder), statistics, counts)
  variables = {'generator': generator.variables, 'discriminator': discriminator.variables}
  picture = _grid(sampling.of_run(trained, folder), trained.experiment.settings, statistics)
  average = generator.about['moving_average']
  name = folder.resolve().name
  about = card.About(name, model, average, found, asked.license, len(picture.images))
  contents = {
    loading.WEIGHTS: safetensors.to_bytes(variables, {'format': loading.LIBRARY}),
    loading.CONFIG: (json.dumps(model.to_json(), indent=2) + '\n').encode(),
    'grid.png': picture.png,
  }
  if _is_free(target / CARD):
    contents[CARD] = card.text(about).encode()
  else:
    print(
      f'{target / CARD}: is kept, because it was edited or is of something else or of an older version; '
      'remove it to get a new card'
    )
  _write(target, contents)
  size = sum(map(len, contents.values()))
  scored = f'{len(found)} tables of scores' if found else 'no scores; --mode=evaluate takes some'
  print(
    f'{target}: the generator and the discriminator of step {trained.step}; {size / 1e6:.2f} MB; {scored}'
  )


def without_paths(chosen: Settings) -> Settings:
  """Returns settings without the paths of this machine, of which only the last names remain."""
  source = chosen.data.source
  if found := re.fullmatch(r'((?:stacked:)?(?:folder|npy):)(.+)', source):
    source = found[1] + (Path(found[2]).name or '.')
  return dataclasses.replace(
    chosen,
    data=dataclasses.replace(chosen.data, source=source),
    eval=dataclasses.replace(chosen.eval, weights=''),
  )


class _Picture(NamedTuple):
  """A grid of images, and the same as a file."""

  images: np.ndarray
  png: bytes


def _grid(sampler: sampling.Sampler, chosen: Settings, statistics: str) -> _Picture:
  """Draws what `--mode=sample` draws of the run's seed; with classes, eight of each of the first."""
  columns, latents = None, sampler.latents
  if latents.classes:
    columns = 8
    z = latents.draw_classes(chosen.seed, columns, range(min(latents.classes, 16)))
  else:
    z = latents.draw(chosen.seed, NUM)
  images = sampler.from_latents(z, statistics)
  drawn = pictures.zoom(pictures.grid(pictures.drawable(images, sampler.pixels), columns))
  file = io.BytesIO()
  pictures.to_pillow(drawn).save(file, 'PNG')
  return _Picture(images, file.getvalue())


def _target(out: str) -> Path:
  """Returns the folder that is to be written.

  Raises:
    InputError: it cannot be, or it is something else.
  """
  target = files.to_be_written('out', out)
  if target.exists() and not target.is_dir():
    raise InputError(f'out={out}: is a file; format=hub writes a folder')
  if (target / loading.CONFIG).exists() and not loading.is_ours(target):
    raise InputError(f'out={out}: has a {loading.CONFIG} of something else; choose another folder')
  return target


def _is_free(path: Path) -> bool:
  """Returns whether a card may be written: there is none yet, or one that was not edited."""
  if not path.exists():
    return True
  try:
    return path.is_file() and card.is_own(path.read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError):
    return False


def _write(target: Path, contents: dict[str, bytes]) -> None:
  """Writes the files of a folder, each whole or not at all.

  Raises:
    InputError: one cannot be written.
  """
  try:
    for name, content in contents.items():
      with files.whole(target / name) as part:
        part.write_bytes(content)
  except OSError as error:
    raise InputError(f'out={target}: cannot be written: {error.strerror}; choose another --out') from error
