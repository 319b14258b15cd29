import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.core import augmentation, regularizers


def _images(count, height=16, width=12, channels=3):
  return np.random.default_rng(0).uniform(-1, 1, (count, height, width, channels)).astype(np.float32)


def _augment(images, kinds, seed=0):
  keys = jax.random.split(jax.random.key(seed), len(images))
  return np.asarray(jax.jit(lambda x: augmentation.augment(x, keys, kinds))(images))


@pytest.mark.slow(2)
def test_draws_do_not_depend_on_the_width_of_numbers():
  """Compares with the results of the same keys under JAX_ENABLE_X64=1."""
  images, keys = _images(8), jax.random.split(jax.random.key(0), 8)

  def draw():
    kinds = [augmentation.augment(images, keys, (kind,)) for kind in augmentation.KINDS]
    return [*kinds, augmentation.mirror(images, keys), regularizers.between(images, -images, keys)]

  narrow = draw()
  with jax.enable_x64(True):
    wide = draw()
  for a, b in zip(narrow, wide):
    assert b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_translation_is_a_shift_with_zeros():
  """Finds each image's shift by trying them all; all shifts of up to an eighth occur."""
  images, found = _images(200), set()
  for image, made in zip(images, _augment(images, ['translation'])):
    for down in range(-2, 3):
      for right in range(-2, 3):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
        if np.allclose(made, padded[3 - down : 19 - down, 3 - right : 15 - right], atol=1e-6):
          found.add((down, right))
          break
      else:
        continue
      break
    else:
      raise AssertionError('no shift')
  assert found == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}  # an eighth of 12 is 2, rounded


def test_cutout_is_a_square_of_half_the_side():
  images = 2.0 + _images(300)  # without zeros of their own
  made = _augment(images, ['cutout'])
  areas = []
  for image, cut in zip(images, made):
    gone = (cut == 0).all(-1)
    np.testing.assert_array_equal(cut[~gone], image[~gone])
    rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
    assert gone.sum() == len(rows) * len(columns)  # a rectangle
    assert np.ptp(rows) + 1 == len(rows) <= 8 and np.ptp(columns) + 1 == len(columns) <= 6
    areas.append(gone.sum())
  assert max(areas) == 48 and min(areas) < 30  # whole, and cut by the border


def test_color_is_brightness_saturation_and_contrast():
  """Compares with the formulas of the paper's code, in NumPy, for the same draws."""
  images = _images(50)
  made = _augment(images, ['color'])
  keys = jax.random.split(jax.random.key(0), 50)
  draws = []
  for image, key, got in zip(images, keys, made):
    brightness, saturation, contrast = np.asarray(jax.random.uniform(jax.random.fold_in(key, 0), (3,)))
    x = image + (brightness - 0.5)
    gray = x.mean(-1, keepdims=True)
    x = (x - gray) * (2 * saturation) + gray
    x = (x - x.mean()) * (contrast + 0.5) + x.mean()
    np.testing.assert_allclose(got, x, atol=1e-5)
    draws.append((brightness, saturation, contrast))
  assert np.min(draws) < 0.05 and np.max(draws) > 0.95


def test_color_leaves_the_opacity():
  images = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 4)).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 6)
  made = augmentation.augment(images, keys, ['color'])
  np.testing.assert_array_equal(made[..., 3], images[..., 3])
  np.testing.assert_array_equal(made[..., :3], augmentation.augment(images[..., :3], keys, ['color']))


@pytest.mark.slow
@pytest.mark.parametrize('kind', augmentation.KINDS)
def test_an_image_is_augmented_by_its_own_key(kind):
  images, keys = _images(6), jax.random.split(jax.random.key(1), 6)
  whole = augmentation.augment(images, keys, [kind])
  part = augmentation.augment(images[4:], keys[4:], [kind])
  np.testing.assert_allclose(part, whole[4:], atol=1e-6)


@pytest.mark.slow(2)
def test_gradients_pass_through():
  """The derivative of a linear map is the map: <A x, y> = <x, A' y>, for what is linear."""
  x, y = jnp.asarray(_images(4)), jnp.asarray(_images(4)[::-1].copy())
  keys = jax.random.split(jax.random.key(2), 4)
  made, pull_back = jax.vjp(lambda x: augmentation.augment(x, keys, ['translation', 'cutout']), x)
  np.testing.assert_allclose((made * y).sum(), (x * pull_back(y)[0]).sum(), rtol=1e-4)


def test_nothing_is_nothing():
  images = _images(3)
  assert _augment(images, []) is not images
  np.testing.assert_array_equal(_augment(images, []), images)
