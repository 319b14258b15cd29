"""Comparisons with PyTorch: the same weights and the same batch give the same images, logits and updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import gan_of, lenient
from flax import linen

from configs import base, cifar10_32, mnist
from dcgan_jax import settings
from dcgan_jax.core import latents, train_state
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Generator as OurGenerator
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.runs import experiment

torch = pytest.importorskip('torch')
pytestmark = pytest.mark.slow
nn = torch.nn
from benchmarks import torch_dcgan  # noqa: E402  It imports torch.

B, Z, F = 6, 10, 4  # batch size, latent size, width
CONFIG = cifar10_32.get_config()
CONFIG.latent.size = Z
CONFIG.generator.widths = (4 * F, 2 * F, F)
CONFIG.discriminator.widths = (F, 2 * F, 4 * F)
OURS = experiment.build(settings.check(CONFIG)).gan
D_NORMS = {'norm2': 3, 'norm3': 6}  # places of our batch norms in the example's discriminator


def _torch_networks():
  """Returns generator and discriminator of PyTorch's DCGAN example at 32x32, narrow."""
  return torch_dcgan.generator(CONFIG), torch_dcgan.discriminator(CONFIG)


def _numpy(tensor):
  return tensor.detach().numpy().astype(np.float32)


def _norm(layer):
  return {'scale': _numpy(layer.weight), 'bias': _numpy(layer.bias)}


def _generator_params(g):
  """Turns transposed kernels [in, out, h, w] into ours [h, w, out, in], and the first into a dense layer."""
  params = {
    'dense': {'kernel': _numpy(g[0].weight).transpose(0, 2, 3, 1).reshape(Z, -1)},
    'norm0': _norm(g[1]),
  }
  for i, layer in enumerate((3, 6, 9), 1):
    params[f'conv{i}'] = {'kernel': _numpy(g[layer].weight).transpose(2, 3, 1, 0)}
  return params | {'norm1': _norm(g[4]), 'norm2': _norm(g[7])}


def _discriminator_params(d):
  """Turns kernels [out, in, h, w] into ours [h, w, in, out], and the last into a dense layer."""
  *convs, last = (layer for layer in d if isinstance(layer, nn.Conv2d))
  params = {'dense': {'kernel': _numpy(last.weight).transpose(2, 3, 1, 0).reshape(-1, 1)}}
  for i, layer in enumerate(convs, 1):
    params[f'conv{i}'] = {'kernel': _numpy(layer.weight).transpose(2, 3, 1, 0)}
  norms = (layer for layer in d if isinstance(layer, nn.BatchNorm2d))
  return params | {f'norm{i}': _norm(norm) for i, norm in enumerate(norms, 2)}


def _unbiased(variance, count, left):
  """Converts our running averages of biased variances to PyTorch's of unbiased ones.

  Args:
    variance: Running variances.
    count: Number of values per channel in each batch.
    left: Remaining weight of the initial variance, 1: the momentum to the power of the batches.
  """
  return (np.asarray(variance, np.float64) - left) * count / (count - 1) + left


def _assert_trees_close(got, want, atol):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=atol), got, want)


