"""Conditional networks: the modules, the step, and a run of every mode."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import TINY, gan_of, lenient, narrow, succeed
from PIL import Image

import dcgan_jax
from dcgan_jax.core import train_state
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment

CLASSES, Z = 3, 5
G = Generator(
  widths=(8, 6),
  strides=(2, 2),
  norm=(True, True),
  classes=CLASSES,
  condition='embedding',
  image_size=(8, 8),
  channels=1,
  initializer='glorot',
)
D = Discriminator((6, 8), (2, 2), (False, True), classes=CLASSES, initializer='glorot')
Y = np.eye(CLASSES, dtype=np.float32)


def _told(condition_g, condition_d='projection', dense_widths=()):
  generator = G.clone(condition=condition_g, dense_widths=dense_widths)
  return generator, D.clone(condition=condition_d, dense_widths=dense_widths)


def test_an_embedding_is_a_bias_of_each_class_in_the_first_layer():
  z = np.random.default_rng(0).standard_normal((2, Z)).astype(np.float32)
  latents = np.concatenate([z, Y[[2, 0]]], 1)
  variables = jax.jit(G.init)(jax.random.key(0), latents)
  embedding, kernel = (variables['params'][name]['kernel'] for name in ('embedding', 'dense'))
  assert embedding.shape == (CLASSES, Z) and 0.5 < np.std(embedding) * Z**0.5 < 1.5
  plain = G.clone(classes=0)
  unconditional = {
    'params': {k: v for k, v in variables['params'].items() if k != 'embedding'}
    | {'dense': {'kernel': kernel}},
    'batch_stats': variables['batch_stats'],
  }
  want = jax.jit(plain.apply)(unconditional, np.concatenate([z, np.asarray(embedding)[[2, 0]]], 1))
  np.testing.assert_allclose(jax.jit(G.apply)(variables, latents), want, atol=1e-6)


def _batch_norm(x):
  """Normalises as the authors' `batchnorm` does without a gain and a bias: over all axes but the last."""
  axes = tuple(range(x.ndim - 1))
  return (x - x.mean(axes)) / jnp.sqrt(x.var(axes) + 1e-8)


def _beside(x, y):
  """Concatenates the class to the channels of each pixel, the authors' `conv_cond_concat`."""
  y = y.reshape(len(y), *(1,) * (x.ndim - 2), -1)
  return jnp.concatenate([x, jnp.broadcast_to(y, (*x.shape[:-1], y.shape[-1]))], -1)


def _convolved(x, kernel):
  """Convolves with stride 2 and two pixels of padding on each side."""
  dimensions = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((2, 2), (2, 2)), dimension_numbers=dimensions)


def _deconvolved(x, kernel):
  """Computes the authors' `deconv`: the gradient of that convolution in its input."""
  image = jax.ShapeDtypeStruct((len(x), 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]), x.dtype)
  (made,) = jax.linear_transpose(lambda image: _convolved(image, kernel), image)(x)
  return made


