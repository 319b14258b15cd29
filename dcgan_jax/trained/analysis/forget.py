"""Removes the maps of a generator that draw a class, as the paper does with windows (section 6.3.1).

It prints a table, and writes forget_CLASS.json and forget_CLASS.png: the same latents before and after.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from dcgan_jax.data import cache
from dcgan_jax.devices import placement
from dcgan_jax.devices.programs import map_rows
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.analysis import attribution

LEAST = 10  # samples of the class, and of the others, for a regression
SHOWN = 12  # images in a row of the picture


class Samples(NamedTuple):
  """Images as they are kept, [N, H, W, C], and their classes by the classifier, integers [N]."""

  images: np.ndarray
  classes: np.ndarray


def run(
  folder: Path,
  num: int,
  seed: int,
  checkpoint: str,
  name: str | None,
  layer: int | None,
  drop: int | None,
  statistics: str | None = None,
) -> None:
  """Drops maps, makes the same samples again, and writes the comparison to the workdir.

  For reference, as many maps are also dropped at random.

  Args:
    folder: The workdir.
    num: Number of samples.
    seed: Seed of their latents.
    checkpoint: 'last', 'best' or the number of a step.
    name: Name of a class of the run's data.
    layer: Hidden layer of the generator whose maps are dropped, 0 the dense one; None for the last but one,
      as in the paper.
    drop: Number of maps to drop, those of the largest weights first; None for all of positive weight, as in
      the paper.
    statistics: Batch-norm statistics, see `sampling.Sampler.from_latents`.

  Raises:
    InputError: in one line.
  """
  trained = experiment.open_run(folder, checkpoint)
  parts, widths = trained.experiment, trained.experiment.gan.generator.widths
  layer = _check_layer(layer, drop, widths)
  labels = parts.source.labels()
  if name is None:
    raise InputError(f'--class is missing: give one of {", ".join(labels.names)}')
  index = sampling.find_class('class', name, labels.names)
  cache.keep_compiled_programs()
  real = cache.load(parts.source, parts.settings.data.source)
  keeping = workdir.keeping(folder)
  look = extractors.learned_extractor(parts.source, real, labels, keeping).look

  sampler = sampling.sampler_of(trained)
  used = statistics or sampler.statistics
  generate = sampling.make_images(parts.gan.generator, used, parts.gan.pixels)
  variables, z = sampler.variables(used), sampler.draw(num, seed)
  make = _maker(attribution.make_without(generate, layer), variables, z, num, widths[layer], look)
  before = make(np.array([], int))
  weights = _weights(attribution.make_hidden(generate, layer), variables, z, before.classes == index, name)
  count = int((weights > 0).sum()) if drop is None else drop
  after = make(np.argsort(-weights, kind='stable')[:count])
  control = make(np.random.default_rng(0).permutation(len(weights))[:count])

  report = {
    'checkpoint': f'step {trained.step} of {folder}, seed {seed}, {num} samples, {used} statistics',
    'class': name,
    'layer': layer,
    'maps': len(weights),
    'dropped': count,
    'names': list(labels.names),
    **_shares(labels.names, before, {'after': after, 'random': control}),
  }
  print(_table(report))
  if keeping is None:
    print('only printed: results are kept in the workdir of a run')
    return
  path = folder / f'forget_{re.sub("[^0-9A-Za-z]+", "_", name)}'
  with workdir.said_if_not_written(path.with_suffix('.json')):
    workdir.write_json(path.with_suffix('.json'), report)
    pixels = parts.gan.pixels
    drawn = [pictures.drawable(pixels.restore(x.images), pixels) for x in (before, after)]
    _draw(path.with_suffix('.png'), name, before.classes == index, *drawn)
    print(f'{path}.json and .png')


def _check_layer(layer: int | None, drop: int | None, widths: tuple[int, ...]) -> int:
  """Returns the number of the layer, by default that of the last but one.

  Raises:
    InputError: there is no such layer, or it has too few maps.
  """
  layer = max(0, len(widths) - 2) if layer is None else layer
  if not 0 <= layer < len(widths):
    raise InputError(f'layer={layer}: the hidden layers of this generator are 0 to {len(widths) - 1}')
  if drop is not None and drop > widths[layer]:
    raise InputError(f'drop={drop}: layer {layer} has {widths[layer]} maps')
  return layer


def _maker(
  without: Callable[[Any, Array, Array], Array],
  variables: Any,
  z: np.ndarray,
  num: int,
  width: int,
  look: Callable[[np.ndarray], extractors.Features],
) -> Callable[[np.ndarray], Samples]:
  """Returns the function from the indices of maps to the samples without these maps.

  Args:
    without: Generator without some maps, see `attribution.make_without`.
    variables: Variables of the generator.
    z: Latents in whole batches, float32 [M, Z].
    num: Number of samples; the rest of `z` is padding.
    width: Maps of the layer.
    look: Classifier, see `extractors.Extractor`.
  """

  def generate(variables: Any, z: Array) -> Array:
    return without(variables['generator'], z, variables['kept'])

  mapped = map_rows(generate, placement.mesh())

  def make(dropped: np.ndarray) -> Samples:
    kept = np.ones(width, np.float32)
    kept[dropped] = 0.0
    made = mapped({'generator': variables, 'kept': kept}, z, sampling.BATCH_SIZE)[:num]
    return Samples(made, look(made)['probabilities'].argmax(1))

  return make


def _weights(
  hidden: attribution.Generate, variables: Any, z: np.ndarray, of_class: np.ndarray, name: str
) -> np.ndarray:
  """Returns the weight of each map of a layer for a class, [C], see `attribution.responsible`.

  Args:
    hidden: Function to the averages of the maps, see `attribution.make_hidden`.
    variables: Variables of the generator.
    z: Latents in whole batches, float32 [M, Z].
    of_class: Membership of each sample in the class, bool [num].
    name: Name of the class.

  Raises:
    InputError: too few samples are of the class, or of the others.
  """
  num = len(of_class)
  if min(of_class.sum(), (~of_class).sum()) < LEAST:
    raise InputError(
      f'class={name}: {of_class.sum()} of {num} samples look like it; forgetting takes {LEAST} of it, and '
      'of others; try a larger --num'
    )
  averages = map_rows(hidden, placement.mesh())(variables, z, sampling.BATCH_SIZE)[:num]
  return attribution.responsible(averages, of_class)


def _shares(names: tuple[str, ...], before: Samples, changed: dict[str, Samples]) -> dict[str, Any]:
  """Returns the classes of the samples before and after each change.

  Args:
    names: Names of the classes.
    before: Samples of the whole generator.
    changed: Samples of the generator without maps, by name of the change.

  Returns:
    'shares': of all samples that are in each class, before and after each change. 'still': of the samples
    that were in each class, the share that still is; None for a class without samples.
  """

  def of_all(samples: Samples) -> list[float]:
    return [float((samples.classes == i).mean()) for i in range(len(names))]

  def still(samples: Samples) -> list[float | None]:
    own = [before.classes == i for i in range(len(names))]
    return [float((samples.classes[m] == i).mean()) if m.any() else None for i, m in enumerate(own)]

  return {
    'shares': {'before': of_all(before)} | {k: of_all(v) for k, v in changed.items()},
    'still': {k: still(v) for k, v in changed.items()},
  }


def _table(report: dict[str, Any]) -> str:
  """Returns the report as text."""
  shares, still, names = report['shares'], report['still'], report['names']
  width = max(7, *(len(name) + 3 for name in names))
  lines = [
    report['checkpoint'],
    f'{report["dropped"]} of {report["maps"]} maps of hidden layer {report["layer"]} dropped, to forget '
    f'{report["class"]}; for comparison, as many at random',
    '',
    f'{"":{width}}{"share of samples":^32}{"still of its class":^20}',
    f'{"class":{width}}{"before":>9}{"without":>11}{"at random":>12}{"without":>9}{"at random":>11}',
  ]
  for i, name in enumerate(names):
    kept = ['' if still[k][i] is None else f'{still[k][i]:.0%}' for k in ('after', 'random')]
    lines.append(
      f'{"> " if name == report["class"] else "  "}{name:{width - 2}}{shares["before"][i]:9.1%}'
      f'{shares["after"][i]:11.1%}{shares["random"][i]:12.1%}{kept[0]:>9}{kept[1]:>11}'
    )
  return '\n'.join(lines)


def _draw(path: Path, name: str, of_class: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
  """Writes a figure of the first samples of the class and of the others, each above its changed version.

  Args:
    path: Path of the figure.
    name: Name of the class.
    of_class: Membership of each sample in the class, bool [N].
    before: Pictures of the samples, uint8 [N, h, w, 1 or 3].
    after: The same samples without maps.
  """
  from matplotlib.figure import Figure  # without pyplot, which has global state and wants a display

  figure = Figure(figsize=(10, 4.0), layout='constrained')
  panels: Any = figure.subplots(2, 1)
  titles = (f'{name}: above before, below without its maps', 'other classes: the same')
  for panel, title, group in zip(panels, titles, (of_class, ~of_class)):
    chosen = np.flatnonzero(group)[:SHOWN]
    picture = pictures.grid(np.concatenate([before[chosen], after[chosen]]), columns=len(chosen))
    plots.show(panel, picture, title)
  plots.save_figure(path, figure)
