"""`--mode=import`, against PyTorch and against a NumPy form of the authors' networks."""

import collections
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, environment
from PIL import Image

import dcgan_jax
from configs import cifar10, svhn
from dcgan_jax import checkpoints, foreign, latents, norm_statistics
from dcgan_jax.commands import build, import_weights, sample, trained
from dcgan_jax.errors import InputError
from dcgan_jax.models import Generator

AUTHORS = ROOT.parent / 'shared' / 'data' / 'newmu_svhn'


@pytest.fixture(scope='module')
def torch():
  return pytest.importorskip('torch')


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
  monkeypatch.setattr(import_weights, 'SAMPLES', 64)
  monkeypatch.setattr(import_weights, 'BATCH_SIZE', 32)
  monkeypatch.setattr(sample, 'BATCH_SIZE', 16)


def _generator(torch, z, widths, channels, base=4, **options):
  """pytorch/examples' layers, of any widths."""
  nn, bias = torch.nn, options.get('bias', False)
  layers = [nn.ConvTranspose2d(z, widths[0], base, 1, 0, bias=bias)]
  for width, following in zip(widths, (*widths[1:], channels)):
    layers += [nn.BatchNorm2d(width, track_running_stats=options.get('tracks', True)), nn.ReLU()]
    layers.append(nn.ConvTranspose2d(width, following, 4, 2, 1, bias=bias))
  return _filled(torch, nn.Sequential(*layers, nn.Tanh()))


def _discriminator(torch, widths, channels, base=4, **options):
  nn, bias = torch.nn, options.get('bias', False)
  layers = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=bias), nn.LeakyReLU(0.2)]
  for before, width in itertools.pairwise(widths):
    norm = nn.BatchNorm2d(width, track_running_stats=options.get('tracks', True))
    layers += [nn.Conv2d(before, width, 4, 2, 1, bias=bias), norm, nn.LeakyReLU(0.2)]
  return _filled(torch, nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, base, 1, 0, bias=bias)))


def _filled(torch, network):
  """Weights and running statistics that leave nothing at 0 or 1, and signals of about the same size."""
  torch.manual_seed(0)
  for name, tensor in network.state_dict().items():
    if tensor.ndim == 4:
      tensor.normal_(0, (tensor.shape[0] * 4) ** -0.5)
    elif name.endswith('running_var') or f'{name[:-6]}running_var' in network.state_dict():
      tensor.uniform_(0.5, 1.5)
    elif tensor.ndim == 1:
      tensor.normal_(0, 0.3)
  return network.eval()


def _save(torch, network, path, prefix='main.', **options):
  torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, path, **options)
  return path


def _in_torch(torch, network, x):
  with torch.no_grad():
    return network(torch.tensor(np.asarray(x))).numpy()


def _z(num, size, seed=0):
  return latents.sample(jax.random.key(seed), jnp.arange(num), size)


def _open(folder):
  """The networks of a run as functions: z -> images, images -> logits, by the stored statistics."""
  config, step, state = trained.open_run(folder, 'last')
  assert step == 0
  g, d = build.networks(config)
  make = jax.jit(lambda z: g.apply(state.generator.variables, z))
  judge = jax.jit(lambda x: d.apply(state.discriminator.variables, x)[0])
  return config, make, judge


@pytest.mark.parametrize(
  ('widths', 'channels', 'bias', 'tracks', 'prefix', 'zipped'),
  [
    ((16, 8, 4), 3, False, True, 'net.', True),
    ((32, 16, 8, 4), 1, True, False, 'module.main.', False),
  ],
  ids=['32x32', '64x64'],
)
def test_a_pytorch_dcgan(torch, tmp_path, widths, channels, bias, tracks, prefix, zipped):
  """In: two files in either order. Out: a run whose images and logits are PyTorch's.

  Where theirs has no running statistics, those of all samples as one batch are the stored ones.
  """
  g = _generator(torch, 10, widths, channels, bias=bias, tracks=tracks)
  d = _discriminator(torch, widths[::-1], channels, bias=bias, tracks=tracks)
  files = [
    _save(torch, net, tmp_path / name, prefix, _use_new_zipfile_serialization=zipped)
    for name, net in (('d.pth', d), ('g.pth', g))
  ]
  config = cifar10.get_config()
  config.sample.num = 9
  config.train.batch_size = 32
  config.generator.leak = 0.3  # of another model: not of this one
  import_weights.run(config, tmp_path / 'run', 'pytorch', ','.join(map(str, files)))
  found, make, judge = _open(tmp_path / 'run')
  size = 4 * 2 ** len(widths)
  assert found.data.image_size == (size, size) and found.data.channels == channels
  assert found.latent.size == 10 and found.train.batch_size == 32 and found.generator.leak == 0
  assert found.generator.widths == widths and found.discriminator.widths == widths[::-1]
  assert found.generator.use_bias == found.discriminator.use_bias == bias
  z = _z(64, 10)
  want = _in_torch(torch, g, z[:, :, None, None])
  assert want.std() > 0.2 and np.abs(want).mean() < 0.9
  np.testing.assert_allclose(make(z), want.transpose(0, 2, 3, 1), atol=1e-5)
  logits = _in_torch(torch, d, want)[:, 0, 0, 0]
  assert logits.std() > 0.02
  np.testing.assert_allclose(judge(want.transpose(0, 2, 3, 1)), logits, atol=1e-5)
  with Image.open(tmp_path / 'run' / 'samples' / 'step_00000000.png') as picture:
    assert picture.size == (3 * size + 8, 3 * size + 8)
  with pytest.raises(InputError, match='holds a run already'):
    import_weights.run(config, tmp_path / 'run', 'pytorch', str(files[1]))


