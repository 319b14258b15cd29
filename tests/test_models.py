import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dcgan_jax.commands import build, summary
from dcgan_jax.models import Discriminator, Dropout, Generator

# trainable parameters and batch-norm statistics of generator and discriminator, from the source documents
COUNTS = {
  'cifar10': ((3_576_704, 1_920), (2_765_568, 1_792)),
  'mnist': ((2_305_472, 25_472), (212_865, 0)),
  'cifar10_32': ((3_448_576, 1_792), (663_296, 768)),
  'fashion_mnist': ((12_656_257, 3_840), (11_033_985, 3_584)),
  'svhn': ((1_446_976, 8_576), (1_033_664, 768)),
  'celeba': ((18_885_760, 34_560), (17_232_768, 3_584)),
}


def _config(name):
  return importlib.import_module(f'configs.{name}').get_config()


def _layers(name):
  """Rows of the summary: generator's, discriminator's."""
  config = _config(name)
  generator, discriminator = build.networks(config)
  images = (1, *generator.image_size, generator.channels)
  return (
    summary.layers(generator, jax.ShapeDtypeStruct((1, config.latent.size), jnp.float32)),
    summary.layers(discriminator, jax.ShapeDtypeStruct(images, jnp.float32)),
  )


@pytest.mark.parametrize('name', COUNTS)
def test_presets_have_the_documents_counts(name):
  for rows, (trainable, statistics) in zip(_layers(name), COUNTS[name]):
    assert sum(row[3] for row in rows) == trainable
    assert sum(row[4] for row in rows) == statistics


def test_layers_of_seed_001():
  """Every layer's output and count, as its model summary prints them."""
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
@pytest.mark.parametrize('upsample', ['transposed', 'bilinear'])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_any_size_that_the_strides_give(size, strides, upsample, channels):
  widths, norm = (4,) * len(strides), (True,) * len(strides)
  generator = Generator(widths, strides, norm, image_size=size, channels=channels, upsample=upsample)
  discriminator = Discriminator(widths, strides, norm)
  images, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), jnp.zeros((2, 10)))
  assert images.shape == (2, *size, channels) and images.dtype == jnp.float32
  (logits, activations), _ = jax.eval_shape(discriminator.init_with_output, jax.random.key(0), images)
  assert logits.shape == (2,)
  assert activations[-1].shape == (2, size[0] // math.prod(strides), size[1] // math.prod(strides), 4)


def test_images_are_in_range_and_bilinear_has_no_checkerboard():
  """An untrained transposed convolution of a constant is uneven from pixel to pixel; resizing is not."""
  unevenness = {}
  for upsample in ('transposed', 'bilinear'):
    generator = Generator(
      (64,), (2,), (False,), leak=0.0, image_size=(32, 32), kernel_size=5, upsample=upsample
    )
    variables = generator.init(jax.random.key(0), jnp.zeros((1, 10)))
    flat = jax.tree.map(jnp.zeros_like, variables['params']['dense'])
    flat['kernel'] = flat['kernel'].at[0].set(1.0)  # z[0] lights every unit alike
    images = generator.apply({'params': {**variables['params'], 'dense': flat}}, jnp.eye(10)[:1] * 5)
    assert (jnp.abs(images) <= 1).all()
    inner = np.arctanh(np.asarray(images[0, 8:24, 8:24], np.float64))
    unevenness[upsample] = np.abs(np.diff(inner, axis=0)).mean() / np.abs(inner).mean()
  assert unevenness['bilinear'] < 1e-4 < 0.1 < unevenness['transposed']


@pytest.mark.parametrize(('initializer', 'scale_deviation'), [('normal', 0.02), ('glorot', 0.0)])
def test_initialisation(initializer, scale_deviation):
  generator = Generator(
    (256, 128), (2, 2), (True, True), initializer=initializer, use_bias=True, image_size=(16, 16)
  )
  params = generator.init(jax.random.key(0), jnp.zeros((1, 100)))['params']
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
  """Epsilon, momentum and per-unit statistics reach the layer: against NumPy."""
  z = jax.random.normal(jax.random.key(1), (6, 10))
  generator = Generator(
    (3,), (2,), (True,), leak=0.0, image_size=(4, 4), dense_norm='unit', norm_epsilon=0.5, norm_momentum=0.7
  )
  variables = generator.init(jax.random.key(0), z)
  x = np.asarray(z @ variables['params']['dense']['kernel'])
  _, new = generator.apply(
    variables, z, train=True, mutable=['batch_stats', 'intermediates'], capture_intermediates=True
  )
  want = (x - x.mean(0)) / np.sqrt(x.var(0) + 0.5) * variables['params']['norm0']['scale']
  np.testing.assert_allclose(new['intermediates']['norm0']['__call__'][0], want, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(new['batch_stats']['norm0']['mean'], 0.3 * x.mean(0), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(new['batch_stats']['norm0']['var'], 0.7 + 0.3 * x.var(0), rtol=1e-4)


def test_a_sample_does_not_depend_on_its_batch_mates(tiny):
  generator = tiny[0]
  z = jax.random.normal(jax.random.key(1), (8, 10))
  variables = generator.init(jax.random.key(0), z)
  np.testing.assert_allclose(generator.apply(variables, z)[:3], generator.apply(variables, z[:3]), atol=1e-6)


def test_leak():
  discriminator = Discriminator((2,), (1,), (False,), leak=0.3)
  images = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
  variables = discriminator.init(jax.random.key(0), images)
  _, (leaky,) = discriminator.apply(variables, images)
  _, (plain,) = discriminator.clone(leak=0.0).apply(variables, images)
  np.testing.assert_array_equal(jnp.maximum(leaky, 0), plain)
  _, (linear,) = discriminator.clone(leak=1.0).apply(variables, images)
  np.testing.assert_allclose(leaky, jnp.where(linear < 0, 0.3 * linear, linear), rtol=1e-6)


def test_dropout_rate_scale_and_device_independence():
  x = jnp.ones((8, 10, 10, 25))
  rngs = {'dropout': jax.random.key(0)}
  one = Dropout(0.3).apply({}, x, rngs=rngs)
  kept = np.asarray(one != 0)
  assert abs(kept.mean() - 0.7) < 0.015  # 20,000 draws, four standard deviations
  np.testing.assert_allclose(one[kept], 1 / 0.7, rtol=1e-6)
  assert (kept[0] != kept[1]).any()
  mesh = jax.make_mesh((4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
  sharded = jax.shard_map(
    lambda x: Dropout(0.3, 'batch').apply({}, x, rngs=rngs),
    mesh=mesh,
    in_specs=P('batch'),
    out_specs=P('batch'),
  )
  np.testing.assert_array_equal(sharded(x), one)
  odd = Dropout(0.3).apply({}, jnp.ones((2, 3)), rngs=rngs)  # an odd number of 16-bit draws
  assert odd.shape == (2, 3)