@pytest.mark.slow(2)
def test_mnist_conditional_is_the_authors_model():
  """Compares both networks in training with the authors' `gen` and `discrim`, written out."""
  chosen = narrow('mnist_conditional')
  gan = experiment.build(chosen).gan
  y = np.eye(10, dtype=np.float32)[[3, 1, 4, 1, 5, 9]]
  z = np.random.default_rng(0).uniform(-1, 1, (6, gan.latents.size)).astype(np.float32)
  images = np.random.default_rng(1).uniform(-1, 1, (6, 28, 28, 1)).astype(np.float32)
  g = jax.jit(gan.generator.init)(jax.random.key(0), np.concatenate([z, y], 1))['params']
  d = jax.jit(gan.discriminator.init)(jax.random.key(1), images, y)['params']
  assert [set(layer) for layer in (*g.values(), *d.values())] == [{'kernel'}] * 8
  assert chosen.data.split == 'train[:50000]' and chosen.generator_optimizer.decay_after == 100 * 391

  g, d = (jax.tree.map(lambda x: 10 * x, params) for params in (g, d))  # Logits are far from 0 then.
  kernel = {name: layer['kernel'] for name, layer in (g | {f'd_{name}': x for name, x in d.items()}).items()}
  h = jax.nn.relu(_batch_norm(_beside(z, y) @ kernel['hidden1']))
  h = jax.nn.relu(_batch_norm(_beside(h, y) @ kernel['dense']))
  h = jax.nn.relu(_batch_norm(_deconvolved(_beside(h.reshape(6, 7, 7, -1), y), kernel['conv1'])))
  want = jnp.tanh(_deconvolved(_beside(h, y), kernel['conv2']))
  made, _ = jax.jit(lambda v, z: gan.generator.apply(v, z, train=True, mutable=['batch_stats']))(
    {'params': g}, np.concatenate([z, y], 1)
  )
  np.testing.assert_allclose(made, want, atol=1e-5)

  leaky = lambda x: jax.nn.leaky_relu(x, 0.2)  # noqa: E731
  h = leaky(_convolved(_beside(images, y), kernel['d_conv1']))
  h = leaky(_batch_norm(_convolved(_beside(h, y), kernel['d_conv2']))).reshape(6, -1)
  h = leaky(_batch_norm(_beside(h, y) @ kernel['d_hidden1']))
  want = (_beside(h, y) @ kernel['d_dense'])[:, 0]
  (logits, _), _ = jax.jit(
    lambda v, x, y: gan.discriminator.apply(v, x, y, train=True, mutable=['batch_stats'])
  )({'params': d}, images, y)
  assert np.std(want) > 0.01
  np.testing.assert_allclose(logits, want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('dense_norm', ['channel', 'unit'])
def test_a_norm_of_classes_scales_and_shifts_what_all_classes_are_normalised_by(dense_norm):
  """Compares the first batch norm in training with NumPy; half a class is half of its row."""
  generator = G.clone(condition='norm', dense_norm=dense_norm, norm_momentum=0.0)
  random = np.random.default_rng(0)
  z = random.standard_normal((6, Z)).astype(np.float32)
  y = np.concatenate([Y, Y[:2], [[0.5, 0.0, 0.5]]]).astype(np.float32)
  variables = jax.jit(generator.init)(jax.random.key(0), np.concatenate([z, y], 1))
  params = dict(variables['params'])
  units = 8 if dense_norm == 'channel' else 32
  assert params['norm0']['scale'].shape == (CLASSES, units) and params['norm1']['bias'].shape == (CLASSES, 6)
  scales, biases = random.standard_normal((2, CLASSES, units)).astype(np.float32)
  params['norm0'] = {'scale': jnp.asarray(scales), 'bias': jnp.asarray(biases)}
  apply = jax.jit(lambda v, z: generator.apply(v, z, True, mutable=True, capture_intermediates=True))
  _, new = apply({**variables, 'params': params}, np.concatenate([z, y], 1))
  x = (z @ np.asarray(params['dense']['kernel'])).reshape(-1, units)
  normalised = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)).reshape(6, -1, units)
  want = normalised * (y @ scales)[:, None] + (y @ biases)[:, None]
  got = new['intermediates']['norm0']['__call__'][-1]
  np.testing.assert_allclose(np.reshape(got, want.shape), want, atol=1e-4)
  np.testing.assert_allclose(new['batch_stats']['norm0']['var'], x.var(0), rtol=1e-4)
  assert set(variables['batch_stats']['norm0']) == {'mean', 'var'}


def test_a_projection_adds_a_linear_function_of_the_last_features():
  images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)
  variables = jax.jit(D.init)(jax.random.key(0), images)
  judge = jax.jit(D.apply)
  without, (_, features) = judge(variables, images)
  told, _ = judge(variables, images, Y[[2, 0, 0]])
  projections = np.asarray(features).reshape(3, -1) @ variables['params']['projection']['kernel']
  np.testing.assert_allclose(told - without, projections[[0, 1, 2], [2, 0, 0]], atol=1e-5)


