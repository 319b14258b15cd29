"""Writes a folder that can be pushed to the Hugging Face Hub, from a trained run."""

import dataclasses
import json
import re
from pathlib import Path

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
NUM = 64  # images in the picture of an unconditional generator
OF_CLASS, CLASSES = 8, 16  # images of each class in that of a conditional one, for up to so many classes


def run(
  folder: Path, checkpoint: str, out: str, statistics: str | None = None, license: str | None = None
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

  Raises:
    InputError: in one line, before anything is compiled.
  """
  target = _target(out)
  if license is not None and not license.strip():
    raise InputError('license: is empty; name the licence of the data, e.g. cc-by-4.0, or leave the flag out')
  safetensors.library('format=hub')
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  found = card.find_scores(folder, trained.step)
  generator = exporting.network_of(trained, 'generator', statistics)
  discriminator = exporting.network_of(trained, 'discriminator')
  statistics = generator.about['statistics']
  chosen, counts = without_paths(trained.experiment.settings), trained.experiment.gan.latents.counts
  model = loading.Model(chosen, trained.step, workdir.read_classes(folder), statistics, counts)
  variables = {'generator': generator.variables, 'discriminator': discriminator.variables}
  sampler = sampling.sampler_of(trained)
  num = OF_CLASS * min(CLASSES, sampler.latents.classes) or NUM
  z, columns = sampler.latents.draw_grid(trained.experiment.settings.seed, num)
  picture = pictures.sheet(sampler.from_latents(z, statistics), sampler.pixels, columns)
  average = generator.about['moving_average']
  name = folder.resolve().name
  about = card.About(name, model, average, found, license, len(z))
  contents = {
    loading.WEIGHTS: safetensors.to_bytes(variables, {'format': loading.LIBRARY}),
    loading.CONFIG: (json.dumps(model.to_json(), indent=2) + '\n').encode(),
    'grid.png': pictures.png(pictures.zoom(picture)),
  }
  if _is_free(target / CARD):
    contents[CARD] = card.text(about).encode()
  else:
    print(
      f'{target / CARD}: is kept, because it was edited or is of something else or of an older version; '
      'remove it to get a new card'
    )
  with files.output('out', target):
    files.write_folder(target, contents)
  size = sum(map(len, contents.values()))
  scored = f'{len(found)} tables of scores' if found else 'no scores; --mode=evaluate takes some'
  print(
    f'{target}: the generator and the discriminator of step {trained.step}; {size / 1e6:.2f} MB; {scored}'
  )


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
  if (target / loading.CONFIG).exists() and not loading.is_ours(target):
    raise InputError(f'out={out}: has a {loading.CONFIG} of something else; choose another folder')
  return target


def _is_free(path: Path) -> bool:
  """Returns whether a card may be written: there is none yet, or an unedited one."""
  if not path.exists():
    return True
  try:
    return path.is_file() and card.is_own(path.read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError):
    return False
