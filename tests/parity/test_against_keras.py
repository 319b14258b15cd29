"""A step of TensorFlow's DCGAN tutorial in Keras and in ours, narrow and without dropout."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

if importlib.util.find_spec('tensorflow') is None:
  pytest.skip('TensorFlow has no package here', allow_module_level=True)

pytestmark = pytest.mark.slow

# It runs in a process of its own, because TensorFlow warns, and is imported by no other test.
SCRIPT = """
import jax, jax.numpy as jnp, numpy as np, optax, tensorflow as tf
from configs import mnist
from dcgan_jax import settings
from dcgan_jax.core import latents, train_state
from dcgan_jax.runs import experiment
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.train_state import Gan
from dcgan_jax.core.train_step import make_train_step

B, Z = 6, 10
config = mnist.get_config()
config.generator.widths, config.discriminator.widths = (8, 6, 4), (4, 6)
config.discriminator.dropout = 0.0
config.latent.size = Z
parts = experiment.build(settings.check(config))
rate = 1.0
# The updates of plain gradient descent are the gradients; Adam would blow up rounding.
gan = Gan(parts.gan.generator, parts.gan.discriminator, *[optax.sgd(rate)] * 2, Latents(Z))
now = jax.jit(lambda: train_state.create(gan, 0))()

layers = tf.keras.layers
def up(width, stride):
  return layers.Conv2DTranspose(width, 5, stride, 'same', use_bias=False)
g = tf.keras.Sequential([
  layers.Input((Z,)), layers.Dense(7 * 7 * 8, use_bias=False), layers.BatchNormalization(),
  layers.LeakyReLU(0.3), layers.Reshape((7, 7, 8)), up(6, 1), layers.BatchNormalization(),
  layers.LeakyReLU(0.3), up(4, 2), layers.BatchNormalization(), layers.LeakyReLU(0.3), up(1, 2),
  layers.Activation('tanh'),
])
d = tf.keras.Sequential([
  layers.Input((28, 28, 1)), layers.Conv2D(4, 5, 2, 'same'), layers.LeakyReLU(0.3),
  layers.Conv2D(6, 5, 2, 'same'), layers.LeakyReLU(0.3), layers.Flatten(), layers.Dense(1),
])

def norm(net, i):
  p, s = net.params[f'norm{i}'], net.batch_stats[f'norm{i}']
  return [p['scale'], p['bias'], s['mean'], s['var']]
def of_g(net):
  p = net.params
  return [p['dense']['kernel'], *norm(net, 0), p['conv1']['kernel'], *norm(net, 1), p['conv2']['kernel'],
          *norm(net, 2), p['conv3']['kernel']]
def of_d(net):
  return [net.params[k][n] for k in ('conv1', 'conv2', 'dense') for n in ('kernel', 'bias')]
g.set_weights([np.asarray(w) for w in of_g(now.generator)])
d.set_weights([np.asarray(w) for w in of_d(now.discriminator)])

images = np.random.default_rng(0).integers(0, 256, (B, 28, 28, 1), np.uint8)
keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(now.key), 0), 6)
z = np.asarray(latents.sample(jax.random.fold_in(keys[0], 0), jnp.arange(B), Z))
now, metrics = jax.jit(make_train_step(gan, parts.recipe))(now, images)

cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
with tf.GradientTape() as tape_g, tf.GradientTape() as tape_d:
  fake = g(z, training=True)
  real_logits, fake_logits = d(images.astype(np.float32) / 127.5 - 1, training=True), d(fake, training=True)
  loss_g = cross_entropy(tf.ones_like(fake_logits), fake_logits)
  loss_d = cross_entropy(tf.ones_like(real_logits), real_logits)
  loss_d += cross_entropy(tf.zeros_like(fake_logits), fake_logits)
for model, tape, loss in ((g, tape_g, loss_g), (d, tape_d, loss_d)):
  weights = model.trainable_variables
  tf.keras.optimizers.SGD(rate).apply_gradients(zip(tape.gradient(loss, weights), weights))

np.testing.assert_allclose([metrics['loss_d'], metrics['loss_g']], [loss_d, loss_g], rtol=1e-5)
ours, theirs = of_g(now.generator) + of_d(now.discriminator), g.get_weights() + d.get_weights()
for a, b in zip(ours, theirs, strict=True):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
# Both average biased variances; an unbiased one would be off by a fifth of what the batch of 6 has moved it.
for name, i in (('norm0', 1), ('norm1', 5), ('norm2', 8)):
  theirs = np.asarray(g.layers[i].moving_variance)
  np.testing.assert_allclose(now.generator.batch_stats[name]['var'], theirs, rtol=5e-7)
print('equal', len(ours))
"""


def test_a_step_of_the_tutorial():
  env = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_NUMPY_DTYPE_PROMOTION': 'standard',
    'CUDA_VISIBLE_DEVICES': '',
  }
  done = subprocess.run([sys.executable, '-c', SCRIPT], env=env, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'equal 22' in done.stdout
