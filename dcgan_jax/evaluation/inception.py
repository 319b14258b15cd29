"""The Inception-v3 of FID: the network of TensorFlow's graph of 2015-12-05, in Flax.

Layers have the names of the PyTorch port, whose weights file (`WEIGHTS`) is read here. The network differs
from torchvision's Inception-v3 in three ways: average pooling leaves out the padding, the last block has a
max pooling, and there are 1008 classes. Batch norm is folded into the convolutions.
"""

import hashlib
import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from dcgan_jax import files
from dcgan_jax.data import download as fetch
from dcgan_jax.errors import InputError
from dcgan_jax.files import torch_files

WEIGHTS = 'pt_inception-2015-12-05-6726825d.pth'
URL = f'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS}'
SHA256 = '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2'
MOST_BYTES = 2**27  # that are downloaded or read; the file has 96 MB
SIZE = 299  # pixels of an image along each side
FEATURES, CLASSES = 2048, 1008
RESIZERS = ('tf1', 'pytorch')
_EPSILON = 1e-3  # of its batch norm
_PRECISION = lax.Precision.HIGHEST  # float32 everywhere: a GPU's TF32 and a TPU's bfloat16 change distances


class _Conv(nn.Module):
  """A convolution with folded batch norm, and ReLU."""

  features: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: tuple[int, int] = (0, 0)

  @nn.compact
  def __call__(self, x: Array) -> Array:
    pads = [(p, p) for p in self.padding]
    strides = (self.stride, self.stride)
    return nn.relu(nn.Conv(self.features, self.kernel, strides, pads, precision=_PRECISION, name='conv')(x))


def _average(x: Array) -> Array:
  """Averages over 3x3 pixels, leaving out the padding."""
  return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False)


def _maximum(x: Array) -> Array:
  """Takes the maximum over 3x3 pixels."""
  return nn.max_pool(x, (3, 3), padding=((1, 1), (1, 1)))


def _halve(x: Array) -> Array:
  """Takes the maximum over 3x3 pixels at every second position."""
  return nn.max_pool(x, (3, 3), (2, 2))


def _chain(x: Array, name: str, *layers: tuple[Any, ...]) -> Array:
  """Applies the convolutions NAME_1, NAME_2, ... one after the other."""
  for i, layer in enumerate(layers, 1):
    x = _Conv(*layer, name=f'{name}_{i}')(x)
  return x


_WIDE, _TALL = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
_SQUARE = ((3, 3), 1, (1, 1))


class _BlockA(nn.Module):
  """A block at 35x35 pixels.

  Attributes:
    pool: Width of the pooling branch.
  """

  pool: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    branches = [
      _Conv(64, name='branch1x1')(x),
      _chain(x, 'branch5x5', (48,), (64, (5, 5), 1, (2, 2))),
      _chain(x, 'branch3x3dbl', (64,), (96, *_SQUARE), (96, *_SQUARE)),
      _Conv(self.pool, name='branch_pool')(_average(x)),
    ]
    return jnp.concatenate(branches, -1)


class _BlockB(nn.Module):
  """The block from 35x35 to 17x17 pixels."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    branches = [
      _Conv(384, (3, 3), 2, name='branch3x3')(x),
      _chain(x, 'branch3x3dbl', (64,), (96, *_SQUARE), (96, (3, 3), 2)),
      _halve(x),
    ]
    return jnp.concatenate(branches, -1)


class _BlockC(nn.Module):
  """A block at 17x17 pixels.

  Attributes:
    width: Width of the 7x7 branches.
  """

  width: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    n = self.width
    branches = [
      _Conv(192, name='branch1x1')(x),
      _chain(x, 'branch7x7', (n,), (n, *_WIDE), (192, *_TALL)),
      _chain(x, 'branch7x7dbl', (n,), (n, *_TALL), (n, *_WIDE), (n, *_TALL), (192, *_WIDE)),
      _Conv(192, name='branch_pool')(_average(x)),
    ]
    return jnp.concatenate(branches, -1)


class _BlockD(nn.Module):
  """The block from 17x17 to 8x8 pixels."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    branches = [
      _chain(x, 'branch3x3', (192,), (320, (3, 3), 2)),
      _chain(x, 'branch7x7x3', (192,), (192, *_WIDE), (192, *_TALL), (192, (3, 3), 2)),
      _halve(x),
    ]
    return jnp.concatenate(branches, -1)