def test_a_generator_alone_whose_layers_have_names(torch):
  """Of 28x28, of which the last layer alone has a bias, and one no batch norm."""
  nn = torch.nn
  modules = {
    'deconv1': nn.ConvTranspose2d(6, 8, 7, bias=False),
    'relu1': nn.ReLU(),
    'deconv2': nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
    'deconv2_bn': nn.BatchNorm2d(4),
    'relu2': nn.ReLU(),
    'deconv3': nn.ConvTranspose2d(4, 1, 4, 2, 1),
    'tanh': nn.Tanh(),
  }
  theirs = _filled(torch, nn.Sequential(collections.OrderedDict(modules)))
  network = foreign.from_pytorch({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
  assert network.settings['norm'] == (False, True) and network.settings['use_bias']
  assert network.image_size == (28, 28) and network.z_size == 6
  module = Generator(**network.settings, image_size=network.image_size, channels=network.channels)
  z = _z(5, 6)
  got = jax.jit(module.apply)({'params': network.params, 'batch_stats': network.batch_stats}, z)
  want = _in_torch(torch, theirs, z[:, :, None, None])
  np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), atol=1e-5)


# The authors' networks as their definition says, in NumPy: true convolutions, tap by tap, of NCHW.


def _norm(x, scale, shift):
  """By the batch's statistics: per unit of [B, units], per channel of [B, C, H, W]."""
  axes = (0,) if x.ndim == 2 else (0, 2, 3)
  broadcast = (slice(None),) if x.ndim == 2 else (slice(None), None, None)
  normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-8)
  return normal * scale[broadcast] + shift[broadcast]


def _taps(size):
  """Row and column of a kernel, and those of the padded image that meet it at the outputs: it is turned."""
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
  """Their format, narrow, with two convolutions: images of 16x16."""
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
  """By the statistics of a batch, as they use it, and by the stored ones: of all samples as one batch."""
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


def test_the_authors_format(tmp_path):
  source = _narrow_authors(tmp_path)
  import_weights.run(svhn.get_config(), tmp_path / 'run', 'newmu', str(source))
  config, _, state = trained.open_run(tmp_path / 'run', 'last')
  assert config.data.image_size == (16, 16) and config.generator.dense_norm == 'unit'
  g, d = build.networks(config)
  _assert_same_as_theirs(source, g, state.generator.variables, d, state.discriminator.variables)


@pytest.mark.skipif(not AUTHORS.is_dir(), reason="the authors' SVHN weights are not there")
def test_the_authors_released_model():
  arrays = foreign.read_newmu(AUTHORS)
  networks = (
    foreign.from_newmu(arrays['gen'], 'generator'),
    foreign.from_newmu(arrays['discrim'], 'discriminator'),
  )
  for module, network in zip(build.networks(svhn.get_config()), networks):
    assert network.settings == {key: getattr(module, key) for key in network.settings}
    assert network.image_size == (32, 32) and not network.batch_stats
  (g, d), (theirs_g, theirs_d) = build.networks(svhn.get_config()), networks
  z = _z(64, 100).reshape(2, 32, 100)
  stats = norm_statistics.estimate(g, theirs_g.params, {}, lambda: z)
  g_variables = {'params': theirs_g.params, 'batch_stats': stats}
  make = jax.jit(g.apply)
  images = [make(g_variables, x) for x in z]
  stats = norm_statistics.estimate(d, theirs_d.params, {}, lambda: images)
  _assert_same_as_theirs(AUTHORS, g, g_variables, d, {'params': theirs_d.params, 'batch_stats': stats})


