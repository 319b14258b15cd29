"""Augmentation: mirroring of real images, and differentiable augmentation of everything that D sees.

The latter (DiffAugment, Zhao et al. 2020, section 3.3) augments real images and fakes alike, in the updates
of both networks, so that G does not learn the augmentations. Strengths are those of its authors' code. The
draws for an image are a function of its own key.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

TRANSLATION = 1 / 8  # maximum shift as a fraction of height and width
CUTOUT = 1 / 2  # side of the erased square as a fraction of the image's


def mirror(images: Array, keys: Array) -> Array:
  """Mirrors each image of [B, H, W, C] horizontally with probability 1/2, by its key in `keys` [B]."""
  mirrored = jax.vmap(lambda key: jax.random.bernoulli(key, jnp.float32(0.5)))(keys)[:, None, None, None]
  return jnp.where(mirrored, images[:, :, ::-1], images)


def augment(images: Array, keys: Array, kinds: Sequence[str]) -> Array:
  """Applies the augmentations of these kinds to each image, in order.

  Args:
    images: Images, float [B, H, W, C] in [-1, 1].
    keys: Random keys [B].
    kinds: Names in `KINDS`.

  Returns:
    Images, float [B, H, W, C], which may leave [-1, 1]; differentiable in `images`.
  """
  for i, kind in enumerate(kinds):
    kind_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
    images = jax.vmap(KINDS[kind])(images, kind_keys)
  return images


def color(image: Array, key: Array) -> Array:
  """Shifts brightness by at most 0.5, and scales saturation by 0 to 2 and contrast by 0.5 to 1.5.

  A fourth channel, alpha, is unchanged.
  """
  if image.shape[-1] == 4:
    return jnp.concatenate([color(image[..., :3], key), image[..., 3:]], -1)
  brightness, saturation, contrast = jax.random.uniform(key, (3,), image.dtype)
  image = image + (brightness - 0.5)
  gray = image.mean(-1, keepdims=True)
  image = (image - gray) * (2.0 * saturation) + gray
  mean = image.mean()
  return (image - mean) * (contrast + 0.5) + mean


def translation(image: Array, key: Array) -> Array:
  """Shifts the image by up to an eighth of its height and width, and pads with 0 (gray)."""
  shifts = [
    jax.random.randint(k, (), -_rounded(size * TRANSLATION), _rounded(size * TRANSLATION) + 1, jnp.int32)
    for k, size in zip(jax.random.split(key), image.shape)
  ]
  # Shifts are products with 0-1 matrices: the gradient of a gather is a scatter, slow on CPU and TPU.
  rows, columns = (_shift_matrix(n, shift, image.dtype) for n, shift in zip(image.shape, shifts))
  return jnp.einsum('ih,hwc,jw->ijc', rows, image, columns)


def _shift_matrix(size: int, shift: Array, dtype: jnp.dtype) -> Array:
  """Returns the matrix [size, size] that moves entry i to i + shift, dropping those that leave."""
  index = jnp.arange(size, dtype=jnp.int32)
  return (index[:, None] - shift == index).astype(dtype)


def cutout(image: Array, key: Array) -> Array:
  """Sets a square of half the image's side to 0 (gray), anywhere and possibly partly outside."""
  inside = []
  for k, size in zip(jax.random.split(key), image.shape):
    side = _rounded(size * CUTOUT)
    centre = jax.random.randint(k, (), 0, size + 1 - side % 2, jnp.int32)
    index = jnp.arange(size, dtype=jnp.int32)
    inside.append((index >= centre - side // 2) & (index < centre - side // 2 + side))
  hole = inside[0][:, None] & inside[1]
  return jnp.where(hole[:, :, None], jnp.zeros((), image.dtype), image)


def _rounded(value: float) -> int:
  return int(value + 0.5)


KINDS: dict[str, Callable[[Array, Array], Array]] = {
  'color': color,
  'translation': translation,
  'cutout': cutout,
}
