"""Measures how well anomaly scores separate images of a run's data set from those of another.

python benchmarks/anomaly.py --workdir=runs/mnist --own=tfds:mnist --other=tfds:fashion_mnist --num=300

Both are test images that the run has not seen, projected as by `--mode=project`. The figure is the area under
the ROC curve (AUC): 0.5 is chance, 1 is perfect. The last line is a JSON object.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from sklearn.metrics import roc_auc_score

from dcgan_jax.evaluation import given
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.analysis import project
from dcgan_jax.trained.analysis.inversion import Search


def main() -> None:
  """Projects both sets of images and prints the figures."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--own', required=True, help='images of the run, as --images of --mode=project')
  parser.add_argument('--other', required=True, help='other images')
  parser.add_argument('--num', type=int, default=200, help='of each')
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--starts', type=int, default=4)
  chosen = parser.parse_args()

  trained = experiment.open_run(chosen.workdir, 'last')
  sampler = sampling.sampler_of(trained)
  search = Search(chosen.steps, chosen.starts)
  both = [given.read(name, trained.experiment.fit, chosen.num).images for name in (chosen.own, chosen.other)]
  begun = time.process_time()
  found = [project.project(trained, sampler, images, search) for images in both]
  seconds = (time.process_time() - begun) / sum(map(len, both))
  strange = np.repeat([0, 1], [len(images) for images in both])
  results = {'processor_seconds_per_image': seconds}
  for name in ('score', 'residual', 'feature_error', 'pixel_error'):
    own, other = (getattr(one, name) for one in found)
    results[name] = roc_auc_score(strange, np.concatenate([own, other]))
    print(f'{name:14} AUC {results[name]:.4f}, median {np.median(own):.4g} and {np.median(other):.4g}')
  print(json.dumps(results))


if __name__ == '__main__':
  main()