def test_the_command_and_what_comes_after(files, tmp_path):
  """Without a config; a picture, then the same images from Python."""
  command = [sys.executable, 'main.py', '--mode=import', '--format=pytorch', f'--workdir={tmp_path / "run"}']
  done = subprocess.run(
    [*command, f'--source={files / "d"},{files / "g"}'],
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'images 16x16x3, latents of 10 numbers' in done.stdout
  assert 'batch-norm statistics as stored there' in done.stdout and done.stdout.count('\n') == 4
  assert checkpoints.steps(tmp_path / 'run' / 'checkpoints') == [0]
  made = dcgan_jax.load(tmp_path / 'run').sample(1)[0]
  with Image.open(tmp_path / 'run' / 'samples' / 'step_00000000.png') as picture:
    np.testing.assert_array_equal(np.asarray(picture)[2:18, 2:18], made)


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ([], '--format is missing'),
    (['--format=newmu', '--workdir=x'], '--source is missing'),
  ],
)
def test_flags_are_asked_for(tmp_path, flags, text):
  done = subprocess.run(
    [sys.executable, 'main.py', '--mode=import', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2 and text in done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1


class _Evil:
  def __reduce__(self):
    return os.system, ('touch pwned',)


@pytest.fixture(scope='module')
def files(torch, tmp_path_factory):
  """Good and bad ones, by name."""
  folder = tmp_path_factory.mktemp('files')
  g, d = _generator(torch, 10, (8, 4), 3), _discriminator(torch, (4, 8), 3)
  good = {'g': g.state_dict(), 'd': d.state_dict()}
  larger = _discriminator(torch, (4, 8, 8), 3).state_dict()
  contents = good | {
    'larger': larger,
    'evil': good['g'] | {'evil': _Evil()},
    'linear': torch.nn.Linear(3, 4).state_dict(),
    'other': torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 10, 3)).state_dict(),
    'kernel': good['g'] | {'3.weight': torch.zeros(7, 4, 4, 4)},
    'sizes': good['g'] | {'3.weight': torch.zeros(8, 4, 5, 5)},
    'mean': good['d'] | {'3.running_mean': torch.zeros(9)},
    'norms': {name: good['g'][name] for name in ('1.weight', '1.bias')},
    'rgba': _discriminator(torch, (4, 8), 4).state_dict(),
  }
  for name, content in contents.items():
    torch.save(content, folder / name)
  (folder / 'cut').write_bytes((folder / 'g').read_bytes()[:3000])
  return folder


@pytest.mark.parametrize(
  ('source', 'text'),
  [
    ('nothing', 'nothing: No such file'),
    ('cut', 'cut: cannot be read as PyTorch tensors: it is a zip file that is cut short'),
    ('evil', 'system, which is no tensor; nothing of it was run'),
    ('linear', 'weight, of shape (4, 3), is not of a DCGAN'),
    ('norms', '1.weight, of shape (8,), is not of a DCGAN'),
    (
      'other',
      'is neither a generator nor a discriminator: its last kernel, 1.weight, has shape (10, 8, 3, 3)',
    ),
    ('kernel', '3.weight has shape (7, 4, 4, 4); (8, 4, 4, 4) is expected'),
    ('sizes', '3.weight has shape (8, 4, 5, 5); (8, 4, 4, 4) is expected'),
    ('g,mean', '3.running_mean has shape (9,); (8,) is expected'),
    ('g,rgba', '0.weight has shape (4, 4, 4, 4); images have 1 or 3 channels'),
    ('g,g', 'both are a generator'),
    ('d', 'is a discriminator; give its generator too'),
    (
      'g,larger',
      'the generator makes images of 16x16x3 pixels and channels, the discriminator takes 32x32x3',
    ),
    ('', 'is a folder; format=pytorch takes files'),
  ],
)
def test_bad_files_are_one_line(files, tmp_path, monkeypatch, source, text):
  monkeypatch.chdir(tmp_path)
  paths = ','.join(str(files / name) for name in source.split(','))
  with pytest.raises(InputError) as error:
    import_weights.run(cifar10.get_config(), tmp_path / 'run', 'pytorch', paths)
  assert text in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists() and not (tmp_path / 'pwned').exists()


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
    (lambda f: _save_in(f, 'gen_07', np.zeros((6, 2, 5, 5))), 'images have 1 or 3 channels'),
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
    (lambda f: _save_in(f, 'gen_04', np.zeros(3, int)), 'gen_04.npy is no array of floating-point numbers'),
  ],
)
def test_bad_arrays_are_one_line(tmp_path, monkeypatch, spoil, text):
  monkeypatch.chdir(tmp_path)
  source = _narrow_authors(tmp_path)
  spoil(source)
  with pytest.raises(InputError) as error:
    import_weights.run(svhn.get_config(), tmp_path / 'run', 'newmu', str(source))
  assert text in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists() and not (tmp_path / 'pwned').exists()


def test_a_file_is_no_folder(tmp_path):
  with pytest.raises(InputError, match='is no folder; format=newmu takes one'):
    import_weights.run(svhn.get_config(), tmp_path / 'run', 'newmu', 'README.md')


def test_a_config_that_does_not_go_with_it(files, tmp_path):
  config = cifar10.get_config()
  config.data.source = 'digits'
  with pytest.raises(InputError, match=r'does not go with the config: data\.channels=3'):
    import_weights.run(config, tmp_path / 'run', 'pytorch', str(files / 'g'))
