"""Scores a run's generator, or images from elsewhere, against the run's data.

It prints a table, and writes evaluation.json and evaluation.png: a chart of the classes, and images beside
the real ones nearest to them.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.data import cache, sources
from dcgan_jax.data.labels import Labels
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors, given, nearest, scores, scoring
from dcgan_jax.evaluation.scoring import LEAST
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling


def run(
  folder: Path,
  num: int,
  seed: int,
  checkpoint: str,
  chosen: extractors.Chosen,
  images_from: str | None,
  statistics: str | None = None,
) -> None:
  """Scores images and writes the results to the workdir.

  Args:
    folder: the workdir of a run, with whose data the images are compared.
    num: how many images to generate; of given images, how many to take at most.
    seed: of the latents.
    checkpoint: 'last', 'best' or the number of a step.
    chosen: the extractor of the features.
    images_from: what to score instead of generated images, see `given.read`.
    statistics: of batch norm, see `sampling.Sampler.from_latents`.

  Raises:
    InputError: in one line.
  """
  if num < LEAST:
    raise InputError(f'num={num}: scores take {LEAST} images or more')
  parts = experiment.build(workdir.read_settings(folder))
  prepared = extractors.prepare(chosen, parts, folder)
  fit = parts.source.fit
  others = None if images_from is None else given.read(images_from, fit, num, LEAST).images
  cache.keep_compiled_programs()
  sampler = sampling.open_sampler(folder, checkpoint) if others is None else None
  real = _real_images(parts)
  if sampler is not None:
    asked = scoring.classes_like_data(parts, num, seed)
    made = fit.pixels.keep(sampler.sample(num, seed, statistics, asked))
    used = statistics or sampler.statistics
    fake = _Images(made, f'step {sampler.step} of {folder}, seed {seed}, {used} statistics', used, asked)
  elif others is not None:
    fake = _Images(others, str(images_from))
  compared = _compare(parts, prepared, real, fake)
  if processes.is_main():
    ours, theirs = compared.found['features'], compared.reference['features']
    _write(folder, compared.report, nearest.beside(fake.pixels, ours, real, theirs, fit.pixels))
  print(_table(compared.report))


def score_images(
  folder: str | Path, images: np.ndarray, chosen: extractors.Chosen | None = None
) -> dict[str, Any]:
  """Scores images from elsewhere against the data of a run, and writes no report.

  Args:
    folder: the workdir of the run, which keeps the classifier once it is trained.
    images: [N, H, W, C], N at least 10, in the dtype and the range of the run's data: uint8 of pictures.
    chosen: the extractor of the features; by default the classifier.

  Returns:
    What `--mode=evaluate` writes to evaluation.json: 'scores' by name, 'protocol', 'classes' and more.

  Raises:
    InputError: in one line; there is no run, or the images are no such images.
  """
  parts = experiment.build(workdir.read_settings(Path(folder)))
  prepared = extractors.prepare(chosen or extractors.Chosen('classifier'), parts, Path(folder))
  fit = parts.source.fit
  given.check_shape('array', images.dtype, images.shape, fit)
  if len(images) < LEAST:
    raise InputError(f'images=array: has {len(images)} images; scores take {LEAST} or more')
  given.check_numbers('array', images, fit)
  fake = _Images(fit.pixels.keep(images), 'an array')
  return _compare(parts, prepared, _real_images(parts), fake).report


class _Images(NamedTuple):
  """Images that are scored.

  Attributes:
    pixels: of them, as they are kept, [N, H, W, C].
    origin: where they are from, in words.
    statistics: of the generator's batch norm; 'unknown' for images from elsewhere.
    asked: the classes that the generator was asked for, integers [N]; None if it is told none.
  """

  pixels: np.ndarray
  origin: str
  statistics: str = 'unknown'
  asked: np.ndarray | None = None


class _Compared(NamedTuple):
  """Images compared with real ones: the report, the features of both, see `extractors.reference`."""

  report: dict[str, Any]
  found: extractors.Features
  reference: dict[str, np.ndarray]


def _real_images(parts: experiment.Experiment) -> np.ndarray:
  """Returns all images of a run's data, as they are kept.

  Raises:
    InputError: they are too few.
  """
  name = parts.settings.data.source
  real = cache.load(parts.source, name)
  scoring.check_enough(name, real)
  return real


def _compare(
  parts: experiment.Experiment, prepared: extractors.Prepared, real: np.ndarray, fake: _Images
) -> _Compared:
  """Scores images.

  Args:
    parts: of the run with whose data they are compared.
    prepared: see `extractors.prepare`.
    real: all images of the data, as they are kept.
    fake: the images.
  """
  labels, make_extractor = prepared
  source, split = parts.source, parts.settings.data.split
  extractor = make_extractor(real)
  reference = extractors.reference(source, real, extractor)
  found = extractor.look(fake.pixels)
  count, neighbours = len(fake.pixels), len(reference['features'])
  report = {
    'images': fake.origin,
    'num': count,
    'against': f'{len(real)} images of {parts.settings.data.source}, {split}, {source.fit.image_size}',
    'features': extractor.kind,
    'about': extractor.description,
    'protocol': scoring.protocol(extractor, count, neighbours, split, fake.statistics),
    **_results(found, reference, extractor.kind, labels, isinstance(source, sources.Stacked)),
  }
  if fake.asked is not None and 'classes' in report and labels is not None:
    moments = extractors.class_moments(source, real, extractor, labels)
    report['asked'] = scoring.by_class(found, fake.asked, moments, labels)
  return _Compared(report, found, reference)


def _write(folder: Path, report: dict[str, Any], beside_nearest: np.ndarray) -> None:
  """Writes the report and its figure to the workdir."""
  kind = report['features']
  path = folder / ('evaluation' if kind == 'classifier' else f'evaluation_{kind}')
  with workdir.said_if_not_written(path.with_suffix('.json')):
    workdir.write_json(path.with_suffix('.json'), report)
    _draw(path.with_suffix('.png'), report.get('classes'), beside_nearest)
    pictures.save_png(folder / 'neighbours.png', pictures.zoom(beside_nearest))
    print(f'{path}.json and .png')


def _results(
  found: extractors.Features,
  reference: dict[str, np.ndarray],
  kind: str,
  labels: Labels | None,
  stacked: bool,
) -> dict[str, Any]:
  """Returns the scores of images and, if the classes are known, how the images are spread over them.

  Args:
    found: features and probabilities of the images.
    reference: of the real images, see `extractors.reference`.
    kind: of the extractor.
    labels: of the real images.
    stacked: whether the classes are triples, which are counted and not listed.
  """
  results: dict[str, Any] = {'scores': scoring.score(found, reference, kind)}
  if labels is not None and stacked:
    results['scores'] |= scores.modes(found['probabilities'])._asdict()
  elif labels is not None:
    results['classes'] = scoring.classes(found['probabilities'], labels)
  return results


def _table(report: dict[str, Any]) -> str:
  """Returns the report as text."""
  lines = [
    f'{report["num"]} images of {report["images"]}',
    f'against {report["against"]}',
    report['about'],
    report['protocol'],
    '',
  ]
  lines += [f'{name.replace("_", " "):32}{value:12.4f}' for name, value in report['scores'].items()]
  if 'classes' in report:
    classes = report['classes']
    divergence = math.inf if classes['divergence'] is None else classes['divergence']
    lines += [f'{"divergence of classes, nats":32}{divergence:12.4f}', '']
    width = max(12, *(len(name) + 2 for name in classes['names']))
    lines.append(f'{"class":{width}}{"generated":>10}{"data":>10}')
    for name, made, real in zip(classes['names'], classes['generated'], classes['data']):
      lines.append(f'{name:{width}}{made:10.1%}{real:10.1%}  {"#" * round(100 * made)}')
    lines.append(f'missing: {", ".join(classes["missing"]) or "none"}')
  if 'asked' in report:
    asked = report['asked']
    lines += ['', f'{"of the class that was asked for":32}{asked["agreement"]:12.1%}', '']
    lines.append(f'{"asked for":{width}}{"of it":>10}{"distance within":>18}')
    for name, agreement, distance in zip(asked['names'], asked['agreements'], asked['distances']):
      share = '-' if agreement is None else f'{agreement:.1%}'
      within = '-' if distance is None else f'{distance:.1f}'
      lines.append(f'{name:{width}}{share:>10}{within:>18}')
    few = [f'{name} ({n["made"]} made, {n["real"]} real)' for name, n in asked['left_out'].items()]
    if few:
      shown = ', '.join(few[:20]) + (' ...' if len(few) > 20 else '')
      lines.append(f'no distance within a class of fewer than {scores.LEAST_OF_MOMENTS} images: {shown}')
  return '\n'.join(lines)


def _draw(path: Path, classes: dict[str, Any] | None, picture: np.ndarray) -> None:
  """Writes a figure with the classes of the images beside those of the data, if any, and with a picture."""
  from matplotlib.figure import Figure  # without pyplot, which has global state and wants a display

  figure = Figure(figsize=(10 if classes else 5, 6), layout='constrained')
  panels: Any = figure.subplots(1, 2 if classes else 1, squeeze=False)[0]
  if classes:
    position = np.arange(len(classes['names']))
    panels[0].barh(position - 0.2, classes['generated'], 0.4, label='generated', color='tab:orange')
    panels[0].barh(position + 0.2, classes['data'], 0.4, label='data', color='tab:blue')
    panels[0].set_yticks(position, classes['names'])
    panels[0].invert_yaxis()
    panels[0].set_xlabel('share of images')
    panels[0].spines[['top', 'right']].set_visible(False)
    panels[0].legend(frameon=False, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=2)
  plots.show(panels[-1], picture, 'left: an image; to its right: the real ones nearest in features')
  plots.save_figure(path, figure)
