import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.core import conv, conv_cpu
from dcgan_jax.core.conv_cpu.geometry import Geometry

OPERANDS = {'conv': (0, 1), 'transpose': (2, 1), 'kernel_gradient': (0, 2)}


def _geometry(size, k, s, padding):
  return Geometry(size, (k, k), (s, s), conv.padding_pairs(padding, size, (k, k), (s, s)))


def _operands(geometry, channels=3, features=5):
  rng = np.random.default_rng(0)
  shapes = (
    (2, *geometry.image_size, channels),
    (*geometry.kernel_size, channels, features),
    (2, *geometry.feature_size, features),
  )
  return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def _assert_all_equal_plain(operators, geometry):
  """Compares in float64, where results differ by the order of summation only."""
  with jax.enable_x64(True):

    @jax.jit
    def compute(*operands):
      return {
        name: [f(geometry, *(operands[i] for i in OPERANDS[name])) for f in (operator, conv.PLAIN[name])]
        for name, operator in operators.items()
      }

    for got, want in compute(*_operands(geometry)).values():
      assert got.dtype == jnp.float64
      np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


SIZES = st.tuples(st.integers(6, 9), st.integers(6, 9))
PADDINGS = st.sampled_from(['same', 'symmetric', 'valid'])


@pytest.mark.slow
@given(size=SIZES, k=st.integers(1, 5), padding=PADDINGS)
def test_fourier_is_the_convolution(size, k, padding):
  _assert_all_equal_plain(conv_cpu.FOURIER, _geometry(size, k, 1, padding))


@pytest.mark.slow
@given(size=SIZES, s=st.integers(1, 3), padding=PADDINGS)
def test_winograd_is_the_convolution(size, s, padding):
  _assert_all_equal_plain(conv_cpu.WINOGRAD, _geometry(size, 2 * s, s, padding))


@pytest.mark.slow
@given(size=SIZES, k=st.integers(1, 5), s=st.integers(2, 3), padding=PADDINGS)
def test_patches_are_the_convolution(size, k, s, padding):
  _assert_all_equal_plain(conv_cpu.PATCHES, _geometry(size, k, s, padding))


@pytest.mark.slow
@given(size=SIZES, k=st.integers(1, 5), s=st.integers(1, 3), padding=PADDINGS)
def test_canonical_is_the_kernels_gradient(size, k, s, padding):
  _assert_all_equal_plain(conv_cpu.CANONICAL, _geometry(size, k, s, padding))


@pytest.mark.slow
@given(size=SIZES, k=st.integers(1, 5), s=st.integers(2, 3), padding=PADDINGS)
def test_phases_are_the_transpose(size, k, s, padding):
  _assert_all_equal_plain(conv_cpu.PHASES, _geometry(size, k, s, padding))


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'k', 's', 'limit'), [(16, 4, 2, 3e-6), (7, 5, 1, 3e-6)])
def test_float32_errors_are_those_of_float32(size, k, s, limit):
  """Measures errors relative to the largest value, with the channels of the presets."""
  geometry = _geometry((size, size), k, s, 'same')
  with jax.enable_x64(True):
    exact = _operands(geometry, 128, 64)
  for name, operator in conv_cpu.operators(geometry, 128).items():
    arguments = [exact[i] for i in OPERANDS[name]]
    with jax.enable_x64(True):
      want = jax.jit(conv.PLAIN[name], static_argnums=0)(geometry, *arguments)
    got = jax.jit(operator, static_argnums=0)(geometry, *(np.asarray(a, np.float32) for a in arguments))
    assert got.dtype == jnp.float32
    assert np.abs(got - np.asarray(want)).max() < limit * np.abs(want).max()


def test_which_formulation_a_layer_gets():
  assert conv_cpu.operators(_geometry((32, 32), 4, 2, 'same'), 64) is conv_cpu.WINOGRAD
  assert conv_cpu.operators(_geometry((7, 7), 5, 1, 'same'), 64) is conv_cpu.FOURIER
  assert conv_cpu.operators(_geometry((28, 28), 5, 2, 'same'), 64) is conv_cpu.PHASES
  assert conv_cpu.operators(_geometry((64, 64), 3, 1, 'same'), 64) is conv_cpu.CANONICAL
  assert conv_cpu.operators(_geometry((64, 64), 4, 2, 'same'), 3) is conv_cpu.PATCHES
  assert conv_cpu.operators(_geometry((64, 64), 4, 2, 'same'), 16) is conv_cpu.PHASES
  assert conv_cpu.operators(_geometry((64, 64), 3, 1, 'same'), 16) is conv_cpu.CANONICAL


def test_gradients_inside_of_a_branch_are_convolutions_as_fast_as_outside():
  """XLA:CPU is fast for one layout only, to which it does not convert others inside a branch."""

  def gradient(turn, image, kernel):
    loss = lambda kernel: jnp.square(conv.conv2d(image, kernel, 2, 'symmetric')).sum()  # noqa: E731
    return jax.lax.cond(turn, lambda: jax.grad(loss)(kernel), lambda: kernel)

  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 14, 14, 64), (5, 5, 64, 32))]
  text = jax.jit(gradient).lower(jax.ShapeDtypeStruct((), bool), *shapes).compile().as_text()
  layouts = set(re.findall(r' convolution\(.*dim_labels=(\S+?)[,\s]', text))
  assert layouts == {'b01f_01io->b01f'}
