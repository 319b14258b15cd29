import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from dcgan_jax import settings
from dcgan_jax.core.layers import Dropout
from dcgan_jax.core.models import Discriminator, Generator, normalize, to_pixels
from dcgan_jax.runs import experiment
from dcgan_jax.trained.analysis import summary

# Trainable parameters and batch-norm statistics of generator and discriminator, as published with the models
# that the presets follow.
COUNTS = {
  'cifar10': ((3_576_704, 1_920), (2_765_568, 1_792)),
  'mnist': ((2_305_472, 25_472), (212_865, 0)),
  'cifar10_32': ((3_448_576, 1_792), (663_296, 768)),
  'fashion_mnist': ((12_656_257, 3_840), (11_033_985, 3_584)),
  'svhn': ((1_446_976, 8_576), (1_033_664, 768)),
  'celeba': ((18_885_760, 34_560), (17_232_768, 3_584)),
}


def _layers(name):
  """Returns the rows of the summary for the generator and for the discriminator."""
  config = importlib.import_module(f'configs.{name}').get_config()
  gan = experiment.build(settings.check(config)).gan
  images = (1, *gan.generator.image_size, gan.generator.channels)
  return (
    summary.layers(gan.generator, jax.ShapeDtypeStruct((1, gan.latents.size), jnp.float32)),
    summary.layers(gan.discriminator, jax.ShapeDtypeStruct(images, jnp.float32)),
  )


@pytest.mark.parametrize('name', COUNTS)
def test_presets_have_the_published_counts(name):
  for rows, (trainable, statistics) in zip(_layers(name), COUNTS[name]):
    assert sum(row[3] for row in rows) == trainable
    assert sum(row[4] for row in rows) == statistics


def test_layers_of_tensorflows_tutorial():
  """Compares every layer's output and count with the tutorial's model summary."""
  generator, discriminator = _layers('mnist')
  got = [(shape[1:], trained + statistics) for _, _, shape, trained, statistics in generator]
  assert got == [
    ((12544,), 1_254_400),
    ((12544,), 50_176),
    ((7, 7, 128), 819_200),
    ((7, 7, 128), 512),
    ((14, 14, 64), 204_800),
    ((14, 14, 64), 256),
    ((28, 28, 1), 1_600),
  ]
  got = [(shape[1:], trained) for _, kind, shape, trained, _ in discriminator if kind != 'Dropout']
  assert got == [((14, 14, 64), 1_664), ((7, 7, 128), 204_928), ((1,), 6_273)]
  assert [kind for _, kind, *_ in discriminator] == ['Conv', 'Dropout', 'Conv', 'Dropout', 'Dense']


def test_pixels_invert_the_normalisation():
  every = np.arange(256)
  np.testing.assert_array_equal(to_pixels(jnp.asarray(every.astype(np.float32) / 127.5 - 1)), every)
  np.testing.assert_array_equal(to_pixels(normalize(jnp.asarray(every, jnp.uint8))), every)
  np.testing.assert_array_equal(to_pixels(jnp.float32([-3.0, 3.0])), [0, 255])


