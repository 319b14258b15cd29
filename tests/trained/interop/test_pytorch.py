"""PyTorch's DCGANs, imported: their images and logits are those of PyTorch."""

import collections
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow
from PIL import Image

from benchmarks import exports
from configs import cifar10
from dcgan_jax import settings
from dcgan_jax.core import latents
from dcgan_jax.core.models import Generator
from dcgan_jax.errors import InputError
from dcgan_jax.files import torch_files
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.interop import importing, pytorch

pytestmark = pytest.mark.usefixtures('few_samples')


@pytest.fixture(scope='module')
def torch():
  return pytest.importorskip('torch')


def _generator(torch, z, widths, channels, base=4, **options):
  """Returns the generator of PyTorch's DCGAN example, of any widths."""
  nn, bias = torch.nn, options.get('bias', False)
  layers = [nn.ConvTranspose2d(z, widths[0], base, 1, 0, bias=bias)]
  for width, following in zip(widths, (*widths[1:], channels)):
    layers += [nn.BatchNorm2d(width, track_running_stats=options.get('tracks', True)), nn.ReLU()]
    layers.append(nn.ConvTranspose2d(width, following, 4, 2, 1, bias=bias))
  return _filled(torch, nn.Sequential(*layers, nn.Tanh()))


def _discriminator(torch, widths, channels, base=4, **options):
  """Returns the discriminator of PyTorch's DCGAN example, of any widths."""
  nn, bias = torch.nn, options.get('bias', False)
  layers = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=bias), nn.LeakyReLU(0.2)]
  for before, width in itertools.pairwise(widths):
    norm = nn.BatchNorm2d(width, track_running_stats=options.get('tracks', True))
    layers += [nn.Conv2d(before, width, 4, 2, 1, bias=bias), norm, nn.LeakyReLU(0.2)]
  return _filled(torch, nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, base, 1, 0, bias=bias)))


def _filled(torch, network):
  """Fills in weights and statistics that leave nothing at 0 or 1, and signals of about the same size."""
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
  """Returns the settings and the networks of a run as functions: z -> images, and images -> logits."""
  parts, step, state, _ = experiment.open_run(folder, 'last')
  assert step == 0
  make = jax.jit(lambda z: parts.gan.generator.apply(state.generator.variables, z))
  judge = jax.jit(lambda x: parts.gan.discriminator.apply(state.discriminator.variables, x)[0])
  return parts.settings, make, judge


