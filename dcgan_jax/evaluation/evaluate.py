"""`--mode=evaluate`: scores of a trained generator, or of given images, against the data of a run.

table on the terminal, evaluation.json, evaluation.png (classes; samples beside their nearest real images)
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcgan_jax import cache, checkpoints, data, distributed, images
from dcgan_jax.commands import build, extractors, sample, workdir
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import inception, scores

LEAST = 10  # images, for ten splits and for neighbourhoods


def run(
  folder: Path,
  num: int,
  seed: int,
  checkpoint: str,
  features: str,
  weights: str | None,
  download: bool,
  resizer: str,
  images_from: str | None,
) -> None:
  """Scores images and writes what it found to the workdir.

  Args:
    folder: the workdir of a run, whose data the images are compared with.
    num: of images to generate; of those given, at most.
    seed: of their latents.
    checkpoint: 'last', 'best' or the number of a step.
    features: 'classifier', of a small network that learns the data's classes first; 'inception', for FID.
    weights: Inception's file; None for the one in the cache.
    download: fetch it to there.
    resizer: for Inception, see `inception.prepare`.
    images_from: a folder or an .npz of images to score instead of generated ones.

  Raises:
    InputError: in one line.
  """
  if num < LEAST:
    raise InputError(f'num={num}: scores take {LEAST} images or more')
  config = workdir.read_config(folder)
  network = inception.read_weights(find_weights(weights, download)) if features == 'inception' else None
  source = build.source(config)
  labels = extractors.Labels(*source.labels()) if features == 'classifier' else None
  given = None if images_from is None else _read_images(images_from, source.fit, num)
  cache.keep_compiled_programs()
  step = checkpoints.find(folder / 'checkpoints', checkpoint) if given is None else None
  real = cache.load(source, config.data.source)
  check_enough(config, real)
  if given is None:
    fake = sample.load(folder, str(step)).sample(num, seed)
    origin = f'step {step} of {folder}, seed {seed}'
  else:
    fake, origin = given, str(images_from)

  if labels is not None:
    extractor = extractors.of_classifier(source, real, labels)
  else:
    extractor = extractors.of_inception(network, resizer)
  reference = extractors.reference(source, real, extractor)
  found = extractor.look(fake)
  report = {
    'images': origin,
    'num': len(fake),
    'against': f'{len(real)} images of {config.data.source}, {config.data.split}, {source.fit.image_size}',
    'features': extractor.kind,
    'protocol': extractor.protocol,
    'scores': score(found, reference, extractor.kind),
  }
  if labels is not None:
    report['classes'] = classes(found['probabilities'], labels)
  print(_table(report))
  if distributed.is_main():
    name = 'evaluation' if extractor.kind == 'classifier' else f'evaluation_{extractor.kind}'
    workdir.write_json(folder / f'{name}.json', report)
    _draw(folder / f'{name}.png', report, fake, found['features'], real, reference['features'])
    print(f'{folder / name}.json and .png')


def check_enough(config: ConfigDict, real: np.ndarray) -> None:
  """Raises: InputError: the data are too few for scores."""
  if len(real) < LEAST:
    raise InputError(f'data.source={config.data.source}: has {len(real)} images; scores take {LEAST} or more')


def find_weights(weights: str | None, download: bool) -> Path:
  """Inception's file, checked: as given, or in the cache, fetched to there if it may be.

  Raises:
    InputError: in one line; it is not there, or another one.
  """
  path = Path(weights).expanduser() if weights else cache.folder() / 'weights' / inception.WEIGHTS
  if not path.exists() and download and not weights:
    inception.download(path)
  elif not path.exists() and not weights:
    raise InputError(
      f'features=inception: no weights in {path}; --mode=evaluate gets them by --download, or give the path '
      f'of {inception.URL}'
    )
  inception.check_published(path)
  return path


def _read_images(origin: str, fit: data.Fit, num: int) -> np.ndarray:
  """uint8 [N, H, W, C] of an .npz, as it is, or of a folder, made to fit."""
  path = Path(origin).expanduser()
  if path.is_dir():
    given, _ = data.load(data.open_folder(path, fit), origin)
  else:
    try:
      with np.load(path) as arrays:
        given = arrays['x'] if 'x' in arrays else arrays[arrays.files[0]]
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
      raise InputError(f'images={origin}: is no folder and no .npz of images: {error}') from error
  shape = (*fit.image_size, fit.channels)
  if given.dtype != np.uint8 or given.shape[1:] != shape:
    raise InputError(f'images={origin}: {given.dtype} {given.shape}; this run has uint8 (N, *{shape})')
  if len(given) < LEAST:
    raise InputError(f'images={origin}: has {len(given)} images; scores take {LEAST} or more')
  return given[:num]


def score(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], kind: str) -> dict[str, float]:
  """By the names that the literature has for them, with Inception's features alone."""
  ours = scores.moments(found['features'])
  distance = scores.frechet_distance(ours, scores.Moments(reference['mean'], reference['covariance']))
  near = scores.manifold(found['features'][: extractors.KEPT], reference['features'])._asdict()
  if kind == 'classifier':
    return {'classifier_frechet_distance': distance} | near
  kernel = scores.kernel_distance(found['features'], reference['features'])
  value = scores.inception_score(found['probabilities'])
  return {
    'fid': distance,
    'kid': kernel.value,
    'kid_error': kernel.spread,
    'inception_score': value.value,
    'inception_score_deviation': value.spread,
  } | near


