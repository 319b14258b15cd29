"""The weights of the paper's authors, imported, against a NumPy form of their networks."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from configs import svhn
from dcgan_jax import settings
from dcgan_jax.core import latents, norm_statistics
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment
from dcgan_jax.trained.interop import importing, newmu

pytestmark = pytest.mark.usefixtures('few_samples')

AUTHORS = ROOT.parent / 'shared' / 'data' / 'newmu_svhn'


def _z(num, size, seed=0):
  return latents.sample(jax.random.key(seed), jnp.arange(num), size)


# The authors' networks by their definition, in NumPy: true convolutions of NCHW, tap by tap.


def _norm(x, scale, shift):
  """Normalises by the batch's statistics, per unit of [B, units] or per channel of [B, C, H, W]."""
  axes = (0,) if x.ndim == 2 else (0, 2, 3)
  broadcast = (slice(None),) if x.ndim == 2 else (slice(None), None, None)
  normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-8)
  return normal * scale[broadcast] + shift[broadcast]


def _taps(size):
  """Yields row and column of a kernel, turned, and the rows and columns of the padded image they meet."""
  for u in range(5):
    for v in range(5):
      yield u, v, slice(4 - u, 4 - u + size, 2), slice(4 - v, 4 - v + size, 2)


def _theirs_generate(weights, z):
  h = np.maximum(_norm(z @ weights[0], *weights[1:3]), 0)
  side = int((h.shape[1] // weights[3].shape[0]) ** 0.5)
  h = h.reshape(len(z), -1, side, side)
  for i in range(3, len(weights), 3):
    size = 2 * h.shape[2]
    padded = np.zeros((len(z), weights[i].shape[1], size + 4, size + 4))
    for u, v, rows, columns in _taps(size):
      padded[:, :, rows, columns] += np.einsum('biyx,io->boyx', h, weights[i][:, :, u, v], optimize=True)
    h = padded[:, :, 2:-2, 2:-2]
    if i + 1 < len(weights):
      h = np.maximum(_norm(h, *weights[i + 1 : i + 3]), 0)
  return np.tanh(h)


def _theirs_judge(weights, images):
  h, layers = images, [weights[:1], *(weights[i : i + 3] for i in range(1, len(weights) - 1, 3))]
  for kernel, *norm in layers:
    size = h.shape[2]
    padded = np.pad(h, ((0, 0), (0, 0), (2, 2), (2, 2)))
    h = sum(
      np.einsum('biyx,oi->boyx', padded[:, :, rows, columns], kernel[:, :, u, v], optimize=True)
      for u, v, rows, columns in _taps(size)
    )
    h = _norm(h, *norm) if norm else h
    h = np.maximum(h, 0.2 * h)
  return (h.reshape(len(h), -1) @ weights[-1])[:, 0]


def _narrow_authors(folder):
  """Writes arrays in their format, narrow, with two convolutions: images of 16x16."""
  rng = np.random.default_rng(0)
  gen = [rng.normal(0, 1, (10, 8 * 16)), rng.uniform(0.5, 1.5, 128), rng.normal(0, 0.3, 128)]
  gen += [rng.normal(0, 0.1, (8, 6, 5, 5)), rng.uniform(0.5, 1.5, 6), rng.normal(0, 0.3, 6)]
  gen += [rng.normal(0, 0.1, (6, 3, 5, 5))]
  discrim = [rng.normal(0, 0.1, (4, 3, 5, 5))]
  discrim += [rng.normal(0, 0.1, (6, 4, 5, 5)), rng.uniform(0.5, 1.5, 6), rng.normal(0, 0.3, 6)]
  discrim += [rng.normal(0, 0.1, (6 * 16, 1))]
  (folder / 'newmu').mkdir()
  for name, arrays in (('gen', gen), ('discrim', discrim)):
    for i, array in enumerate(arrays, 1):
      np.save(folder / 'newmu' / f'{name}_{i:02d}.npy', array.astype(np.float32))
  return folder / 'newmu'


def _assert_same_as_theirs(source, g, g_variables, d, d_variables):
  """Compares by the statistics of a batch, as theirs does, and by the stored ones, of all samples."""
  gen, discrim = (
    [np.load(path).astype(np.float64) for path in sorted(source.glob(f'{name}_*.npy'))]
    for name in ('gen', 'discrim')
  )
  z = _z(64, len(gen[0]))
  images = _theirs_generate(gen, np.asarray(z, np.float64))
  logits = _theirs_judge(discrim, images)
  images = images.transpose(0, 2, 3, 1).astype(np.float32)
  assert images.std() > 0.1 and logits.std() > 0.1

  @jax.jit
  def by_batch(z, images):
    made, _ = g.apply(g_variables, z, train=True, mutable=['batch_stats'])
    (judged, _), _ = d.apply(d_variables, images, train=True, mutable=['batch_stats'])
    return made, judged

  @jax.jit
  def by_stored(z, images):
    return g.apply(g_variables, z), d.apply(d_variables, images)[0]

  for apply in (by_batch, by_stored):
    made, judged = apply(z, images)
    np.testing.assert_allclose(made, images, atol=2e-5)
    np.testing.assert_allclose(judged, logits, atol=2e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_authors_format(tmp_path):
  source = _narrow_authors(tmp_path)
  importing.run(settings.check(svhn.get_config()), tmp_path / 'run', 'newmu', str(source))
  parts, _, state, _ = experiment.open_run(tmp_path / 'run', 'last')
  assert parts.settings.data.image_size == (16, 16) and parts.settings.generator.dense_norm == 'unit'
  g, d = parts.gan.generator, parts.gan.discriminator
  _assert_same_as_theirs(source, g, state.generator.variables, d, state.discriminator.variables)


def test_the_arrays_tell_that_batch_norm_has_a_scale(tmp_path):
  source = _narrow_authors(tmp_path)
  arrays = newmu.read_newmu(source)
  assert newmu.from_newmu(arrays['gen'], 'generator').settings['norm_affine']
  assert newmu.from_newmu(arrays['discrim'], 'discriminator').settings['norm_affine']


@pytest.mark.slow
@pytest.mark.skipif(not AUTHORS.is_dir(), reason="the authors' SVHN weights are not there")
def test_the_authors_released_model():
  arrays = newmu.read_newmu(AUTHORS)
  networks = (
    newmu.from_newmu(arrays['gen'], 'generator'),
    newmu.from_newmu(arrays['discrim'], 'discriminator'),
  )
  gan = experiment.build(settings.check(svhn.get_config())).gan
  for module, network in zip((gan.generator, gan.discriminator), networks):
    assert network.settings == {key: getattr(module, key) for key in network.settings}
    assert network.image_size == (32, 32) and not network.batch_stats
  g, d, theirs_g, theirs_d = gan.generator, gan.discriminator, *networks
  z = _z(64, 100).reshape(2, 32, 100)
  stats = norm_statistics.estimate(g, theirs_g.params, {}, lambda: z)
  g_variables = {'params': theirs_g.params, 'batch_stats': stats}
  make = jax.jit(g.apply)
  images = [make(g_variables, x) for x in z]
  stats = norm_statistics.estimate(d, theirs_d.params, {}, lambda: images)
  _assert_same_as_theirs(AUTHORS, g, g_variables, d, {'params': theirs_d.params, 'batch_stats': stats})


class _Evil:
  def __reduce__(self):
    return os.system, ('touch pwned',)


def _save_in(folder, name, array):
  np.save(folder / name, array)


@pytest.mark.parametrize(
  ('spoil', 'text'),
  [
    (lambda f: (f / 'gen_05.npy').unlink(), 'has no gen_05.npy'),
    (lambda f: (f / 'gen_07.npy').unlink(), 'has no gen_07.npy'),
    (lambda f: (f / 'discrim_05.npy').unlink(), 'has no discrim_05.npy'),
    (lambda f: [p.unlink() for p in f.glob('gen*')], 'has no gen_01.npy'),
    (
      lambda f: _save_in(f, 'gen_07', np.zeros((5, 3, 5, 5))),
      'gen_07.npy has shape (5, 3, 5, 5); (6, 3, 5, 5)',
    ),
    (lambda f: _save_in(f, 'gen_02', np.zeros(8)), 'gen_02.npy has shape (8,); (128,) is expected'),
    (lambda f: _save_in(f, 'gen_01', np.zeros((10, 100))), 'its units must be 8 channels of a square'),
    (lambda f: _save_in(f, 'gen_07', np.zeros((6, 65, 5, 5))), 'images have 1 to 64 channels'),
    (
      lambda f: _save_in(f, 'discrim_02', np.zeros(6)),
      'discrim_02.npy has shape (6,); (*, *, 5, 5) is expected',
    ),
    (lambda f: (f / 'gen_04.npy').write_bytes(b'\x93NUMPY'), 'gen_04.npy cannot be read as .npy'),
    (
      lambda f: (f / 'gen_04.npy').write_bytes((f / 'gen_04.npy').read_bytes()[:500]),
      'cannot be read as .npy',
    ),
    (lambda f: np.array([_Evil()]).dump(f / 'gen_04.npy'), 'gen_04.npy cannot be read as .npy'),
    (
      lambda f: _save_in(f, 'gen_04', np.zeros(3, int)),
      'gen_04.npy is not an array of floating-point numbers',
    ),
  ],
)
def test_bad_arrays_are_one_line(tmp_path, monkeypatch, spoil, text):
  monkeypatch.chdir(tmp_path)
  source = _narrow_authors(tmp_path)
  spoil(source)
  with pytest.raises(InputError) as error:
    importing.run(settings.check(svhn.get_config()), tmp_path / 'run', 'newmu', str(source))
  assert text in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists() and not (tmp_path / 'pwned').exists()


def test_a_file_is_no_folder(tmp_path):
  with pytest.raises(InputError, match='is not a folder; format=newmu takes one'):
    importing.run(settings.check(svhn.get_config()), tmp_path / 'run', 'newmu', 'README.md')
