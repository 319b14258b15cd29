import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from dcgan_jax.core import conv

# Kernel, stride, padding, image channels and feature channels of every preset's layers.
PRESETS = [(4, 2, 'same', 3, 8), (4, 2, 'same', 32, 8), (5, 2, 'same', 1, 8), (5, 2, 'same', 33, 8)]
PRESETS += [(5, 1, 'same', 33, 8), (5, 2, 'symmetric', 3, 8), (5, 2, 'symmetric', 32, 8)]


def _random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), jnp.float32)


def _conv_by_loops(image, kernel, stride, pairs):
  """Computes a cross-correlation by definition, in float64."""
  image = np.pad(np.asarray(image, np.float64), ((0, 0), *pairs, (0, 0)))
  k = kernel.shape[0]
  rows, columns = ((n - k) // stride + 1 for n in image.shape[1:3])
  out = np.zeros((image.shape[0], rows, columns, kernel.shape[3]))
  for i, j in itertools.product(range(rows), range(columns)):
    patch = image[:, i * stride : i * stride + k, j * stride : j * stride + k]
    out[:, i, j] = np.einsum('bhwc,hwco->bo', patch, np.asarray(kernel, np.float64))
  return out


@pytest.mark.parametrize(('k', 's', 'padding', 'channels', 'features'), PRESETS)
def test_conv_is_the_definition(k, s, padding, channels, features):
  image, kernel = _random(2, 8, 6, channels), _random(k, k, channels, features)
  pairs = conv.padding_pairs(padding, (8, 6), (k, k), (s, s))
  got = conv.conv2d(image, kernel, s, padding)
  assert got.shape == (2, 8 // s, 6 // s, features)
  np.testing.assert_allclose(got, _conv_by_loops(image, kernel, s, pairs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(('k', 's', 'padding', 'channels', 'features'), PRESETS)
def test_transpose_is_the_adjoint(k, s, padding, channels, features):
  """Compares <conv(x), y> with <x, transpose(y)>, with the convolution by definition."""
  image, kernel = _random(2, 4 * s, 3 * s, channels), _random(k, k, channels, features)
  y = _random(2, 4, 3, features, seed=1)
  pairs = conv.padding_pairs(padding, image.shape[1:3], (k, k), (s, s))
  left = np.sum(_conv_by_loops(image, kernel, s, pairs) * np.asarray(y, np.float64))
  right = np.sum(np.asarray(image, np.float64) * np.asarray(conv.conv2d_transpose(y, kernel, s, padding)))
  np.testing.assert_allclose(left, right, rtol=1e-5)


def test_same_padding_is_xlas():
  for size, k, s in itertools.product((5, 6, 7, 8), (1, 2, 3, 4, 5), (1, 2, 3)):
    want = tuple(jax.lax.padtype_to_pads((size, size), (k, k), (s, s), 'SAME'))
    assert conv.padding_pairs('same', (size, size), (k, k), (s, s)) == want


def test_symmetric_padding_is_pytorchs():
  """Tries PyTorch's ConvTranspose2d(4, 2, 1) and Theano's border mode (2, 2) of a 5x5 kernel, stride 2."""
  assert conv.padding_pairs('symmetric', (8, 8), (4, 4), (2, 2)) == ((1, 1), (1, 1))
  assert conv.padding_pairs('symmetric', (8, 8), (5, 5), (2, 2)) == ((2, 1), (2, 1))
  assert conv.padding_pairs('valid', (8, 8), (5, 5), (2, 2)) == ((0, 0), (0, 0))


@pytest.mark.slow
@given(
  k=st.integers(1, 5),
  s=st.integers(1, 3),
  padding=st.sampled_from(['same', 'symmetric', 'valid']),
  height=st.integers(5, 9),
  width=st.integers(5, 9),
  channels=st.sampled_from([1, 3, 33]),
)
def test_fast_conv_and_derivatives_equal_plain_lax(k, s, padding, height, width, channels):
  """Compares value and both gradients for any kernel, stride, padding and odd size."""
  image, kernel = _random(2, height, width, channels), _random(k, k, channels, 4)
  for operator, x in ((conv.conv2d, image), (conv.conv2d_transpose, _random(2, height, width, 4))):
    if padding == 'valid' and operator is conv.conv2d_transpose:
      continue
    (value, gradients), (plain_value, plain_gradients) = _with_gradients(operator, s, padding)(x, kernel)
    np.testing.assert_allclose(value, plain_value, rtol=1e-4, atol=1e-4)
    for got, want in zip(gradients, plain_gradients, strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-3)


def _with_gradients(operator, s, padding):
  """Returns the function (x, kernel) -> value and both gradients in the fast form and in the plain one."""

  def both(x, kernel):
    found = []
    for fast in (True, False):
      value, pull_back = jax.vjp(lambda x, w, fast=fast: operator(x, w, s, padding, fast), x, kernel)
      found.append((value, pull_back(value)))
    return found

  return jax.jit(both)


@pytest.mark.slow
@pytest.mark.parametrize(('k', 's', 'padding', 'channels', 'features'), PRESETS)
def test_second_derivatives_equal_plain_lax(k, s, padding, channels, features):
  """Compares the gradient in both arguments of a gradient penalty, as R1 needs it."""
  image, kernel = _random(2, 8, 8, channels), _random(k, k, channels, features)
  y = _random(2, 8 // s, 8 // s, features)

  def penalty(operator, x, kernel, fast):
    def score(x):
      return jnp.sum(jnp.tanh(operator(x, kernel, s, padding, fast)))

    return jnp.sum(jnp.square(jax.grad(score)(x)))

  for operator, x in ((conv.conv2d, image), (conv.conv2d_transpose, y)):
    fast = jax.jit(jax.grad(lambda x, w, f=operator: penalty(f, x, w, True), (0, 1)))(x, kernel)
    plain = jax.jit(jax.grad(lambda x, w, f=operator: penalty(f, x, w, False), (0, 1)))(x, kernel)
    for got, want in zip(fast, plain, strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_under_vmap():
  kernels, features = _random(3, 4, 4, 33, 5), _random(3, 2, 4, 4, 5)
  got = jax.jit(jax.vmap(conv.conv2d_transpose))(features, kernels)
  plain = jax.jit(functools.partial(conv.conv2d_transpose, fast=False))
  want = np.stack([plain(f, w) for f, w in zip(features, kernels)])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

  def loss(kernel, features):
    return jnp.sum(jnp.square(conv.conv2d_transpose(features, kernel)))

  gradients = jax.jit(jax.vmap(jax.grad(loss)))(kernels, features)
  want = jax.jit(jax.grad(loss))(kernels[1], features[1])
  np.testing.assert_allclose(gradients[1], want, rtol=1e-4, atol=1e-3)


def test_under_shard_map():
  kernel, features = _random(4, 4, 33, 5), _random(8, 4, 4, 5)
  mesh = jax.make_mesh((4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
  sharded = jax.jit(
    jax.shard_map(
      conv.conv2d_transpose, mesh=mesh, in_specs=(P('batch'), P()), out_specs=P('batch'), check_vma=False
    )
  )
  np.testing.assert_allclose(
    sharded(features, kernel), jax.jit(conv.conv2d_transpose)(features, kernel), rtol=1e-6, atol=1e-6
  )


def test_bfloat16_stays_bfloat16_and_near():
  kernel, features = _random(4, 4, 33, 5), _random(2, 4, 4, 5)
  value, pull_back = jax.vjp(conv.conv2d_transpose, features.astype('bfloat16'), kernel.astype('bfloat16'))
  gradients = pull_back(value)
  assert [x.dtype for x in (value, *gradients)] == [jnp.bfloat16] * 3
  want = conv.conv2d_transpose(features, kernel, fast=False)
  np.testing.assert_allclose(value.astype(jnp.float32), want, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(('size', 'on_cuda'), [(5, 1), (4, 0)])
def test_which_platform_gets_which_form(size, on_cuda):
  """Counts convolutions: CUDA gets the plain form, but a product for features below the kernel."""
  features, kernel = _random(1, size, size, 5), _random(5, 5, 33, 5)

  def pull_back(features, kernel):
    return jax.vjp(conv.conv2d_transpose, features, kernel)[1](_random(1, 2 * size, 2 * size, 33))

  for function, plain in ((conv.conv2d_transpose, 1), (pull_back, 2)):
    traced = jax.jit(function).trace(features, kernel)
    text = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ('cpu', 'cuda', 'tpu')}
    count = {p: text[p].count('stablehlo.convolution') for p in text}
    assert (count['cuda'], text['cuda'].count('dot_general')) == (plain - 1 + on_cuda, 1 - on_cuda)
    assert count['tpu'] == plain
    if function is conv.conv2d_transpose:
      assert count['cpu'] == 4  # a convolution for each position modulo the stride
