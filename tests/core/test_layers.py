import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dcgan_jax.core import conv, layers


def layer(module, stride, k=4, padding='same', features=3):
  init = nn.initializers.normal(1.0)
  return module(features, k, stride, padding, True, init, jnp.float32, True)


@pytest.mark.parametrize('stride', [1, 2, 3, 4])
def test_the_filter_upsamples_like_jax_image(stride):
  """An impulse in the middle, upsampled by jax.image.resize, shows the taps."""
  impulse = jnp.zeros((9,)).at[4].set(1.0)
  upsampled = np.asarray(jax.image.resize(impulse, (9 * stride,), 'bilinear'))
  taps = layers.bilinear_filter(stride)
  np.testing.assert_allclose(upsampled[upsampled != 0], taps, atol=1e-6)


@pytest.mark.parametrize('padding', ['same', 'symmetric'])
@pytest.mark.parametrize(('stride', 'k'), [(1, 3), (2, 4), (2, 1), (2, 5), (2, 8), (3, 4), (4, 4)])
def test_filtered_is_a_transposed_convolution_by_a_filtered_kernel(stride, k, padding):
  x = jax.random.normal(jax.random.key(0), (2, 6, 5, 4))
  module = layer(layers.FilteredConvTranspose, stride, k, padding)
  got, variables = module.init_with_output(jax.random.key(1), x)
  kernel = np.asarray(variables['params']['kernel'], np.float64)
  taps = layers.bilinear_filter(stride)
  for axis in (0, 1):
    kernel = np.apply_along_axis(np.convolve, axis, kernel, taps)
  wanted = conv.conv2d_transpose(x, jnp.asarray(kernel, jnp.float32), stride, padding, fast=False)
  assert got.shape == (2, 6 * stride, 5 * stride, 3)
  np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_inside_the_image_filtered_is_bilinear_upsampling_and_a_convolution():
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 2))
  variables = {
    'params': {
      'kernel': jax.random.normal(jax.random.key(1), (4, 4, 3, 2)),
      'bias': jnp.arange(3, dtype=jnp.float32),
    }
  }
  # The convolution sees the kernel mirrored; both begin alike with symmetric padding.
  mirrored = jnp.flip(variables['params']['kernel'], (0, 1)).swapaxes(2, 3)
  other = {'params': variables['params'] | {'kernel': mirrored}}
  got = layer(layers.FilteredConvTranspose, 2, padding='symmetric').apply(variables, x)
  wanted = layer(layers.ResizeConv, 2, padding='symmetric').apply(other, x)
  np.testing.assert_allclose(got[:, 3:-3, 3:-3], wanted[:, 3:-3, 3:-3], rtol=1e-5, atol=1e-5)
  assert np.abs(got - wanted).max() > 0.1  # One sees zeros beyond the edge, the other the last pixels.
