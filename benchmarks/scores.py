"""Checks that scores get worse for images that are increasingly far from the data.

python benchmarks/scores.py --config=configs/cifar10_32.py --num=10000

Half of the config's data is compared to the other half: unchanged, increasingly blurred, and with more and
more classes dropped; and to noise. Features are those of the classifier or, with --weights=PATH, of
Inception-v3. The dropped classes are drawn five times, and scores are averaged. The last line is a JSON
object. The status is 1 if the distances are not in order.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image, ImageFilter

from benchmarks import processes
from dcgan_jax import settings
from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.evaluation import extractors, inception, scores
from dcgan_jax.runs import experiment

BLURS = (0.5, 1.0, 2.0)  # standard deviations of a Gaussian, in pixels
DROPPED = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of dropped classes
DRAWS = 5  # draws of the dropped classes
NEAR = 2000  # images for the neighbourhood scores
SAME, BLURRED, GONE, NOISE = 'the other half', 'blurred by', 'classes dropped', 'noise'  # kinds of images

Scores = dict[str, float]


def blurred(images: np.ndarray, deviation: float) -> np.ndarray:
  """Blurs images, uint8 [N, H, W, C]."""
  gaussian = ImageFilter.GaussianBlur(deviation)
  channels = images.shape[-1]
  made = [Image.fromarray(x[..., 0] if channels == 1 else x).filter(gaussian) for x in images]
  return np.stack([np.asarray(x) for x in made]).reshape(images.shape)


def score(fake: np.ndarray, real: np.ndarray) -> Scores:
  """Scores features [N, D] against real ones [M, D]; neighbourhood scores use the first 2,000."""
  distance = scores.frechet_distance(scores.moments(fake), scores.moments(real))
  return {'distance': distance} | scores.manifold(fake[:NEAR], real[:NEAR])._asdict()


def without_classes(
  features: np.ndarray, classes: np.ndarray, gone: int, num: int, real: np.ndarray
) -> Scores:
  """Returns the mean scores of `num` images without `gone` classes, over several draws of these."""
  draws = []
  for seed in range(DRAWS):
    random = np.random.default_rng(seed)
    left = np.flatnonzero(~np.isin(classes, random.permutation(classes.max() + 1)[:gone]))
    draws.append(score(features[random.choice(left, num, replace=len(left) < num)], real))
  return {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}


def rows_of(
  extractor: extractors.Extractor, images: np.ndarray, labels: Labels, num: int
) -> dict[str, Scores]:
  """Returns the scores of all kinds of images, by the name of the kind."""
  order = np.random.default_rng(0).permutation(len(images))
  half = len(images) // 2
  look = lambda x: extractor.look(x)['features']  # noqa: E731
  real, pool = look(images[order[:num]]), look(images[order[half:]])
  other = images[order[half : half + num]]
  same = {SAME: score(pool[:num], real)}
  blurs = {f'{BLURRED} {d} pixels': score(look(blurred(other, d)), real) for d in BLURS}
  counts = [round(share * len(labels.names)) for share in DROPPED]
  drops = {
    f'{gone} of {len(labels.names)} {GONE}': without_classes(
      pool, labels.classes[order[half:]], gone, num, real
    )
    for gone in counts
  }
  noise = np.random.default_rng(0).integers(0, 256, other.shape, np.uint8)
  return same | blurs | drops | {NOISE: score(look(noise), real)}


def in_order(rows: dict[str, Scores]) -> bool:
  """Returns whether distances grow with the blur and the dropped classes, and are small where they should."""
  distances = {name: row['distance'] for name, row in rows.items()}
  for part in (BLURRED, GONE):
    ladder = [distances[SAME], *(value for name, value in distances.items() if part in name)]
    if ladder != sorted(ladder):
      return False
  return distances[SAME] <= 0.01 * distances[NOISE]


def main() -> int:
  """Scores all kinds of images; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10_32.py')
  parser.add_argument('--num', type=int, default=10_000, help='images of each kind')
  parser.add_argument('--weights', type=Path, help='of Inception-v3, to have its features too')
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  source = experiment.build(settings.check(config)).source
  images, labels = cache.load(source, config.data.source), source.labels()
  judges = {
    'classifier': extractors.classifier_extractor(source, images, labels),
    'rotations': extractors.rotations_extractor(source, images),
  }
  if arguments.weights:
    judges['inception'] = extractors.inception_extractor(inception.read_weights(arguments.weights), 'tf1')
  num = min(arguments.num, len(images) // 2)
  print(f'{num} images against {num} of {config.data.source}')
  found = {}
  for judge, extractor in judges.items():
    print(f'\n{judge}: {extractor.description}', flush=True)
    found[judge] = rows_of(extractor, images, labels, num)
    for name, row in found[judge].items():
      print(f'{name:28}' + '  '.join(f'{key} {value:.4g}' for key, value in row.items()), flush=True)
  print(json.dumps(found))
  return int(not all(map(in_order, found.values())))


if __name__ == '__main__':
  sys.exit(main())
