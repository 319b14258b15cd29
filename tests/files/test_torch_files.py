import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from benchmarks import fuzz_inputs
from dcgan_jax.errors import InputError
from dcgan_jax.files import torch_files

torch = pytest.importorskip('torch')


def _tensors():
  generator = torch.Generator().manual_seed(0)
  base = torch.randn(6, 5, generator=generator)
  return {
    'weight': base,
    'transposed': base.t(),  # These are views of one storage.
    'part': base[2:4, 1:],
    'scalar': torch.tensor(3.5),
    'empty': torch.zeros(0, 3),
    'count': torch.tensor([2**40, -1]),
    'half': base.half(),
    'flags': torch.tensor([True, False]),
    'parameter': torch.nn.Parameter(base[0].clone()),
  }


@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_are_read_as_torch_reads_them(tmp_path, zipped):
  path, tensors = tmp_path / 'x.pth', _tensors()
  torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
  found = torch_files.read(path)
  assert found.keys() == tensors.keys()
  for name, tensor in tensors.items():
    want = tensor.detach().numpy()
    assert found[name].dtype == want.dtype
    np.testing.assert_array_equal(found[name], want)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_modules_state_and_what_is_nested(tmp_path, zipped):
  path = tmp_path / 'x.pth'
  module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
  content = {'epoch': 3, 'model': module.state_dict(), 'names': ['a']}
  torch.save(content, path, _use_new_zipfile_serialization=zipped)
  found = torch_files.read(path)
  assert set(found) == {f'model.{name}' for name in module.state_dict()}
  np.testing.assert_array_equal(found['model.0.weight'], module[0].weight.detach().numpy())


class _Evil:
  def __reduce__(self):
    return os.system, ('touch pwned',)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, zipped):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'x.pth'
  torch.save({'weight': torch.zeros(3), 'evil': _Evil()}, path, _use_new_zipfile_serialization=zipped)
  with pytest.raises(InputError, match=r'system, which is not a tensor; none of its code was run') as error:
    torch_files.read(path)
  assert not (tmp_path / 'pwned').exists() and '\n' not in str(error.value)


@pytest.mark.parametrize('zipped', [True, False])
def test_broken_files_are_one_line(tmp_path, zipped):
  path, cut = tmp_path / 'x.pth', tmp_path / 'cut.pth'
  torch.save(_tensors(), path, _use_new_zipfile_serialization=zipped)
  whole = path.read_bytes()
  for share in (0.0, 0.1, 0.5, 0.9):
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r'cut\.pth: ') as error:
      torch_files.read(cut)
    assert '\n' not in str(error.value)


def test_other_files_are_one_line(tmp_path):
  path = tmp_path / 'x.pth'
  with pytest.raises(InputError, match='No such file'):
    torch_files.read(path)
  for content in (b'hello', pickle.dumps({'a': 1}), pickle.dumps(_Evil())):
    path.write_bytes(content)
    with pytest.raises(InputError, match='cannot be read'):
      torch_files.read(path)
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    archive.writestr('readme', 'x')
  path.write_bytes(buffer.getvalue())
  with pytest.raises(InputError, match='cannot be read'):
    torch_files.read(path)
  torch.save({'epoch': 3}, path)
  with pytest.raises(InputError, match='no tensors'):
    torch_files.read(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
  path = tmp_path / 'x.pth'
  torch.save({'weight': torch.zeros(1000)}, path)
  with zipfile.ZipFile(path) as archive:
    files = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content[:100] if '/data/' in name else content)
  with pytest.raises(InputError, match='weight is cut short'):
    torch_files.read(path)


def _crafted(path, **changes):
  """Writes a file of one tensor, 'w', that is a view of six numbers."""
  entry = {'name': 'w', 'key': '0', 'offset': 0, 'shape': (2, 3), 'strides': (3, 1), 'kind': 'FloatStorage'}
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x/data.pkl', fuzz_inputs.torch_pickle([tuple((entry | changes).values())]))
    archive.writestr('x/data/0', np.arange(6, dtype=np.float32).tobytes())
  return path


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'strides': (-3, 1), 'offset': 3}, 'which is impossible'),
    ({'strides': (3, -1), 'offset': 2}, 'which is impossible'),
    ({'offset': -1}, 'which is impossible'),
    ({'shape': (-2, 3)}, 'which is impossible'),
    ({'strides': (3,)}, 'which is impossible'),
    ({'offset': 1}, 'w is cut short'),
    ({'strides': (2**62, 1)}, 'w is cut short'),
    ({'shape': (2**40, 2**40), 'strides': (0, 0)}, 'w repeats its numbers'),
    ({'shape': (2, 3, 2), 'strides': (3, 1, 0)}, 'w repeats its numbers'),
    ({'key': '1'}, 'it is damaged'),
    ({'kind': 'BFloat16Storage'}, r'has tensors of BFloat16Storage; save it with \.float'),
    ({'kind': 'Evil'}, r'names torch\.Evil, which is not a tensor'),
  ],
)
def test_views_outside_their_storage_are_refused(tmp_path, changes, text):
  """Refuses what would read other memory than that of the file, or make more of it than there is."""
  found = torch_files.read(_crafted(tmp_path / 'good.pth'))
  np.testing.assert_array_equal(found['w'], [[0, 1, 2], [3, 4, 5]])
  with pytest.raises(InputError, match=text):
    torch_files.read(_crafted(tmp_path / 'x.pth', **changes))


def test_dictionaries_inside_each_other_end(tmp_path):
  """Refuses a dictionary in itself, and one that is there 2^60 times."""
  itself = {}
  itself['a'] = itself
  many = {}
  for _ in range(60):
    many = {'a': many, 'b': many}
  for content in (itself, many):
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
      archive.writestr('x/data.pkl', pickle.dumps(content, 2))
    with pytest.raises(InputError, match='entries, or 50 dictionaries'):
      torch_files.read(tmp_path / 'x.pth')


def test_compressed_files_and_pipes_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x/data.pkl', bytes(10**6))
  os.mkfifo(tmp_path / 'pipe')
  for name, text in (('x.pth', 'compressed'), ('pipe', 'not a regular file'), ('.', 'is a folder')):
    with pytest.raises(InputError, match=text):
      torch_files.read(tmp_path / name)


def test_what_is_written_torch_reads_as_it_reads_its_own(tmp_path):
  """Reads with PyTorch, without trust in the file and from the mapped file, and with our own reader."""
  rng = np.random.default_rng(0)
  tensors = {
    'main.0.weight': rng.normal(size=(3, 2, 4, 4)).astype(np.float32),
    'transposed': rng.normal(size=(3, 5)).astype(np.float32).T,
    'count': np.asarray(2**40),
    'ä' * 300: np.zeros((0, 3), np.float32),
  }
  path = tmp_path / 'netG.pth'
  path.write_bytes(torch_files.to_bytes(tensors, 'netG'))
  for found in (torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
    assert list(found) == list(tensors)
    for name, tensor in found.items():
      assert tensor.is_contiguous() and tensor.numpy().dtype == tensors[name].dtype
      np.testing.assert_array_equal(tensor.numpy(), tensors[name])
  read = torch_files.read(path)
  assert list(read) == list(tensors)
  for name, array in read.items():
    assert array.dtype == tensors[name].dtype
    np.testing.assert_array_equal(array, tensors[name])
  assert torch_files.to_bytes(tensors, 'netG') == path.read_bytes()