@pytest.mark.parametrize(
  ('widths', 'channels', 'bias', 'tracks', 'prefix', 'zipped'),
  [
    pytest.param((16, 8, 4), 3, False, True, 'net.', True, marks=pytest.mark.slow),
    ((8, 4), 4, False, True, '', True),
    pytest.param((32, 16, 8, 4), 1, True, False, 'module.main.', False, marks=pytest.mark.slow),
  ],
  ids=['32x32', 'transparent', '64x64'],
)
def test_a_pytorch_dcgan(torch, tmp_path, widths, channels, bias, tracks, prefix, zipped):
  """Imports two files, in either order, as a run whose images and logits are PyTorch's.

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
  config.generator.leak = 0.3  # This is the slope of another model.
  importing.run(settings.check(config), tmp_path / 'run', 'pytorch', ','.join(map(str, files)))
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
    side = 3 * size + 8
    assert picture.size == (round(512 / side) * side,) * 2
  with pytest.raises(InputError, match='holds a run already'):
    importing.run(settings.check(config), tmp_path / 'run', 'pytorch', str(files[1]))


def test_a_generator_alone_whose_layers_have_names(torch):
  """Takes one of 28x28, of which the last layer alone has a bias, and one layer no batch norm."""
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
  network = pytorch.from_pytorch({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
  assert network.settings['norm'] == (False, True) and network.settings['use_bias']
  assert network.image_size == (28, 28) and network.z_size == 6
  module = Generator(**network.settings, image_size=network.image_size, channels=network.channels)
  z = _z(5, 6)
  got = jax.jit(module.apply)({'params': network.params, 'batch_stats': network.batch_stats}, z)
  want = _in_torch(torch, theirs, z[:, :, None, None])
  np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), atol=1e-5)


class _Evil:
  def __reduce__(self):
    return os.system, ('touch pwned',)


@pytest.fixture(scope='module')
def files(torch, tmp_path_factory):
  """A folder of good and bad files."""
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
    'many': _discriminator(torch, (4, 8), 65).state_dict(),
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
    ('evil', 'system, which is not a tensor; none of its code was run'),
    ('linear', 'weight, of shape (4, 3), is not of a DCGAN'),
    ('norms', '1.weight, of shape (8,), is not of a DCGAN'),
    (
      'other',
      'is neither a generator nor a discriminator: its last kernel, 1.weight, has shape (10, 8, 3, 3)',
    ),
    ('kernel', '3.weight has shape (7, 4, 4, 4); (8, 4, 4, 4) is expected'),
    ('sizes', '3.weight has shape (8, 4, 5, 5); (8, 4, 4, 4) is expected'),
    ('g,mean', '3.running_mean has shape (9,); (8,) is expected'),
    ('g,rgba', 'makes images of 16x16x3 pixels and channels, the discriminator takes 16x16x4'),
    ('many', '0.weight has shape (4, 65, 4, 4); images have 1 to 64 channels'),
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
    importing.run(settings.check(cifar10.get_config()), tmp_path / 'run', 'pytorch', paths)
  assert text in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists() and not (tmp_path / 'pwned').exists()


@pytest.mark.parametrize(
  'key, value',
  [
    ('generator.norm_affine', False),
    ('discriminator.norm_affine', False),
    ('generator.dense_widths', (7,)),
    ('data.classes', 10),
  ],
)
def test_what_the_weights_tell_replaces_what_the_config_says(files, tmp_path, key, value):
  config = cifar10.get_config()
  config.update_from_flattened_dict({key: value})
  importing.run(settings.check(config), tmp_path / 'run', 'pytorch', f'{files / "g"},{files / "d"}')
  assert sampling.open_sampler(tmp_path / 'run').sample(2).shape == (2, 16, 16, 3)


def test_a_config_that_does_not_go_with_it(files, tmp_path):
  config = cifar10.get_config()
  config.data.source, config.data.channels = 'digits', 1
  with pytest.raises(InputError, match=r'does not go with the config: data\.channels=3'):
    importing.run(settings.check(config), tmp_path / 'run', 'pytorch', str(files / 'g'))


EXPORTED = {
  'the example': {},
  'biases': {'generator.use_bias': True, 'discriminator.use_bias': True},
  'oblong': {'data.image_size': (32, 48), 'discriminator.padding': 'symmetric'},
  'fewer norms': {'generator.norm': (False, True, False), 'discriminator.norm': (True, False, False)},
}


@pytest.mark.parametrize('overrides', EXPORTED.values(), ids=EXPORTED)
def test_an_export_comes_back_bit_for_bit(tmp_path, overrides):
  """Writes files and imports them, which gives the same parameters and statistics."""
  chosen = narrow('cifar10_32', overrides)
  gan, variables = exports.random_networks(chosen)
  for module, kind in ((gan.generator, 'generator'), (gan.discriminator, 'discriminator')):
    tensors = pytorch.to_pytorch(module, variables[kind], chosen.data.size, 7)
    (tmp_path / kind).write_bytes(torch_files.to_bytes(tensors, kind))
    network = pytorch.from_pytorch(torch_files.read(tmp_path / kind))
    assert (network.kind, network.image_size) == (kind, chosen.data.size)
    found = {'params': network.params, 'batch_stats': network.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, found, variables[kind])
    assert all(value == getattr(module, key) for key, value in network.settings.items() if key != 'padding')


def test_the_examples_own_networks_load_an_export(torch):
  """Loads state dicts into networks with the example's modules, which then make our images and logits."""
  chosen = narrow('cifar10')
  gan, variables = exports.random_networks(chosen)
  z, networks = _z(4, 10), (gan.generator, gan.discriminator)
  widths = gan.generator.widths, gan.discriminator.widths
  theirs = _generator(torch, 10, widths[0], 3), _discriminator(torch, widths[1], 3)
  for net, module, kind in zip(theirs, networks, ('generator', 'discriminator')):
    tensors = pytorch.to_pytorch(module, variables[kind], (64, 64), 7)
    whole = torch.nn.ModuleDict({'main': net})
    assert set(tensors) == set(whole.state_dict())
    whole.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
  images = jax.jit(gan.generator.apply)(variables['generator'], z)
  want = _in_torch(torch, theirs[0], z[:, :, None, None])
  np.testing.assert_allclose(images, want.transpose(0, 2, 3, 1), atol=1e-5)
  logits = jax.jit(gan.discriminator.apply)(variables['discriminator'], images)[0]
  assert images.std() > 0.1 and logits.std() > 0.1
  np.testing.assert_allclose(logits, _in_torch(torch, theirs[1], want)[:, 0, 0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
  ('name', 'overrides', 'text'),
  [
    ('svhn', {}, 'generator.kernel_size=5: '),
    ('cifar10_32', {'generator.upsample': 'bilinear'}, 'generator.upsample=bilinear: '),
    ('cifar10_32', {'generator.dense_norm': 'unit'}, 'generator.dense_norm=unit: '),
    ('cifar10_32', {'generator.dense_widths': (5,)}, 'generator.dense_widths=(5,): '),
    ('cifar10_32', {'generator.strides': (2, 2, 1)}, 'generator.strides=(2, 2, 1): '),
    ('cifar10_32', {'data.classes': 3}, 'data.classes=3: '),
    ('cifar10_32', {'discriminator.packing': 2}, 'discriminator.packing=2: '),
    ('cifar10_32', {'discriminator.spectral_norm': True}, 'discriminator.spectral_norm=True: '),
  ],
)
def test_what_the_examples_classes_cannot_be(name, overrides, text):
  chosen = narrow(name, overrides)
  gan, variables = exports.random_networks(chosen)
  kind = 'discriminator' if text.startswith('discriminator') else 'generator'
  with pytest.raises(InputError) as error:
    pytorch.to_pytorch(getattr(gan, kind), variables[kind], chosen.data.size, 0)
  assert str(error.value).startswith(text) and 'choose --format=onnx' in str(error.value)


def test_a_batch_norm_without_scale_and_bias_is_exported_with_those_that_change_nothing(torch):
  gan, variables = exports.random_networks(narrow('cifar10_32', {'generator.norm_affine': False}))
  tensors = pytorch.to_pytorch(gan.generator, variables['generator'], (32, 32), 7)
  theirs = torch.nn.ModuleDict({'main': _generator(torch, 10, gan.generator.widths, 3)})
  theirs.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
  z = _z(4, 10)
  images = jax.jit(gan.generator.apply)(variables['generator'], z)
  want = _in_torch(torch, theirs['main'], z[:, :, None, None])
  assert images.std() > 0.1
  np.testing.assert_allclose(images, want.transpose(0, 2, 3, 1), atol=1e-5)


def test_what_is_not_in_a_file_is_told():
  assert pytorch.beyond_the_file(experiment.build(narrow('cifar10')).gan.generator) == []
  overrides = {'discriminator.leak': 0.0, 'discriminator.norm_epsilon': 1e-3, 'generator.leak': 0.3}
  gan = experiment.build(narrow('fashion_mnist', overrides)).gan
  assert pytorch.beyond_the_file(gan.generator) == ['nn.LeakyReLU(0.3)', 'bias=True']
  assert pytorch.beyond_the_file(gan.discriminator) == [
    'nn.ReLU()',
    'nn.BatchNorm2d(..., eps=0.001)',
    'bias=True',
  ]
