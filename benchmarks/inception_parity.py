"""Compares Inception-v3 features and their Frechet distance to those of two PyTorch ports.

python benchmarks/inception_parity.py --config=configs/cifar10_32.py --num=256

All read the same random weights, or --weights=PATH, and process the same images of the config's data.
Differences are divided by the standard deviation of the features over the images. The distance is between the
two halves of the images. The last line is a JSON object. The status is 1 if a difference is above 1e-3.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import processes
from dcgan_jax import settings
from dcgan_jax.data import cache
from dcgan_jax.evaluation import extractors, inception, scores
from dcgan_jax.runs import experiment

LARGEST = 1e-3


def random_tensors() -> dict[str, np.ndarray]:
  """Draws weights that preserve the scale of activations, by PyTorch name."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    inception.Inception().init, jax.random.key(0), jnp.zeros((1, inception.SIZE, inception.SIZE, 3))
  )['params']
  tensors = {
    'fc.weight': rng.standard_normal((inception.CLASSES, inception.FEATURES)) * 0.1,
    'fc.bias': rng.standard_normal(inception.CLASSES),
  }
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    *names, kind = (key.key for key in path)
    if kind == 'kernel' and names != ['fc']:
      height, width, inputs, outputs = leaf.shape
      name, deviation = '.'.join(names[:-1]), np.sqrt(2 / (height * width * inputs))
      tensors[f'{name}.conv.weight'] = rng.standard_normal((outputs, inputs, height, width)) * deviation
      tensors[f'{name}.bn.weight'] = rng.uniform(0.8, 1.2, outputs)
      tensors[f'{name}.bn.bias'] = rng.standard_normal(outputs) * 0.1
      tensors[f'{name}.bn.running_mean'] = rng.standard_normal(outputs) * 0.1
      tensors[f'{name}.bn.running_var'] = rng.uniform(0.8, 1.2, outputs)
  return {name: x.astype(np.float32) for name, x in tensors.items()}


def save(tensors: dict[str, np.ndarray], path: Path) -> None:
  """Writes tensors in PyTorch's format."""
  import torch

  torch.save({name: torch.from_numpy(x) for name, x in tensors.items()}, path)


def complete_torchvision() -> None:
  """Allows a CUDA build of torchvision to be imported with a CPU build of PyTorch.

  The ports need none of its operators.
  """
  import torch

  for name in ('nms', 'qnms'):
    with contextlib.suppress(RuntimeError):  # The operator exists.
      torch.library.define(f'torchvision::{name}', '(Tensor dets, Tensor scores, float threshold) -> Tensor')


def torch_fidelity(weights: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns features [N, 2048] and logits without bias [N, 1008] of images, uint8 [N, H, W, 3]."""
  import torch
  from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

  extractor = FeatureExtractorInceptionV3(
    'inception', ['2048', 'logits_unbiased'], feature_extractor_weights_path=str(weights)
  )
  with torch.no_grad():
    features, logits = extractor(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  return features.numpy(), logits.numpy()


def pytorch_fid(weights: Path, images: np.ndarray) -> np.ndarray:
  """Returns features [N, 2048] of images, uint8 [N, H, W, 3]."""
  import torch
  from pytorch_fid import inception as port

  fetch = port.load_state_dict_from_url
  port.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
  try:
    extractor = port.InceptionV3().eval()
  finally:
    port.load_state_dict_from_url = fetch
  with torch.no_grad():
    (features,) = extractor(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) / 255)
  return features[:, :, 0, 0].numpy()


def _fid_of_torch_fidelity(a: np.ndarray, b: np.ndarray) -> float:
  """Computes the distance of torch-fidelity between features [N, 2048]."""
  import torch
  from torch_fidelity import metric_fid

  statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
  return float(metric_fid.fid_statistics_to_metric(*statistics, verbose=False)['frechet_inception_distance'])


def _fid_of_pytorch_fid(a: np.ndarray, b: np.ndarray) -> float:
  """Computes the distance of pytorch-fid between features [N, 2048]."""
  from pytorch_fid.fid_score import calculate_frechet_distance

  statistics = [x for f in (a, b) for x in (f.mean(0), np.cov(f, rowvar=False))]
  return float(calculate_frechet_distance(*statistics))


def _compare(
  weights: Path, images: np.ndarray, resizer: str, port: Callable[..., Any], fid: Callable[..., float]
) -> dict[str, float]:
  """Compares the features of images, and their distance, with those of a port."""
  ours = extractors.inception_extractor(inception.read_weights(weights), resizer).look(images)['features']
  theirs = np.concatenate([port(weights, images[i : i + 32]) for i in range(0, len(images), 32)])
  spread = theirs.std(0).mean()
  half = len(images) // 2
  moments = [scores.moments(x) for x in (ours[:half], ours[half:])]
  return {
    'largest_difference': float(np.abs(ours - theirs).max() / spread),
    'relative_difference': float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
    'fid': scores.frechet_distance(*moments),
    'their_fid': fid(theirs[:half], theirs[half:]),
  }


def main() -> int:
  """Compares to both ports; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10_32.py')
  parser.add_argument('--num', type=int, default=256, help='images')
  parser.add_argument('--weights', type=Path, help='file to read instead of random weights')
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  source = experiment.build(settings.check(config)).source
  images = np.array(cache.load(source, config.data.source)[: arguments.num])
  complete_torchvision()
  rows = {}
  with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
    warnings.simplefilter('ignore')  # from the ports
    weights = arguments.weights or Path(folder) / inception.WEIGHTS
    if not arguments.weights:
      save(random_tensors(), weights)
    ports = {
      'torch-fidelity': ('tf1', lambda *a: torch_fidelity(*a)[0], _fid_of_torch_fidelity),
      'pytorch-fid': ('pytorch', pytorch_fid, _fid_of_pytorch_fid),
    }
    for name, port in ports.items():
      row = rows[name] = _compare(weights, images, *port)
      print(
        f'{name:16}largest difference {row["largest_difference"]:.1e} of the spread, relative '
        f'{row["relative_difference"]:.1e}; distance {row["fid"]:.6f}, theirs {row["their_fid"]:.6f}'
      )
  print(json.dumps(rows))
  return int(max(row['largest_difference'] for row in rows.values()) > LARGEST)


if __name__ == '__main__':
  sys.exit(main())