def test_concatenated_classes_reach_every_layer():
  """As in the authors' code: each kernel has so many more inputs, and each of them counts."""
  generator, discriminator = _told('concat', 'concat', (7,))
  latents = np.concatenate([np.ones((2, Z), np.float32), Y[:2]], 1)
  g = jax.jit(generator.init)(jax.random.key(0), latents)['params']
  images = np.ones((2, 8, 8, 1), np.float32)
  d = jax.jit(discriminator.init)(jax.random.key(0), images)['params']
  inputs = {name: g[name]['kernel'].shape[-2] for name in ('hidden1', 'dense')}
  inputs |= {name: g[name]['kernel'].shape[-1] for name in ('conv1', 'conv2')}  # [k, k, out, in]
  assert inputs == {'hidden1': Z + 3, 'dense': 7 + 3, 'conv1': 8 + 3, 'conv2': 6 + 3}
  inputs = {name: d[name]['kernel'].shape[-2] for name in d if 'norm' not in name}
  assert inputs == {'conv1': 1 + 3, 'conv2': 6 + 3, 'hidden1': 32 + 3, 'dense': 7 + 3}


def _step(condition):
  gan = gan_of(_told(condition), lenient(optax.sgd(1e-2)), Z, CLASSES)
  return jax.jit(lambda: train_state.create(gan, 0))(), make_train_step(gan, Recipe())


def _examples(count, of=CLASSES):
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (count, 8, 8, 1), np.uint8)
  return Examples(images, (np.arange(count) % of).astype(np.int32))


@pytest.mark.slow(2)
@pytest.mark.parametrize(
  ('condition', 'place'), [('embedding', ('embedding', 'kernel')), ('norm', ('norm1', 'scale'))]
)
def test_a_class_that_does_not_occur_learns_nothing(condition, place):
  """Fakes are of the classes of the real images, in both updates."""
  state, step = _step(condition)
  new, _ = jax.jit(step)(state, *_examples(8, of=2))
  for network, (layer, name), axis in (
    ('generator', place, 0),
    ('discriminator', ('projection', 'kernel'), 1),
  ):
    before, after = (getattr(s, network).params[layer][name] for s in (state, new))
    change = np.abs(np.asarray(after - before)).max(1 - axis)
    assert (change[:2] > 0).all() and change[2] == 0


def test_latents_with_classes_are_functions_of_their_index():
  latents, key = Latents(Z, 'normal', CLASSES), jax.random.key(3)
  many = np.asarray(latents.sample(key, jnp.arange(600)))
  np.testing.assert_array_equal(many[[7, 42]], latents.sample(key, jnp.array([7, 42])))
  np.testing.assert_array_equal(many[:, :Z], Latents(Z).sample(key, jnp.arange(600)))
  shares = many[:, Z:].mean(0)
  assert (np.sort(many[:, Z:], 1) == [0, 0, 1]).all() and abs(shares - 1 / 3).max() < 0.06
  way = latents.path(jnp.asarray(many[:2]), jnp.array([0, 0.25]), closed=False)
  np.testing.assert_allclose(way[0, 1, Z:], 0.75 * many[0, Z:] + 0.25 * many[1, Z:], atol=1e-6)


@pytest.fixture(scope='module')
def told(digits_classifier, tmp_path_factory):
  """A run conditioned on the digits, trained for a few steps, with a score."""
  folder = tmp_path_factory.mktemp('told') / 'run'
  scored = ['--config.eval.every_steps=24', '--config.eval.num=100', '--config.sample.num=20']
  succeed(*TINY, f'--workdir={folder}', '--config.data.classes=10', *scored)
  return folder