def test_two_steps_of_pytorchs_example():
  torch.manual_seed(0)
  g, d = _torch_networks()
  gan = gan_of((OURS.generator, OURS.discriminator), lenient(train_state.make_optimizer(2e-4, b1=0.5)), Z)
  now = jax.jit(lambda: train_state.create(gan, 0))()
  now = now.replace(
    generator=now.generator.replace(params=_generator_params(g)),
    discriminator=now.discriminator.replace(params=_discriminator_params(d)),
  )
  step = jax.jit(make_train_step(gan, Recipe(LOSSES['non_saturating'])))
  optimizers = [torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (g, d)]
  bce = nn.BCEWithLogitsLoss()
  for i in range(2):
    images = np.random.default_rng(i).integers(0, 256, (B, 32, 32, 3), np.uint8)
    keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(now.key), i), 6)
    z = latents.sample(jax.random.fold_in(keys[0], 0), jnp.arange(B), Z)
    now, metrics = step(now, jnp.asarray(images))

    # This is the example's loop: D on real, on fake; then G through the updated D.
    real = torch.tensor(images.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)
    optimizers[1].zero_grad()
    loss_real = bce(d(real), torch.ones(B))
    fake = g(torch.tensor(np.asarray(z))[:, :, None, None])
    loss_fake = bce(d(fake.detach()), torch.zeros(B))
    (loss_real + loss_fake).backward()
    optimizers[1].step()
    statistics = {name: (d[j].running_mean.clone(), d[j].running_var.clone()) for name, j in D_NORMS.items()}
    optimizers[0].zero_grad()
    loss_g = bce(d(fake), torch.ones(B))
    loss_g.backward()
    optimizers[0].step()
    # Ours leaves D's statistics alone in G's update; the example's loop does not.
    for name, j in D_NORMS.items():
      d[j].running_mean, d[j].running_var = statistics[name]

    np.testing.assert_allclose(metrics['loss_d'], (loss_real + loss_fake).item(), rtol=1e-4)
    np.testing.assert_allclose(metrics['loss_g'], loss_g.item(), rtol=1e-4)
    statistics |= {f'g{j}': (g[k].running_mean, g[k].running_var) for j, k in enumerate((1, 4, 7))}
    ours = now.discriminator.batch_stats | {f'g{j}': now.generator.batch_stats[f'norm{j}'] for j in range(3)}
    counts = {'norm2': 8 * 8 * B, 'norm3': 4 * 4 * B, 'g0': 4 * 4 * B, 'g1': 8 * 8 * B, 'g2': 16 * 16 * B}
    for name, (mean, variance) in statistics.items():
      moves = (i + 1) * (1 if name.startswith('g') else 2)  # D's statistics move with real images and fakes.
      np.testing.assert_allclose(ours[name]['mean'], mean, rtol=1e-3, atol=1e-5)
      unbiased = _unbiased(ours[name]['var'], counts[name], 0.9**moves)
      np.testing.assert_allclose(unbiased, variance, rtol=1e-6)
  # Adam's first steps are of the size of the learning rate, of which 2e-5 is a tenth.
  _assert_trees_close(now.generator.params, _generator_params(g), atol=2e-5)
  _assert_trees_close(now.discriminator.params, _discriminator_params(d), atol=2e-5)


@pytest.mark.parametrize('order', ['alternating', 'simultaneous', 'relativistic'])
def test_the_benchmarks_contender_takes_our_step(order):
  """Compares losses before and after an update of both networks."""
  torch.manual_seed(2)
  config = CONFIG.copy_and_resolve_references()
  discriminator, recipe = OURS.discriminator, Recipe(order=order)
  if order == 'relativistic':
    config.train.loss, config.train.r1, config.train.r2 = 'relativistic', 1.0, 0.5
    config.discriminator.norm = (False, False, False)
    discriminator = discriminator.clone(norm=config.discriminator.norm)
    recipe = Recipe(LOSSES['relativistic'], penalties={'r1': 1.0, 'r2': 0.5})
  else:
    config.train.order = order
  theirs = torch_dcgan.TrainStep(config, torch.channels_last)
  gan = gan_of((OURS.generator, discriminator), lenient(train_state.make_optimizer(2e-4, b1=0.5)), Z)
  now = jax.jit(lambda: train_state.create(gan, 0))()
  now = now.replace(
    generator=now.generator.replace(params=_generator_params(theirs.generator)),
    discriminator=now.discriminator.replace(params=_discriminator_params(theirs.discriminator)),
  )
  step = jax.jit(make_train_step(gan, recipe))
  for i in range(2):
    images = np.random.default_rng(i).integers(0, 256, (B, 32, 32, 3), np.uint8)
    keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(now.key), i), 6)
    z = latents.sample(jax.random.fold_in(keys[0], 0), jnp.arange(B), Z)
    now, metrics = step(now, jnp.asarray(images))
    want = theirs(torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(np.asarray(z))[:, :, None, None])
    for name, value in want.items():
      np.testing.assert_allclose(metrics[name], value, rtol=1e-4)


@pytest.mark.parametrize('config', [base, cifar10_32, mnist], ids=lambda c: c.__name__)
def test_the_benchmarks_contender_is_of_our_size(config):
  config = config.get_config()
  config.data.source = 'folder:anywhere'  # The digits, base's default, would be gray.
  shapes = experiment.build(settings.check(config)).shapes
  for net, made in (
    (shapes.generator, torch_dcgan.generator),
    (shapes.discriminator, torch_dcgan.discriminator),
  ):
    ours = sum(leaf.size for leaf in jax.tree.leaves(net.params))
    theirs = sum(parameter.numel() for parameter in made(config).parameters())
    assert ours == theirs