def classes(probabilities: np.ndarray, labels: extractors.Labels) -> dict[str, Any]:
  """How images, by their probabilities [N, K], are spread over the classes of the data."""
  names, shares = labels.names, labels.shares
  found = scores.class_coverage(probabilities.argmax(1), shares)
  return {
    'names': list(names),
    'generated': [float(x) for x in found.histogram],
    'data': [float(x) for x in shares],
    'missing': [names[i] for i in found.missing],
    'divergence': found.divergence,
  }


def _table(report: dict[str, Any]) -> str:
  lines = [
    f'{report["num"]} images of {report["images"]}',
    f'against {report["against"]}',
    report['protocol'],
    '',
  ]
  lines += [f'{name.replace("_", " "):32}{value:12.4f}' for name, value in report['scores'].items()]
  if 'classes' in report:
    classes = report['classes']
    lines += [f'{"divergence of classes, nats":32}{classes["divergence"]:12.4f}', '']
    width = max(12, *(len(name) + 2 for name in classes['names']))
    lines.append(f'{"class":{width}}{"generated":>10}{"data":>10}')
    for name, made, real in zip(classes['names'], classes['generated'], classes['data']):
      lines.append(f'{name:{width}}{made:10.1%}{real:10.1%}  {"#" * round(100 * made)}')
    lines.append(f'missing: {", ".join(classes["missing"]) or "none"}')
  return '\n'.join(lines)


def _draw(
  path: Path,
  report: dict[str, Any],
  fake: np.ndarray,
  features: np.ndarray,
  real: np.ndarray,
  reference: np.ndarray,
) -> None:
  """Classes of the images beside those of the data, and some images beside the nearest real ones."""
  from matplotlib.figure import Figure  # no pyplot: no global state, no display

  chosen = extractors.chosen(len(real))
  classes = report.get('classes')
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
  shown = []
  for i in range(min(8, len(fake))):
    nearest = np.argsort(np.square(reference - features[i]).sum(1))[:5]
    shown += [fake[i], *real[chosen[nearest]]]
  picture = images.grid(np.stack(shown), columns=6)
  panels[-1].imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap='gray', vmin=0, vmax=255)
  panels[-1].set_title('left: an image; to its right: the real ones nearest in features', fontsize=10)
  panels[-1].axis('off')
  images.save_figure(path, figure)