@pytest.mark.slow
def test_images_of_a_class_on_request(told, tmp_path, printed_by, standard_promotion):
  classes = json.loads((told / 'classes.json').read_text())
  assert classes['names'] == list('0123456789') and sum(classes['counts']) == 1797
  rows = (told / 'metrics.jsonl').read_text().splitlines()
  assert any(0 <= json.loads(row).get('agreement', -1) <= 1 for row in rows)
  run = dcgan_jax.load(told)
  threes = run.sample(4, seed=1, label='3')
  np.testing.assert_array_equal(threes, run.sample(4, seed=1, label=3))
  np.testing.assert_array_equal(run.sample(2, seed=1, label=[3, 5])[0], threes[0])
  assert (run.sample(4, seed=1, label=5) != threes).any()
  for label in ('ten', 10):
    with pytest.raises(InputError, match=r'no such class|has 10 classes'):
      run.sample(1, label=label)
  sample = ['--mode=sample', f'--workdir={told}', '--class=3,5', '--num=4', '--seed=1']
  printed_by(*sample, f'--out={tmp_path}/x.npz')
  rows = np.load(tmp_path / 'x.npz')['x']
  np.testing.assert_array_equal(rows, np.concatenate([threes, run.sample(4, seed=1, label=5)]))
  # The pictures of the run have a row for each class: 20 images in two columns.
  with Image.open(told / 'samples' / 'step_00000024.png') as picture:
    width, height = picture.size
  assert round(height / width) == 5
  printed = printed_by('--mode=evaluate', f'--workdir={told}', '--num=300')
  assert 'of the class that was asked for' in printed
  asked = json.loads((told / 'evaluation.json').read_text())['asked']
  assert len(asked['agreements']) == len(asked['distances']) == 10 and min(asked['distances']) > 0


@pytest.mark.slow
def test_a_walk_between_classes_keeps_each_latent(told, tmp_path, call_main, refused):
  run = dcgan_jax.load(told)
  out = tmp_path / 'w.png'
  arguments = ['--mode=walk', f'--workdir={told}', '--class=3,5', '--points=4,0', f'--out={out}']
  assert call_main(*arguments)[0] == 0
  with Image.open(out) as picture:
    shown = np.asarray(picture)
  size = (shown.shape[1] - 2) // 10 - 2
  z = run.latents.draw(0, 5)[[4, 0]]
  ends = [np.asarray(run.latents.of_classes(jnp.asarray(z), jnp.full(2, n))) for n in (3, 5)]
  for row in range(2):
    for column, end in ((0, ends[0]), (9, ends[1])):
      top, left = 2 + row * (size + 2), 2 + column * (size + 2)
      tile = shown[top : top + size : size // 8, left : left + size : size // 8]
      np.testing.assert_allclose(tile.astype(int), run.from_latents(end)[row, ..., 0].astype(int), atol=1)
  assert call_main(*arguments[:2], '--class=all', f'--out={tmp_path}/w.gif')[0] == 0
  with Image.open(tmp_path / 'w.gif') as loop:
    assert loop.n_frames == 100
  for wrong, text in (('--class=3', 'two or more'), ('--class=x,3', 'no such class')):
    assert text in refused(*arguments[:2], wrong)


def test_what_cannot_be_told_is_one_line(untrained, tmp_path, refused):
  for name in 'ab':
    Image.new('L', (8, 8)).save(tmp_path / f'{name}.png')
  for arguments, text in (
    (
      [*TINY, f'--workdir={tmp_path}/r', '--config.data.classes=9'],
      'data.classes=9: the data has 10: 0, 1',
    ),
    ([*TINY, f'--workdir={tmp_path}/r', '--config.data.classes=1'], 'data.classes=1: must be'),
    (
      [
        *TINY,
        f'--workdir={tmp_path}/r',
        f'--config.data.source=folder:{tmp_path}',
        '--config.data.classes=2',
      ],
      'put those of each into a folder of its own; or set data.classes=2 to 0',
    ),
    (['--mode=sample', f'--workdir={untrained}', '--class=3'], 'is unconditional'),
    (
      [
        *TINY,
        f'--workdir={tmp_path}/r',
        '--config.data.classes=10',
        '--config.generator.condition=norm',
        '--config.generator.norm=(False,False)',
      ],
      'generator.norm=(False, False) has no batch norm; choose concat or embedding',
    ),
    (
      [
        *TINY,
        f'--workdir={tmp_path}/r',
        '--config.data.classes=10',
        '--config.generator.condition=norm',
        '--config.generator.norm_affine=False',
      ],
      'generator.norm_affine=False leaves them out; set it to True, or choose concat or embedding',
    ),
  ):
    assert text in refused(*arguments)