@pytest.mark.slow
@pytest.mark.parametrize('channels', [1, 3, 5])
@pytest.mark.parametrize(
  ('size', 'strides'),
  [
    ((28, 28), (1, 2, 2)),
    ((32, 32), (2, 2, 2)),
    ((64, 48), (2, 2, 2)),
    ((128, 128), (2,) * 5),
    ((9, 27), (3, 3)),
  ],
)
def test_any_size_that_the_strides_give(size, strides, channels):
  # Any two of the options meet.
  upsample = ('bilinear', 'transposed', 'filtered')[(channels // 2 + len(strides)) % 3]
  widths, norm = (4,) * len(strides), (True,) * len(strides)
  generator = Generator(widths, strides, norm, image_size=size, channels=channels, upsample=upsample)
  discriminator = Discriminator(widths, strides, norm)
  images, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), jnp.zeros((2, 10)))
  assert images.shape == (2, *size, channels) and images.dtype == jnp.float32
  (logits, activations), _ = jax.eval_shape(discriminator.init_with_output, jax.random.key(0), images)
  assert logits.shape == (2,)
  assert activations[-1].shape == (2, size[0] // math.prod(strides), size[1] // math.prod(strides), 4)


def test_images_are_in_range_and_filtered_ones_have_no_checkerboard():
  """Upsamples a constant, which an untrained transposed convolution makes uneven."""
  unevenness = {}
  for upsample in ('transposed', 'filtered', 'bilinear'):
    generator = Generator(
      (64,), (2,), (False,), leak=0.0, image_size=(32, 32), kernel_size=5, upsample=upsample
    )
    variables = jax.jit(generator.init)(jax.random.key(0), jnp.zeros((1, 10)))
    flat = jax.tree.map(jnp.zeros_like, variables['params']['dense'])
    flat['kernel'] = flat['kernel'].at[0].set(1.0)  # z[0] lights every unit alike.
    variables = {'params': {**variables['params'], 'dense': flat}}
    images = jax.jit(generator.apply)(variables, jnp.eye(10)[:1] * 5)
    assert (jnp.abs(images) <= 1).all()
    inner = np.arctanh(np.asarray(images[0, 8:24, 8:24], np.float64))
    unevenness[upsample] = np.abs(np.diff(inner, axis=0)).mean() / np.abs(inner).mean()
  assert max(unevenness['filtered'], unevenness['bilinear']) < 1e-4 < 0.1 < unevenness['transposed']


@pytest.mark.parametrize('widths', [(64, 48, 32), (256, 128, 64)])
@pytest.mark.parametrize('upsample', ['transposed', 'filtered', 'bilinear'])
def test_he_keeps_the_size_of_signals_at_any_width(widths, upsample):
  shared = {'strides': (2, 2, 2), 'norm': (False,) * 3, 'leak': 0.0, 'initializer': 'he'}
  generator = Generator(widths, image_size=(32, 32), upsample=upsample, **shared)
  z = jax.random.normal(jax.random.key(1), (64, 100))
  variables = jax.jit(generator.init)(jax.random.key(0), z)
  images = jnp.arctanh(jax.jit(generator.apply)(variables, z * 0.01)) * 100  # in the linear part of tanh
  inner = images[:, 8:-8, 8:-8]
  # Averaging neighbours makes signals smaller, and a convolution at the edge sees zeros.
  assert (0.5 if upsample == 'transposed' else 0.3) < jnp.sqrt((inner**2).mean()) < 2.0
  discriminator = Discriminator(widths[::-1], **shared)
  noise = jax.random.normal(jax.random.key(2), (64, 32, 32, 3))
  logits, _ = discriminator.apply(jax.jit(discriminator.init)(jax.random.key(0), noise), noise)
  assert 0.5 < logits.std() < 2.5


@pytest.mark.parametrize(('initializer', 'scale_deviation'), [('normal', 0.02), ('glorot', 0.0)])
def test_initialisation(initializer, scale_deviation):
  generator = Generator(
    (256, 128), (2, 2), (True, True), initializer=initializer, use_bias=True, image_size=(16, 16)
  )
  params = jax.jit(generator.init)(jax.random.key(0), jnp.zeros((1, 100)))['params']
  kernel = np.asarray(params['conv1']['kernel'])  # [4, 4, 128, 256]: 524,288 draws
  if initializer == 'normal':
    assert abs(kernel.std() - 0.02) < 1e-4 and abs(kernel.mean()) < 1e-4
    assert abs((kernel**4).mean() / kernel.var() ** 2 - 3) < 0.05  # a normal's kurtosis
  else:
    limit = math.sqrt(6 / (16 * (128 + 256)))
    assert np.abs(kernel).max() <= limit and abs(kernel.std() - limit / math.sqrt(3)) < 1e-4
  scale = np.asarray(params['norm0']['scale'])
  assert abs(scale.mean() - 1) < 0.01 and abs(scale.std() - scale_deviation) < 0.004
  assert all((params[layer]['bias'] == 0).all() for layer in ('dense', 'norm0', 'conv1'))


def test_batch_norm_flavours():
  """Compares a layer with NumPy: epsilon, momentum and per-unit statistics reach it."""
  z = jax.random.normal(jax.random.key(1), (6, 10))
  generator = Generator(
    (3,), (2,), (True,), leak=0.0, image_size=(4, 4), dense_norm='unit', norm_epsilon=0.5, norm_momentum=0.7
  )
  variables = jax.jit(generator.init)(jax.random.key(0), z)
  x = np.asarray(z @ variables['params']['dense']['kernel'])
  apply = functools.partial(
    generator.apply, train=True, mutable=['batch_stats', 'intermediates'], capture_intermediates=True
  )
  _, new = jax.jit(apply)(variables, z)
  want = (x - x.mean(0)) / np.sqrt(x.var(0) + 0.5) * variables['params']['norm0']['scale']
  np.testing.assert_allclose(new['intermediates']['norm0']['__call__'][0], want, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(new['batch_stats']['norm0']['mean'], 0.3 * x.mean(0), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(new['batch_stats']['norm0']['var'], 0.7 + 0.3 * x.var(0), rtol=1e-4)


class _BatchNorm(Generator):
  """The batch norm of a network alone, in training mode."""

  @nn.compact
  def __call__(self, x):
    return self.batch_norm(x, None, True, 'norm')


def test_a_tiny_epsilon_gets_an_exact_variance():
  """Normalises values around 1000, whose squares are too imprecise for a variance of 1e-4."""
  x = (1000 + 0.01 * np.random.default_rng(0).standard_normal((512, 4))).astype(np.float32)
  norm = _BatchNorm((3,), (2,), (True,), norm_epsilon=1e-8, norm_momentum=0.0, initializer='glorot')
  variables = jax.jit(norm.init)(jax.random.key(0), x)
  got, updated = jax.jit(lambda v, x: norm.apply(v, x, mutable=['batch_stats']))(variables, x)
  exact = x.astype(np.float64)
  want = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-8)
  np.testing.assert_allclose(updated['batch_stats']['norm']['var'], exact.var(0), rtol=1e-3)
  np.testing.assert_allclose(got, want, atol=0.02)  # The mean has 6e-5 between neighbouring numbers.


@pytest.mark.parametrize(
  ('name', 'fast'),
  [('svhn', False), ('celeba', False), ('mnist_conditional', False), ('mnist', True), ('cifar10', True)],
)
def test_only_a_tiny_epsilon_takes_two_passes(name, fast):
  settled = settings.check(importlib.import_module(f'configs.{name}').get_config())
  found = []

  def note(call, arguments, options, context):
    if isinstance(context.module, nn.BatchNorm):
      found.append(context.module.use_fast_variance)
    return call(*arguments, **options)

  with nn.intercept_methods(note):
    jax.eval_shape(experiment.build(settled).initial_state)
  assert len(found) >= 3 and set(found) == {fast}


def test_a_sample_does_not_depend_on_its_batch_mates(tiny):
  generator = tiny[0]
  z = jax.random.normal(jax.random.key(1), (8, 10))
  variables = jax.jit(generator.init)(jax.random.key(0), z)
  make = jax.jit(generator.apply)
  np.testing.assert_allclose(make(variables, z)[:3], make(variables, z[:3]), atol=1e-6)


def test_leak():
  discriminator = Discriminator((2,), (1,), (False,), leak=0.3)
  images = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
  variables = discriminator.init(jax.random.key(0), images)
  _, (leaky,) = discriminator.apply(variables, images)
  _, (plain,) = discriminator.clone(leak=0.0).apply(variables, images)
  np.testing.assert_array_equal(jnp.maximum(leaky, 0), plain)
  _, (linear,) = discriminator.clone(leak=1.0).apply(variables, images)
  np.testing.assert_allclose(leaky, jnp.where(linear < 0, 0.3 * linear, linear), rtol=1e-6)


def test_logits_of_bfloat16_have_the_digits_of_float32():
  """Compares with float64 sums of the same factors; rounded to bfloat16 they would be 0.4 % off."""
  discriminator = Discriminator(
    (64,), (2,), (False,), use_bias=True, initializer='glorot', classes=3, dtype='bfloat16'
  )
  images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype(np.float32)
  y = np.eye(3, dtype=np.float32)[np.arange(32) % 3]
  with jax.numpy_dtype_promotion('standard'):  # bfloat16 is made float32.
    params = jax.jit(discriminator.init)(jax.random.key(0), images)['params']
    params['dense']['bias'] = jnp.float32([0.1])
    logits, (features,) = jax.jit(discriminator.apply)({'params': params}, images, y)
  assert logits.dtype == jnp.float32 and features.dtype == jnp.bfloat16
  x = np.asarray(features, np.float64).reshape(32, -1)
  kernels = [np.asarray(params[n]['kernel'].astype('bfloat16'), np.float64) for n in ('dense', 'projection')]
  want = (x @ kernels[0])[:, 0] + (x @ kernels[1] * y).sum(1) + np.float32(0.1)
  np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('options', [{}, {'spectral_norm': True}, {'dense_widths': (5,)}], ids=str)
def test_the_last_product_of_bfloat16_sums_in_float32(options):
  discriminator = Discriminator((4,), (2,), (True,), classes=3, dtype='bfloat16', **options)
  images = jnp.zeros((2, 8, 8, 1))
  with jax.numpy_dtype_promotion('standard'):  # Flax's norms mix float32 with bfloat16.
    variables = jax.eval_shape(discriminator.init, jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(discriminator.apply)(variables, images, jnp.zeros((2, 3)))
  products = [e for e in jaxpr.eqns if e.primitive.name == 'dot_general' and e.invars[0].aval.shape[0] == 2]
  sums = [e.outvars[0].aval.dtype for e in products]
  assert {v.aval.dtype for e in products for v in e.invars} == {jnp.dtype('bfloat16')}
  assert sums[-2:] == [jnp.float32] * 2 and set(sums[:-2]) <= {jnp.dtype('bfloat16')}


def test_dropout_rate_scale_and_device_independence():
  x = jnp.ones((8, 10, 10, 25))
  rngs = {'dropout': jax.random.key(0)}
  one = jax.jit(lambda x: Dropout(0.3).apply({}, x, rngs=rngs))(x)
  kept = np.asarray(one != 0)
  assert abs(kept.mean() - 0.7) < 0.015  # 20,000 draws, four standard deviations
  np.testing.assert_allclose(one[kept], 1 / 0.7, rtol=1e-6)
  assert (kept[0] != kept[1]).any()
  mesh = jax.make_mesh((4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
  sharded = jax.jit(
    jax.shard_map(
      lambda x: Dropout(0.3, 'batch').apply({}, x, rngs=rngs),
      mesh=mesh,
      in_specs=P('batch'),
      out_specs=P('batch'),
    )
  )
  np.testing.assert_array_equal(sharded(x), one)
  odd = Dropout(0.3).apply({}, jnp.ones((2, 3)), rngs=rngs)  # This takes an odd number of 16-bit draws.
  assert odd.shape == (2, 3)
