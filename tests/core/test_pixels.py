import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcgan_jax.core import pixels
from dcgan_jax.core.models import normalize, to_pixels
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.settings.rules import DTYPES

WHOLE = [name for name, limits in DTYPES.items() if limits]


def _back(kinds, images):
  """Converts images to the networks' range and back in compiled programs."""
  return np.asarray(jax.jit(lambda x: to_pixels(normalize(x, kinds), kinds))(images))


@pytest.mark.parametrize('dtype', WHOLE)
def test_every_whole_number_comes_back(dtype):
  kinds, (low, high) = pixels.of(dtype), DTYPES[dtype]
  every = np.arange(low, high + 1).astype(dtype)
  made = np.asarray(normalize(jnp.asarray(every), kinds))
  assert made.dtype == np.float32 and made.min() == -1 and made.max() == 1
  back = _back(kinds, every)
  assert back.dtype == dtype
  np.testing.assert_array_equal(back, every)


@pytest.mark.parametrize(
  ('dtype', 'value_range'), [('uint16', (0, 4095)), ('int16', (-1000, 1000)), ('uint8', (0, 1))]
)
def test_a_part_of_the_whole_numbers_comes_back(dtype, value_range):
  kinds = pixels.of(dtype, value_range)
  every = np.arange(value_range[0], value_range[1] + 1).astype(dtype)
  np.testing.assert_array_equal(_back(kinds, every), every)
  beyond = np.asarray(to_pixels(jnp.float32([-1.5, 1.5]), kinds))
  assert beyond.dtype == dtype and beyond.tolist() == list(value_range)


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
@pytest.mark.parametrize('value_range', [(0.0, 1.0), (-1.0, 1.0), (250.0, 320.0), (0.1, 0.3)])
def test_floats_come_back_in_their_dtype_and_range(dtype, value_range):
  kinds = pixels.of(dtype, value_range)
  images = np.random.default_rng(0).uniform(kinds.low, kinds.high, 1000).astype(dtype)
  images = np.append(images, np.array([kinds.low, kinds.high], dtype))
  kept = kinds.keep(images)
  assert kept.dtype == ('float32' if dtype == 'float64' else dtype)
  back = kinds.restore(_back(kinds, kept))
  assert back.dtype == dtype
  step = max(np.finfo(dtype).eps, np.finfo(np.float32).eps) * max(map(abs, value_range))
  np.testing.assert_allclose(back.astype(float), images.astype(float), rtol=0, atol=2 * step)
  beyond = kinds.restore(np.asarray(to_pixels(jnp.float32([-1.5, 1.5]), kinds)))
  assert kinds.low <= beyond[0] and beyond[1] <= kinds.high  # not a bit outside
  np.testing.assert_allclose(beyond.astype(float), [kinds.low, kinds.high], rtol=1e-7)


def test_the_ends_of_a_range_are_numbers_of_the_dtype():
  """A range given in float64 contains the float32 values that it names."""
  images = np.array([0.1, 0.3], np.float32)
  kinds = pixels.of('float32', (0.1, 0.3))
  assert (images >= kinds.low).all() and (images <= kinds.high).all()


def test_ordinary_pictures_are_scaled_as_ever():
  """Pins the two formulas, with which all existing runs were trained."""
  every = np.arange(256, dtype=np.uint8)
  images = np.random.default_rng(0).uniform(-1.1, 1.1, 10_000).astype(np.float32)

  def scale(every):
    return every.astype(jnp.float32) / 127.5 - 1.0

  def round_(images):
    return jnp.clip(jnp.rint((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)

  for ours, expected, numbers in ((normalize, scale, every), (to_pixels, round_, images)):
    np.testing.assert_array_equal(jax.jit(ours)(numbers), jax.jit(expected)(numbers))
  assert pixels.of('uint8') == BYTES


def _every_visible_colour():
  """Returns every colour with every alpha that it can have premultiplied, uint8 [N, 4]."""
  colour, opacity = np.meshgrid(np.arange(256), np.arange(256))
  valid = colour <= opacity
  return np.stack([colour[valid]] * 3 + [opacity[valid]], -1).astype(np.uint8)


def test_dividing_by_the_opacity_is_undone_exactly():
  kept = _every_visible_colour()
  kinds = Pixels(transparent=True)
  known = kinds.restore(kept)
  assert known.dtype == np.uint8
  np.testing.assert_array_equal(kinds.keep(known), kept)
  opaque = kept[kept[:, 3] == 255]
  np.testing.assert_array_equal(kinds.restore(opaque), opaque)


def test_colours_are_multiplied_as_pillow_does():
  known = np.random.default_rng(0).integers(0, 256, (100, 100, 4), np.uint8)
  expected = np.asarray(Image.fromarray(known, 'RGBA').convert('RGBa'))
  np.testing.assert_array_equal(Pixels(transparent=True).keep(known), expected)


@given(seed=st.integers(0, 2**32 - 1))
def test_what_a_generator_makes_has_no_colour_above_its_opacity(seed):
  images = np.random.default_rng(seed).uniform(-1, 1, (3, 2, 2, 4)).astype(np.float32)
  kinds = Pixels(transparent=True)
  made = np.asarray(to_pixels(jnp.asarray(images), kinds))
  assert made.dtype == np.uint8 and (made[..., :3] <= made[..., 3:]).all()
  np.testing.assert_array_equal(made[..., 3], to_pixels(jnp.asarray(images))[..., 3])
  np.testing.assert_array_equal(kinds.keep(kinds.restore(made)), made)


def test_eight_bits():
  assert BYTES.in_eight_bits(np.array([0, 7, 255], np.uint8)).tolist() == [0, 7, 255]
  assert pixels.of('uint16').in_eight_bits(np.array([0, 32_768, 65_535], np.uint16)).tolist() == [0, 128, 255]
  kinds = pixels.of('float32', (-2.0, 2.0))
  assert kinds.in_eight_bits(np.float32([-2, 0, 2, 9])).tolist() == [0, 128, 255, 255]
  assert pixels.of('uint8', (0, 1)).in_eight_bits(np.array([0, 1], np.uint8)).tolist() == [0, 255]