def test_the_benchmarks_contender_starts_like_ours():
  """Compares the spread of each layer's first weights, where they are enough for one."""
  config = mnist.get_config()
  torch.manual_seed(0)
  state = experiment.build(settings.check(config)).first_state()
  for net, made in (
    (state.generator, torch_dcgan.generator),
    (state.discriminator, torch_dcgan.discriminator),
  ):
    network = made(config)
    torch_dcgan.initialize(network, 'glorot')
    theirs = [np.std(_numpy(layer.weight)) for layer in network if hasattr(layer, 'kernel_size')]
    ours = [np.std(layer['kernel']) for layer in net.params.values() if 'kernel' in layer]
    np.testing.assert_allclose(sorted(ours), sorted(theirs), rtol=0.05)


def test_same_weights_same_images_and_logits():
  torch.manual_seed(1)
  g, d = (net.eval() for net in _torch_networks())
  z = np.random.default_rng(0).standard_normal((B, Z)).astype(np.float32)
  want = g(torch.tensor(z)[:, :, None, None])
  statistics = {
    f'norm{i}': {'mean': np.zeros(w, np.float32), 'var': np.ones(w, np.float32)}
    for i, w in enumerate((4 * F, 2 * F, F))
  }
  got = OURS.generator.apply({'params': _generator_params(g), 'batch_stats': statistics}, z)
  np.testing.assert_allclose(got, _numpy(want).transpose(0, 2, 3, 1), atol=1e-5)
  statistics = {f'norm{i + 1}': v for i, v in enumerate((None, *list(statistics.values())[1::-1])) if v}
  logits, _ = OURS.discriminator.apply({'params': _discriminator_params(d), 'batch_stats': statistics}, got)
  np.testing.assert_allclose(logits, _numpy(d(want)), atol=1e-5)


class _BatchNorm(OurGenerator):
  """The batch norm of a network alone, in training mode."""

  @linen.compact
  def __call__(self, x):
    return self.batch_norm(x, None, True, 'norm')


@pytest.mark.parametrize('shape', [(6,), (4, 5, 6), (1, 3, 3)], ids=str)
def test_running_variances_are_kerass_and_by_a_known_factor_pytorchs(shape):
  """Keras averages the biased variance of n numbers, PyTorch the unbiased one, n / (n - 1) as large."""
  batches = [
    3 * np.random.default_rng(i).standard_normal((2, *shape)).astype(np.float32) + 1 for i in range(4)
  ]
  count, channels = batches[0][..., 0].size, shape[-1]
  pytorch = (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(channels)
  norm = _BatchNorm((3,), (2,), (True,), norm_momentum=0.9)
  stats = jax.jit(norm.init)(jax.random.key(0), batches[0])
  keras = np.ones(channels)
  for x in batches:
    pytorch(torch.tensor(np.moveaxis(x, -1, 1)))
    stats = stats | norm.apply(stats, x, mutable=['batch_stats'])[1]
    exact = x.astype(np.float64).reshape(-1, channels)
    keras = 0.9 * keras + 0.1 * np.square(exact - exact.mean(0)).mean(0)
  ours = stats['batch_stats']['norm']
  np.testing.assert_allclose(ours['var'], keras, rtol=1e-5)
  np.testing.assert_allclose(_unbiased(ours['var'], count, 0.9**4), pytorch.running_var, rtol=1e-5)
  assert np.abs(np.asarray(ours['var']) / pytorch.running_var.numpy() - 1).min() > 1e-4
  np.testing.assert_allclose(ours['mean'], pytorch.running_mean, rtol=1e-5, atol=1e-6)


def test_adam_is_pytorchs():
  x = torch.tensor([1.0, -2.0], requires_grad=True)
  theirs = torch.optim.Adam([x], 1e-2, betas=(0.5, 0.999))
  ours = lenient(train_state.make_optimizer(1e-2))
  params = jnp.float32([1.0, -2.0])
  opt_state = ours.init(params)
  for _ in range(5):
    theirs.zero_grad()
    (x**4).sum().backward()
    theirs.step()
    updates, opt_state = ours.update(4.0 * params**3, opt_state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params, _numpy(x), rtol=1e-6)