class _BlockE(nn.Module):
  """A block at 8x8 pixels.

  Attributes:
    pool: Pooling of the pooling branch, 'average' | 'maximum'.
  """

  pool: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    def fork(x: Array, name: str) -> list[Array]:
      """Applies a wide and a tall convolution side by side."""
      return [
        _Conv(384, (1, 3), 1, (0, 1), name=f'{name}a')(x),
        _Conv(384, (3, 1), 1, (1, 0), name=f'{name}b')(x),
      ]

    pooled = _average(x) if self.pool == 'average' else _maximum(x)
    branches = [
      _Conv(320, name='branch1x1')(x),
      *fork(_chain(x, 'branch3x3', (384,)), 'branch3x3_2'),
      *fork(_chain(x, 'branch3x3dbl', (448,), (384, *_SQUARE)), 'branch3x3dbl_3'),
      _Conv(192, name='branch_pool')(pooled),
    ]
    return jnp.concatenate(branches, -1)


class Inception(nn.Module):
  """The Inception-v3 of TensorFlow's graph of 2015-12-05."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """Computes features and logits.

    Args:
      x: Images, float [B, 299, 299, 3] in [-1, 1], see `preprocess`.

    Returns:
      Features of the last pooling, float32 [B, 2048], for FID; and logits *without bias*, float32 [B, 1008],
      as the Inception score of the graph takes them.
    """
    x = _Conv(32, (3, 3), 2, name='Conv2d_1a_3x3')(x)
    x = _Conv(32, (3, 3), name='Conv2d_2a_3x3')(x)
    x = _halve(_Conv(64, *_SQUARE, name='Conv2d_2b_3x3')(x))
    x = _Conv(80, name='Conv2d_3b_1x1')(x)
    x = _halve(_Conv(192, (3, 3), name='Conv2d_4a_3x3')(x))
    for name, pool in (('Mixed_5b', 32), ('Mixed_5c', 64), ('Mixed_5d', 64)):
      x = _BlockA(pool, name=name)(x)
    x = _BlockB(name='Mixed_6a')(x)
    for name, width in (('Mixed_6b', 128), ('Mixed_6c', 160), ('Mixed_6d', 160), ('Mixed_6e', 192)):
      x = _BlockC(width, name=name)(x)
    x = _BlockD(name='Mixed_7a')(x)
    x = _BlockE('average', name='Mixed_7b')(x)
    x = _BlockE('maximum', name='Mixed_7c')(x)
    features = jnp.mean(x, (1, 2))
    return features, nn.Dense(CLASSES, use_bias=False, precision=_PRECISION, name='fc')(features)


def preprocess(images: Array, resizer: str = 'tf1') -> Array:
  """Resizes and scales images for `Inception`.

  Args:
    images: Images from 0 to 255, [B, H, W, 3], or gray [B, H, W, 1].
    resizer: 'tf1' samples pixel i at i H / 299, like TensorFlow 1 and torch-fidelity; 'pytorch' samples it at
      (i + 0.5) H / 299 - 0.5, like pytorch-fid. Both are bilinear and not anti-aliased.

  Returns:
    float32 [B, 299, 299, 3]: (x - 128) / 128 with 'tf1', 2 x / 255 - 1 with 'pytorch'.
  """
  x = jnp.broadcast_to(images, (*images.shape[:3], 3)).astype(jnp.float32)
  vertical, horizontal = (jnp.asarray(_bilinear(n, resizer)) for n in images.shape[1:3])
  x = jnp.einsum('ih,bhwc->biwc', vertical, x, precision=_PRECISION)
  x = jnp.einsum('jw,biwc->bijc', horizontal, x, precision=_PRECISION)
  return (x - 128.0) / 128.0 if resizer == 'tf1' else x / 127.5 - 1.0


def _bilinear(size: int, resizer: str) -> np.ndarray:
  """Returns the matrix of resizing along one axis, [299, size]."""
  position = np.arange(SIZE) * (size / SIZE)
  if resizer == 'pytorch':
    position = np.maximum((np.arange(SIZE) + 0.5) * (size / SIZE) - 0.5, 0.0)
  low = np.minimum(np.floor(position).astype(int), size - 1)
  high, weight = np.minimum(low + 1, size - 1), position - low
  matrix = np.zeros((SIZE, size), np.float32)
  np.add.at(matrix, (np.arange(SIZE), low), 1.0 - weight)
  np.add.at(matrix, (np.arange(SIZE), high), weight)
  return matrix


def check_published(path: Path) -> None:
  """Checks that a file is the published one, because figures from other weights are not comparable.

  Raises:
    InputError: The file is missing or has another SHA-256.
  """
  try:
    with files.opened(path) as file:
      if files.size(file) > MOST_BYTES:
        raise InputError(f'weights={path}: is not {WEIGHTS}, which is smaller; get it from {URL}')
      found = hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise InputError(f'weights={path}: {error.strerror}; get it from {URL}') from error
  if found != SHA256:
    raise InputError(
      f'weights={path}: is not {WEIGHTS} (SHA-256 {found[:12]}..., not {SHA256[:12]}...); get it from {URL}'
    )


def download(path: Path) -> None:
  """Downloads the published file, 96 MB, and writes it atomically.

  Raises:
    InputError: It cannot be downloaded, or it is not the published one.
  """
  reason = fetch.why_unreachable([URL])
  try:
    if reason is None:
      print(f'downloading {URL} to {path}', flush=True)
      content = fetch.read(URL, MOST_BYTES)
      if hashlib.sha256(content).hexdigest() == SHA256:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
      else:
        reason = f'what it gives, {len(content):,} bytes, has another SHA-256'
  except (OSError, http.client.HTTPException) as error:
    reason = fetch.reason_of(error)
  if reason:
    raise InputError(
      f'features=inception: {URL} cannot be downloaded: {reason}; fetch it where there is a network and put '
      f'it at {path}, or give its path (--weights or eval.weights)'
    )


def read_weights(path: Path) -> dict[str, Any]:
  """Reads the variables of `Inception` from the weights file of the PyTorch port.

  Raises:
    InputError: The file is another one, or it is truncated.
  """
  return from_torch(torch_files.read(path), str(path))


def from_torch(tensors: Mapping[str, np.ndarray], origin: str) -> dict[str, Any]:
  """Makes the variables of `Inception` from the state dict of the PyTorch port.

  Args:
    tensors: The state dict.
    origin: Its name in errors.

  Raises:
    InputError: A tensor is missing or has another shape.
  """
  shapes = jax.eval_shape(Inception().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))['params']

  def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a tensor in float64 after checking its shape."""
    found = tensors.get(name)
    if found is None or found.shape != shape:
      problem = 'is missing' if found is None else f'has shape {found.shape} and should have {shape}'
      raise InputError(f'{origin}: is not {WEIGHTS}: {name} {problem}')
    return found.astype(np.float64)

  def layer(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns a variable; for a convolution, batch norm is folded in."""
    *names, kind = (key.key for key in path)
    if names == ['fc']:
      return tensor('fc.weight', leaf.shape[::-1]).T.astype(np.float32)
    name = '.'.join(names[:-1])
    count = (leaf.shape[-1],)
    scale = tensor(f'{name}.bn.weight', count) / np.sqrt(tensor(f'{name}.bn.running_var', count) + _EPSILON)
    if kind == 'bias':
      bias = tensor(f'{name}.bn.bias', count) - scale * tensor(f'{name}.bn.running_mean', count)
      return bias.astype(np.float32)
    height, width, inputs, outputs = leaf.shape
    kernel = tensor(f'{name}.conv.weight', (outputs, inputs, height, width))
    return (kernel.transpose(2, 3, 1, 0) * scale).astype(np.float32)

  return {'params': jax.tree_util.tree_map_with_path(layer, shapes)}
