"""Scores a run's generator, or images from elsewhere, against the run's data.

It prints a table, and writes evaluation.json and evaluation.png: a chart of the classes, and images beside
their nearest real ones.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError, counted
from dcgan_jax.evaluation import extractors, given, nearest, scores, scoring
from dcgan_jax.evaluation.scoring import LEAST, Comparison
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import metrics, workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.settings import Settings, from_dict


def run(
  folder: Path,
  num: int,
  seed: int,
  checkpoint: str,
  chosen: extractors.Chosen,
  images_from: str | None,
  statistics: str | None = None,
  data_source: str | None = None,
) -> None:
  """Scores images and writes the results to the workdir.

  Args:
    folder: Workdir of the run whose data the images are compared with; or the folder of a trained generator,
      to which nothing is written.
    num: Number of images to generate; maximum number of given ones.
    seed: Seed of the latents.
    checkpoint: 'last', 'best' or the number of a step.
    chosen: Extractor of the features.
    images_from: Images to score instead of generated ones, see `given.read`.
    statistics: Batch-norm statistics, see `sampling.Sampler.from_latents`.
    data_source: Real images in place of the run's, see `data.source`; nothing is then written.

  Raises:
    InputError: The arguments do not fit the run, or nothing can be scored.
  """
  if num < LEAST:
    raise InputError(f'num={num}: scores take {LEAST} images or more')
  settings, keeping = workdir.read_settings(folder), workdir.keeping(folder)
  if data_source is not None:
    settings, keeping = with_data(settings, data_source), None
  built = experiment.build(settings)
  prepared = extractors.prepare(chosen, built, keeping)
  fit = built.source.fit
  others = None if images_from is None else given.read(images_from, fit, num, LEAST).images
  cache.keep_compiled_programs()
  sampler = sampling.open_sampler(folder, checkpoint) if others is None else None
  real = scoring.load_real(built)
  if sampler is not None:
    asked = scoring.classes_like_data(built, num, seed)
    made = fit.pixels.keep(sampler.sample(num, seed, statistics, asked))
    used = statistics or sampler.statistics
    fake = _Images(made, f'step {sampler.step} of {folder}, seed {seed}, {used} statistics', used, asked)
  elif others is not None:
    fake = _Images(others, str(images_from))
  comparison = scoring.compare_with_data(built, prepared, lambda: real)
  seen = comparison.look(fake.pixels, fake.asked)
  report = _report(built, comparison, fake, seen)
  if sampler is not None:
    report['checkpoint'] = checkpoint
  if keeping is not None and processes.is_main():
    _write(keeping, report, nearest.beside(seen, fit.pixels))
  print(_table(report))
  if keeping is None:
    print('only printed: results are kept in the workdir of a run, for its own data')


def with_data(settings: Settings, source: str) -> Settings:
  """Returns settings with another `data.source`.

  Raises:
    InputError: It is none, or does not go with the other settings.
  """
  values = dataclasses.asdict(settings)
  return from_dict(values | {'data': values['data'] | {'source': source}})


def score_images(
  folder: str | Path, images: np.ndarray, chosen: extractors.Chosen | None = None
) -> dict[str, Any]:
  """Scores images from elsewhere against the data of a run, without writing a report.

  Args:
    folder: Workdir of the run, which keeps the classifier once it is trained.
    images: At least 10 images, [N, H, W, C], in dtype and range like the run's data: uint8 for pictures.
    chosen: Extractor of the features; the classifier by default.

  Returns:
    The content of evaluation.json: 'scores' by name, 'protocol', 'classes' and more.

  Raises:
    InputError: There is no run, or the images do not fit it.
  """
  built = experiment.build(workdir.read_settings(Path(folder)))
  keeping = workdir.keeping(Path(folder))
  prepared = extractors.prepare(chosen or extractors.Chosen('classifier'), built, keeping)
  fit = built.source.fit
  given.check_shape('array', images.dtype, images.shape, fit)
  if len(images) < LEAST:
    raise InputError(f'images=array: has {counted(len(images), "image")}; scores take {LEAST} or more')
  given.check_range('array', images, fit)
  fake = _Images(fit.pixels.keep(images), 'an array')
  real = scoring.load_real(built)
  comparison = scoring.compare_with_data(built, prepared, lambda: real)
  return _report(built, comparison, fake, comparison.look(fake.pixels))


class _Images(NamedTuple):
  """Images to score.

  Attributes:
    pixels: The images, [N, H, W, C] in the pixel format of the run.
    origin: Their origin in words.
    statistics: Batch-norm statistics of the generator; 'unknown' for images from elsewhere.
    asked: Classes that the generator was asked for, integers [N]; None if it was asked for none.
  """

  pixels: np.ndarray
  origin: str
  statistics: str = 'unknown'
  asked: np.ndarray | None = None


def _report(
  built: experiment.Experiment, comparison: Comparison, fake: _Images, seen: scores.Seen
) -> dict[str, Any]:
  """Scores images; returns the content of evaluation.json."""
  source, name = built.source, built.settings.data.source
  extractor, labels = comparison.extractor, comparison.labels
  real, count = comparison.real.pixels, len(fake.pixels)
  sections = {score.name: score.section for score in scores.SCORES}
  report = {
    'images': fake.origin,
    'num': count,
    'against': f'{len(real)} images of {name}, {comparison.split}, {source.fit.image_size}',
    'features': extractor.kind,
    'about': extractor.description,
    'protocol': comparison.protocol(count, fake.statistics),
    'scores': {name: value for name, value in scores.take(seen).items() if not sections[name]},
  }
  if labels is not None and seen.classes is not None:
    report['classes'] = _classes(seen.classes, labels)
    if seen.asked is not None:
      moments = extractors.class_moments(source, real, extractor, labels)
      report['asked'] = _by_class(seen, seen.asked, moments, labels)
  return report


def _classes(found: scores.Coverage, labels: Labels) -> dict[str, Any]:
  """Returns how images are spread over the classes of the data.

  Returns:
    'names' of the classes; 'generated' and 'data', the share of each; 'missing', the names of those with less
    than a tenth of their share; and 'divergence', KL(generated || data) in nats, None if it is infinite.
  """
  return {
    'names': list(labels.names),
    'generated': [float(x) for x in found.histogram],
    'data': [float(x) for x in labels.shares],
    'missing': [labels.names[i] for i in found.missing],
    'divergence': found.divergence if math.isfinite(found.divergence) else None,  # JSON has no infinity.
  }


def _by_class(
  seen: scores.Seen, asked: np.ndarray, real: dict[str, np.ndarray], labels: Labels
) -> dict[str, Any]:
  """Returns how well images are of the classes that G was asked for.

  Args:
    seen: The images.
    asked: Classes asked for, integers [N].
    real: Moments of each class of real images, see `extractors.class_moments`.
    labels: Classes of the real images.

  Returns:
    'names'; 'agreement', the share of images whose predicted class is the one asked for; 'agreements', the
    same for each class, None for a class without images; 'distances', the Frechet distance of the generated
    from the real images of each class, None where either are too few for a covariance; and 'left_out', the
    names of these classes, with the number of images 'made' and 'real'.
  """
  right = seen.predicted == asked
  agreements: list[float | None] = []
  distances: list[float | None] = []
  left_out = {}
  for number, (name, count) in enumerate(zip(labels.names, labels.counts)):
    of_class = asked == number
    made = int(of_class.sum())
    agreements.append(float(right[of_class].mean()) if made else None)
    if min(made, count) < scores.LEAST_OF_MOMENTS:
      distances.append(None)
      left_out[name] = {'made': made, 'real': int(count)}
    else:
      ours = scores.moments(seen.features[of_class])
      theirs = scores.Moments(real['mean'][number], real['covariance'][number])
      distances.append(scores.frechet_distance(ours, theirs))
  return {
    'names': list(labels.names),
    'agreement': float(right.mean()),
    'agreements': agreements,
    'distances': distances,
    'left_out': left_out,
  }


def _write(folder: Path, report: dict[str, Any], beside_nearest: np.ndarray) -> None:
  """Writes the report and its figure to the workdir."""
  kind = report['features']
  path = folder / ('evaluation' if kind == 'classifier' else f'evaluation_{kind}')
  with workdir.said_if_not_written(path.with_suffix('.json')):
    workdir.write_json(path.with_suffix('.json'), report)
    _draw(path.with_suffix('.png'), report.get('classes'), beside_nearest)
    pictures.save_png(folder / 'neighbours.png', pictures.zoom(beside_nearest))
    print(f'{path}.json and .png')


def _table(report: dict[str, Any]) -> str:
  """Returns the report as text."""
  lines = [
    f'{report["num"]} images of {report["images"]}',
    f'against {report["against"]}',
    report['about'],
    report['protocol'],
    '',
  ]
  lines += [f'{metrics.words(name):32}{value:12.4f}' for name, value in report['scores'].items()]
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
  """Plots the classes of the images and of the data, if they are known, beside a picture."""
  from matplotlib.figure import Figure  # unlike pyplot, without global state and display

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
  plots.show(panels[-1], picture, 'left: an image; right: the real ones with the nearest features')
  plots.save_figure(path, figure)
