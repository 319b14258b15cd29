"""Exports from the command line, and their errors."""

import sys

import jax
import numpy as np
import pytest
from conftest import state_of, untrained_run

from dcgan_jax.files import torch_files

FORMATS = {'onnx': 'onnx', 'stablehlo': None, 'safetensors': 'safetensors', 'pytorch': None}  # what they need
SUFFIXES = {'onnx': '.onnx', 'stablehlo': '.stablehlo', 'safetensors': '.safetensors', 'pytorch': '.pth'}


@pytest.mark.parametrize('network', ['generator', 'discriminator'])
@pytest.mark.parametrize('name', FORMATS)
def test_each_format_writes_a_file_and_says_what_it_takes(call_main, untrained, tmp_path, name, network):
  if FORMATS[name]:
    pytest.importorskip(FORMATS[name])
  out = tmp_path / 'new' / f'x{SUFFIXES[name]}'
  status, printed, error = call_main(
    '--mode=export', f'--workdir={untrained}', f'--format={name}', f'--out={out}', f'--network={network}'
  )
  assert (status, error) == (0, '') and out.stat().st_size > 1000
  assert list(out.parent.iterdir()) == [out]
  assert printed.startswith(f'{out}: the {network} of step 0') and printed.endswith(' MB\n')
  words = 'z [N, 10]: 10 normal numbers' if network == 'generator' else 'judges images [N, 8, 8, 1]'
  assert words in printed and printed.count('\n') == 1


def test_names_without_out(call_main, untrained, tmp_path, monkeypatch):
  from dcgan_jax.trained.interop import exporting

  monkeypatch.setattr(exporting.files, 'write_bytes', lambda target, content: written.append(str(target)))
  written = []
  for name in ('stablehlo', 'pytorch'):
    for network in ('generator', 'discriminator'):
      flags = ['--mode=export', f'--workdir={untrained}', f'--format={name}', f'--network={network}']
      assert call_main(*flags)[0] == 0
  assert written == ['generator.stablehlo', 'discriminator.stablehlo', 'netG.pth', 'netD.pth']


@pytest.mark.slow
def test_pytorchs_folder_comes_back_bit_for_bit(call_main, tmp_path):
  """Exports both networks and imports them as a run with the same parameters and statistics."""
  first, files, second = untrained_run(tmp_path / 'first'), tmp_path / 'files', tmp_path / 'second'
  printed = call_main('--mode=export', f'--workdir={first}', '--format=pytorch', f'--out={files}')[1]
  assert printed.count(' MB\n') == 2 and printed.count('\n') == 2
  assert sorted(path.name for path in files.iterdir()) == ['netD.pth', 'netG.pth']
  source = f'--source={files}/netG.pth,{files}/netD.pth'
  flags = ['--mode=import', '--config=configs/digits.py', '--format=pytorch', source, f'--workdir={second}']
  assert call_main(*flags)[0] == 0
  before, after = state_of(first, 0), state_of(second, 0)
  for kind in ('generator', 'discriminator'):
    want, got = getattr(before, kind).variables, getattr(after, kind).variables
    assert len(jax.tree.leaves(want)) > 4
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_what_pytorchs_modules_must_be_told_is_printed(call_main, tmp_path):
  folder = untrained_run(tmp_path / 'run', {'generator.leak': 0.3, 'discriminator.norm_epsilon': 1e-3})
  _, printed, _ = call_main('--mode=export', f'--workdir={folder}', '--format=pytorch', f'--out={tmp_path}/x')
  assert "netG.pth: differs from PyTorch's example by nn.LeakyReLU(0.3)\n" in printed
  assert "netD.pth: differs from PyTorch's example by nn.BatchNorm2d(..., eps=0.001)\n" in printed
  assert all(torch_files.read(tmp_path / 'x' / name) for name in ('netG.pth', 'netD.pth'))


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    (['--format=stablehlo', '--checkpoint=999'], 'no checkpoint of step 999; there are [0]'),
    (['--format=onnx', '--out={tmp}'], 'is a folder; format=onnx writes a file, generator.onnx'),
    (['--format=onnx', '--out={tmp}/x.pth'], 'x.pth: must end in .onnx, for format=onnx'),
    (['--format=safetensors', '--out={tmp}/x'], 'must end in .safetensors, for format=safetensors'),
    (['--format=pytorch', '--out={tmp}/x.onnx'], 'must end in .pth, for format=pytorch'),
    (['--format=pytorch', '--out={tmp}/file'], 'is a file; choose a folder or a name that ends in .pth'),
    (['--format=stablehlo', '--out={tmp}/file/x.stablehlo'], 'cannot be written, because '),
    (['--format=stablehlo', '--out='], 'out: is empty'),
    (
      ['--format=onnx', '--network=discriminator', '--statistics=population'],
      "statistics=population: are of latents through the generator; the discriminator's are the stored ones",
    ),
  ],
)
def test_bad_flags_are_one_line(refused, untrained, tmp_path, flags, text):
  (tmp_path / 'file').write_text('kept')
  given = [flag.format(tmp=tmp_path) for flag in flags]
  assert text in refused('--mode=export', f'--workdir={untrained}', *given)
  assert [path.name for path in tmp_path.iterdir()] == ['file'] and (tmp_path / 'file').read_text() == 'kept'


@pytest.mark.parametrize('name', ['onnx', 'safetensors'])
def test_a_missing_package_is_one_line(refused, monkeypatch, untrained, name):
  for module in (name, f'{name}.numpy'):
    monkeypatch.setitem(sys.modules, module, None)
  line = refused('--mode=export', f'--workdir={untrained}', f'--format={name}')
  assert line == f"error: format={name}: needs the package {name}; pip install -e '.[export]'\n"


@pytest.mark.slow(2)
def test_a_network_that_pytorchs_example_cannot_be_is_one_line(refused, tmp_path):
  """Writes neither file, and keeps an existing one."""
  folder = untrained_run(tmp_path / 'run', {'discriminator.packing': 2})
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'netG.pth').write_text('older')
  line = refused('--mode=export', f'--workdir={folder}', '--format=pytorch', f'--out={out}')
  assert "discriminator.packing=2: PyTorch's example has 1 only; choose --format=onnx, " in line
  assert [path.read_text() for path in out.iterdir()] == ['older']


def test_a_file_that_cannot_be_replaced_is_one_line(refused, untrained, tmp_path, monkeypatch):
  from dcgan_jax.trained.interop import exporting

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(exporting.Path, 'write_bytes', full)
  line = refused(
    '--mode=export', f'--workdir={untrained}', '--format=stablehlo', f'--out={tmp_path}/x.stablehlo'
  )
  assert 'cannot be written: No space left on device; choose another --out' in line
  assert not list(tmp_path.iterdir())
