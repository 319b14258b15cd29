"""`--mode=evaluate`: scores of a trained generator, or of given images, against the data of a run.

table on the terminal, evaluation.json, evaluation.png (classes; samples beside their nearest real images)
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import cache, data, distributed, images, programs
from dcgan_jax.commands import build, sample, workdir
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, inception, scores

LEAST = 10  # images, for ten splits and for neighbourhoods
KEPT = 10_000  # real images whose features are kept, for distances between single images
BATCH_SIZE = {'classifier': 256, 'inception': 32}  # images a device looks at together


class Extractor(NamedTuple):
  """A network that looks at images."""

  kind: str  # classifier | inception
  protocol: str  # what a figure must be quoted with
  look: Callable[[np.ndarray], dict[str, np.ndarray]]  # uint8 -> features [N, D], probabilities [N, K]


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
    checkpoint: 'last' or the number of a step.
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
  network_file = _find_weights(weights, download) if features == 'inception' else None
  source = build.source(config)
  given = None if images_from is None else _read_images(images_from, source.fit, num)
  cache.keep_compiled_programs()
  real = cache.load(source, config.data.source)
  if len(real) < LEAST:
    raise InputError(f'data.source={config.data.source}: has {len(real)} images; scores take {LEAST} or more')
  if given is None:
    sampler = sample.load(folder, sample.step_of(checkpoint))
    fake, origin = sampler.sample(num, seed), f'step {sampler.step} of {folder}, seed {seed}'
  else:
    fake, origin = given, str(images_from)

  if network_file is None:
    labelled = _labels(source, real)
    extractor = _classifier(source, real, *labelled)
  else:
    labelled = None
    extractor = _inception(network_file, resizer)
  reference = _reference(source, real, extractor)
  found = extractor.look(fake)
  report = {
    'images': origin,
    'num': len(fake),
    'against': f'{len(real)} images of {config.data.source}, {config.data.split}, {source.fit.image_size}',
    'features': extractor.kind,
    'protocol': extractor.protocol,
    'scores': _score(found, reference, extractor.kind),
  }
  if labelled is not None:
    report['classes'] = _classes(found['probabilities'], *labelled)
  print(_table(report))
  if distributed.is_main():
    name = 'evaluation' if extractor.kind == 'classifier' else f'evaluation_{extractor.kind}'
    _write(folder / f'{name}.json', report)
    _draw(folder / f'{name}.png', report, fake, found['features'], real, reference['features'])
    print(f'{folder / name}.json and .png')


def _find_weights(weights: str | None, download: bool) -> Path:
  path = Path(weights).expanduser() if weights else cache.folder() / 'weights' / inception.WEIGHTS
  if not path.exists() and download and not weights:
    inception.download(path)
  elif not path.exists() and not weights:
    raise InputError(
      f'features=inception: no weights in {path}; add --download, or --weights=PATH of {inception.URL}'
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


def _labels(source: data.Source, real: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
  labels, names = source.labels()
  if len(labels) != len(real):
    raise InputError('features=classifier: images that cannot be decoded have labels; remove them')
  return labels, names


def _classifier(
  source: data.Source, real: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> Extractor:
  """The classifier of these images, trained the first time."""
  module = classifier.Classifier(len(names))
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *real.shape[1:]), np.uint8)
  )
  leaves, structure = jax.tree.flatten(shapes)

  def train() -> dict[str, np.ndarray]:
    print(f'training a classifier of {len(names)} classes, once for this data', flush=True)
    trained = classifier.train(real, labels, len(names))
    kept = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(trained.variables))}
    return kept | {'accuracy': np.array(trained.accuracy)}

  kept = cache.arrays('classifiers', f'{classifier.VERSION} {_identity(source)}', train)
  accuracy = float(kept['accuracy'])
  if accuracy < classifier.LEAST_ACCURACY:
    raise InputError(
      f'features=classifier: it tells {accuracy:.1%} of the held-out images; below '
      f'{classifier.LEAST_ACCURACY:.0%} its features say nothing'
    )
  variables = jax.tree.unflatten(structure, [kept[str(i)] for i in range(len(leaves))])
  protocol = (
    f'{classifier.FEATURES} features of a classifier of the data, version {classifier.VERSION}, '
    f'{accuracy:.1%} right on held-out images; not comparable to FID'
  )
  return Extractor('classifier', protocol, _looking(module.apply, variables, 'classifier'))


def _inception(path: Path, resizer: str) -> Extractor:
  def look(variables: Any, images: Any) -> Any:
    return inception.Inception().apply(variables, inception.prepare(images, resizer))

  protocol = f'Inception-v3 2015-12-05, pool features; images resized by {resizer} bilinear to 299x299'
  return Extractor('inception', protocol, _looking(look, inception.read_weights(path), 'inception'))


def _looking(apply: Callable[..., Any], variables: Any, kind: str) -> Callable[..., dict[str, np.ndarray]]:
  def look(variables: Any, images: Any) -> dict[str, Any]:
    features, logits = apply(variables, images)
    return {'features': features, 'probabilities': jax.nn.softmax(logits.astype(jnp.float32))}

  mesh = programs.all_devices()
  mapped = programs.map_rows(look, mesh)
  placed = jax.device_put(variables, programs.replicated(mesh))
  return lambda images: mapped(placed, images, BATCH_SIZE[kind])


def _reference(source: data.Source, real: np.ndarray, extractor: Extractor) -> dict[str, np.ndarray]:
  """Of the real images: mean and covariance of all, features of some. Kept for the next time."""

  def make() -> dict[str, np.ndarray]:
    features = extractor.look(real)['features']
    mean, covariance = scores.moments(features)
    return {'mean': mean, 'covariance': covariance, 'features': features[_chosen(len(real))]}

  return cache.arrays('statistics', f'{KEPT} {_identity(source)} {extractor.protocol}', make)


def _chosen(count: int) -> np.ndarray:
  """The real images whose features are kept."""
  return np.sort(np.random.default_rng(0).permutation(count)[:KEPT])


def _identity(source: data.Source) -> str:
  return f'{cache.VERSION} {source.identity()} {source.fit}'


def _score(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], kind: str) -> dict[str, float]:
  """By the names that the literature has for them, with Inception's features alone."""
  ours = scores.moments(found['features'])
  distance = scores.frechet_distance(ours, scores.Moments(reference['mean'], reference['covariance']))
  near = scores.manifold(found['features'][:KEPT], reference['features'])._asdict()
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


def _classes(probabilities: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
  shares = np.bincount(labels, minlength=len(names)) / len(labels)
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


def _write(path: Path, report: dict[str, Any]) -> None:
  part = path.with_name(path.name + '.part')
  part.write_text(json.dumps(report, indent=2) + '\n')
  part.replace(path)


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

  chosen = _chosen(len(real))
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
  part = path.with_name(path.name + '.part')
  figure.savefig(part, format='png', dpi=110)
  part.replace(path)
