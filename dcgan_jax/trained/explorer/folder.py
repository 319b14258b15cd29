"""Writes a folder with a page in which a trained generator runs, for any server of static files.

index.html            the page, with style.css and modules of JavaScript beside it
explorer.json         the description of the generator; written last
generator-*.onnx      its weights, named after their content
vendor/               the ONNX Runtime for browsers and a GIF encoder, with their licences

Other files in the folder, such as a repository, are left alone.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dcgan_jax import files
from dcgan_jax.core import compiling
from dcgan_jax.core.models import Generator, to_pixels
from dcgan_jax.core.pixels import BYTES
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.records import hub, workdir
from dcgan_jax.runs import experiment
from dcgan_jax.settings import Settings
from dcgan_jax.trained.explorer import precision
from dcgan_jax.trained.interop import exporting, onnx
from dcgan_jax.trained.interop.exporting import Exported
from dcgan_jax.trained.walks import directions

STATIC = Path(__file__).parent / 'static'
ABOUT = 'explorer.json'
WEBGPU = 'vendor/ort.webgpu.min.mjs'  # which installed packages are without, see setup.cfg
MODEL = re.compile('generator-[0-9a-f]{8}[.]onnx')


def run(folder: Path, checkpoint: str, out: str | None, statistics: str | None = None) -> None:
  """Writes the folder.

  Args:
    folder: The workdir of a run.
    checkpoint: 'last', 'best' or the number of a step.
    out: Folder to write; None for `explorer`.
    statistics: Batch-norm statistics, 'stored' | 'population'; None for the run's own. Those of a batch give
      no image of a single latent, and become those of the population.

  Raises:
    InputError: in one line, before anything is compiled, unless the folder cannot be written.
  """
  target = _target(out or 'explorer')
  onnx.library('web')
  cache.keep_compiled_programs()
  trained = experiment.open_run(folder, checkpoint)
  pixels, channels = trained.experiment.gan.pixels, trained.experiment.settings.data.channels
  if not pixels.transparent and (pixels != BYTES or channels not in (1, 3)):
    raise InputError(
      f'workdir={folder}: format=web shows gray, RGB and RGBA pictures, and this run has images of '
      f'{channels} channels of {pixels.dtype}; take another format, such as onnx'
    )
  statistics = statistics or trained.experiment.settings.sample.statistics
  statistics = 'population' if statistics == 'batch' else statistics
  network = exporting.network_of(trained, 'generator', statistics)
  generator = network.module
  assert isinstance(generator, Generator)
  z = network.latents.draw(0, precision.CHECKED)
  change = precision.largest_difference(generator, network.variables, z)
  half = change < precision.MOST  # also False for NaN
  width = network.latents.width
  model = onnx.generator_bytes(generator, network.variables, width, half, network.metadata)
  # The page compares its own first picture with this one.
  first = np.asarray(to_pixels(compiling.jit(generator.apply)(network.variables, z[:1]), pixels))
  name = f'generator-{hashlib.sha256(model).hexdigest()[:8]}.onnx'
  about = {
    'model': {'file': name, 'weights': 'float16' if half else 'float32'},
    'webgpu': (STATIC / WEBGPU).exists(),
    'first': base64.b64encode(first.tobytes()).decode(),
    **_described(network, generator, folder),
    'made': dict(_facts(network, generator, trained.experiment.settings, half)),
  }
  size = _write(target, name, model, about)
  kept = f'{"within" if half else "not within"} {precision.MOST} of 255 of float32 ({change:.2f})'
  alone = (
    '' if about['webgpu'] else 'it draws without WebGPU, whose runtime only a clone of the repository has\n'
  )
  print(
    f'{target}: a page with the generator of step {network.step}, {size / 1e6:.1f} MB; its weights are '
    f'{about["model"]["weights"]}, for float16 is {kept}\n{alone}'
    f'python -m http.server --bind 127.0.0.1 --directory {target} shows it on http://localhost:8000'
  )


def _target(out: str) -> Path:
  """Returns the folder to write.

  Raises:
    InputError: it has other files in it.
  """
  target = files.folder_to_be_written('out', out)
  if not target.exists() or (target / ABOUT).exists():
    return target
  try:
    there = {path.name for path in target.iterdir()}
  except OSError as error:
    raise InputError(f'out={out}: cannot be read: {error.strerror}; choose another --out') from error
  ours = {path.name for path in STATIC.iterdir()}
  if foreign := sorted(name for name in there - ours if not MODEL.fullmatch(name)):
    raise InputError(
      f'out={out}: has other things in it ({foreign[0]}); choose a new folder, or an empty one'
    )
  return target


def _described(network: Exported, generator: Generator, folder: Path) -> dict[str, Any]:
  """Returns the description of a generator for the page, as JSON."""
  height, width, channels = network.image_shape
  latents, about = network.latents, network.about
  vectors = directions.of_first_layer(generator, network.variables, latents.size)
  return {
    'title': about['run'],
    'workdir': str(folder) if not folder.is_absolute() else folder.name,  # It may be published.
    'step': network.step,
    'checkpoint': None if hub.is_ours(folder) else network.step,
    'image': {'height': height, 'width': width, 'channels': channels},
    'latent': {'size': latents.size, 'prior': latents.prior, 'classes': list(about['classes'])},
    'directions': [[round(float(x), 7) for x in vector] for vector in vectors],
  }


def _data(source: str) -> str:
  """Returns a data source in words, without the rest of a path: the page may be published."""
  kind, _, place = source.partition(':')
  if kind == 'stacked':
    return f'triples of {_data(place)}'
  name = Path(place).resolve().name
  return {'folder': f'the images in {name}/', 'npy': name}.get(kind, source)


def _facts(
  network: Exported, generator: Generator, settings: Settings, half: bool
) -> Iterator[tuple[str, str]]:
  """Yields names and values of the facts about a generator."""
  about = network.about
  yield 'Data', _data(settings.data.source)
  planned = settings.train.num_steps  # 0 where train.num_epochs says how long
  yield 'Step', f'{network.step:,}' + (f' of {planned:,}' if planned >= network.step > 0 else '')
  yield 'Images', 'x'.join(map(str, network.image_shape))
  yield 'Latents', f'{network.latents.size} {network.latents.prior} numbers'
  widths = ', '.join(map(str, (*generator.dense_widths, *generator.widths)))
  count = sum(leaf.size for leaf in jax.tree.leaves(network.variables['params']))
  yield 'Generator', f'layers of {widths} channels, {count:,} parameters, {generator.upsample} upsampling'
  yield (
    'Weights',
    f'{"moving average, " if about["moving_average"] else ""}{"float16" if half else "float32"}',
  )
  yield 'Batch norm', f'{about["statistics"]} statistics'
  yield 'Loss', settings.train.loss.replace('_', '-')
  yield 'Seed', str(settings.seed)


def _write(target: Path, name: str, model: bytes, about: dict[str, Any]) -> int:
  """Writes all files, each whole or not at all, and removes the models of earlier exports.

  An existing page keeps working until its explorer.json names the new model.

  Returns:
    The bytes of all files.

  Raises:
    InputError: they cannot be written.
  """
  paths = sorted(path for path in STATIC.rglob('*') if path.is_file())
  contents = {str(path.relative_to(STATIC)): path.read_bytes() for path in paths} | {name: model}
  with files.output('out', target):
    files.write_folder(target, contents)
    workdir.write_json(target / ABOUT, about)
    for old in target.iterdir():
      if MODEL.fullmatch(old.name) and old.name != name:
        old.unlink()
    return sum(map(len, contents.values())) + os.path.getsize(target / ABOUT)
