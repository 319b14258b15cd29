"""Scores of images that are known to be ever farther from the data: do the scores say so?

python benchmarks/scores.py --config=configs/cifar10_32.py --num=10000

Half of the config's data against the other half, blurred, with fewer and fewer of the classes, and noise; by
the classifier's features or, with --weights=PATH of Inception-v3's file, by FID. The last line is JSON.
Ends with status 1 if the order is not as it should be.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image, ImageFilter

from benchmarks import processes
from dcgan_jax import cache
from dcgan_jax.commands import build, evaluate, extractors
from dcgan_jax.evaluation import inception, scores

BLURS = (0.5, 1.0, 2.0)  # deviations of a Gaussian, pixels
DROPPED = (0.1, 0.3, 0.5, 0.9)  # shares of the classes


def blurred(images: np.ndarray, deviation: float) -> np.ndarray:
  """uint8 [N, H, W, C], each by itself."""
  gaussian = ImageFilter.GaussianBlur(deviation)
  channels = images.shape[-1]
  made = [Image.fromarray(x[..., 0] if channels == 1 else x).filter(gaussian) for x in images]
  return np.stack([np.asarray(x) for x in made]).reshape(images.shape)


def variants(
  pool: np.ndarray, labels: extractors.Labels, classes: np.ndarray, num: int
) -> Iterator[tuple[str, np.ndarray]]:
  """(what was done, `num` images) of a pool of real ones with their classes."""
  yield 'the other half', pool[:num]
  for deviation in BLURS:
    yield f'blurred by {deviation} pixels', blurred(pool[:num], deviation)
  for share in DROPPED:
    gone = round(share * len(labels.names))
    kept = pool[classes >= gone]
    yield f'{gone} of {len(labels.names)} classes dropped', np.resize(kept, (num, *pool.shape[1:]))
  noise = np.random.default_rng(0).integers(0, 256, (num, *pool.shape[1:]), np.uint8)
  yield 'noise', noise


def main() -> int:
  """Returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10_32.py')
  parser.add_argument('--num', type=int, default=10_000, help='images of each kind')
  parser.add_argument('--weights', type=Path, help="of Inception-v3; default the classifier's features")
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  source = build.source(config)
  real, labels = cache.load(source, config.data.source), extractors.Labels(*source.labels())
  if arguments.weights:
    extractor = extractors.of_inception(inception.read_weights(arguments.weights), 'tf1')
  else:
    extractor = extractors.of_classifier(source, real, labels)

  order = np.random.default_rng(0).permutation(len(real))
  half = len(real) // 2
  num = min(arguments.num, half)
  features = extractor.look(real[np.sort(order[:num])])['features']
  reference = {'features': features} | scores.moments(features)._asdict()
  pool = np.sort(order[half:])
  print(f'{num} images against {num} of {config.data.source}; {extractor.protocol}')
  rows = {}
  for name, images in variants(real[pool], labels, labels.classes[pool], num):
    found = extractor.look(images)
    row = rows[name] = evaluate.score(found, reference, extractor.kind)
    print(
      f'{name:28}' + '  '.join(f'{key.replace("_", " ")} {value:.4g}' for key, value in row.items()),
      flush=True,
    )
  print(json.dumps(rows))
  distances = [next(iter(row.values())) for row in rows.values()]
  blurs, drops = distances[: 1 + len(BLURS)], [distances[0], *distances[1 + len(BLURS) : -1]]
  ordered = blurs == sorted(blurs) and drops == sorted(drops) and distances[0] < 0.1 * distances[-1]
  return int(not ordered)


if __name__ == '__main__':
  sys.exit(main())
