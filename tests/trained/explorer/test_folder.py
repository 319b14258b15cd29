"""The exported folder: what is in it, and what is refused."""

import base64
import configparser
import dataclasses
import gzip
import hashlib
import json
import os
import re
import sys

import numpy as np
import pytest
from conftest import ROOT

from dcgan_jax.core import norm_statistics
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.explorer import folder, precision
from dcgan_jax.trained.interop import exporting

pytest.importorskip('onnx')


@pytest.fixture
def export(call_main, untrained):
  """A function that exports to a folder; it returns explorer.json and what was printed."""

  def call(out, *flags):
    status, printed, error = call_main(
      '--mode=export', '--format=web', f'--workdir={untrained}', f'--out={out}', *flags
    )
    assert (status, error) == (0, '')
    return json.loads((out / 'explorer.json').read_text()), printed

  return call


def test_the_folder_says_what_the_generator_is(export, untrained, tmp_path):
  about, printed = export(tmp_path / 'new' / 'page')
  assert (about['title'], about['workdir'], about['step']) == (untrained.name,) * 2 + (0,)
  assert about['checkpoint'] == 0
  assert about['image'] == {'height': 8, 'width': 8, 'channels': 1}
  assert about['latent'] == {'size': 10, 'prior': 'normal', 'classes': []} and about['webgpu'] is True
  assert about['made']['Data'] == 'digits' and about['made']['Batch norm'] == 'stored statistics'
  assert about['model']['weights'] == 'float16' and np.shape(about['directions']) == (8, 10)
  first = np.frombuffer(base64.b64decode(about['first']), np.uint8).reshape(8, 8, 1)
  np.testing.assert_array_equal(first, sampling.open_sampler(untrained).sample(1)[0])
  assert 'generator of step 0, ' in printed and 'weights are float16' in printed
  assert str(untrained.parent) not in (tmp_path / 'new/page/explorer.json').read_text()


@pytest.mark.parametrize(('planned', 'said'), [(2400, '1,200 of 2,400'), (0, '1,200')])
def test_a_run_whose_length_is_in_epochs_has_no_total_of_steps(untrained, planned, said):
  """Describes step 1,200 of a run; without train.num_steps, which is then 0, the page said 1,200 of 0."""
  trained = experiment.open_run(untrained, 'last')
  network = exporting.network_of(trained, 'generator')._replace(step=1200)
  chosen = trained.experiment.settings
  chosen = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, num_steps=planned))
  assert dict(folder._facts(network, network.module, chosen, half=False))['Step'] == said


@pytest.mark.parametrize(
  ('source', 'said'),
  [
    ('tfds:mnist', 'tfds:mnist'),
    ('folder:/home/me/cats/', 'the images in cats/'),
    ('npy:/home/me/cats.npy', 'cats.npy'),
    ('stacked:folder:/home/me/cats', 'triples of the images in cats/'),
    ('stacked:digits', 'triples of digits'),
  ],
)
def test_no_path_is_published(source, said):
  assert folder._data(source) == said


def test_it_has_all_files_that_they_name_and_nothing_names_another_server(export, tmp_path):
  about, printed = export(tmp_path)
  files = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob('*') if path.is_file()}
  assert about['model']['file'] in files
  named = set(re.findall(r'(?:src|href)="([^"#]+)"', files['index.html'].read_text()))
  for name, path in files.items():
    if name.endswith('.js') and '/' not in name:
      text = path.read_text()
      named |= {
        one.removeprefix('./')
        for one in re.findall(r"from '(.+?)'|import\('(.+?)'\)", text)
        for one in one
        if one
      }
      assert not re.search(r'https?://(?!localhost)', text), name
  assert {'app.js', 'style.css', 'plane.js', 'vendor/gifenc.esm.js'} <= named <= files.keys()
  size = sum(path.stat().st_size for path in files.values())
  assert f'{size / 1e6:.1f} MB' in printed and size < 11e6


def test_the_runtimes_are_those_of_the_notice():
  vendor = folder.STATIC / 'vendor'
  notice = (vendor / 'NOTICE.txt').read_text()
  packed = sorted(vendor.glob('*.wasm.gz'))
  assert len(packed) == 2 and {'LICENSE-onnxruntime.txt', 'LICENSE-gifenc.txt'} <= set(os.listdir(vendor))
  for path in packed:
    found = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    assert f'{found}  {path.stem}\n' in notice
  for path in vendor.iterdir():
    assert path.name.removesuffix('.gz') in notice or path.name == 'NOTICE.txt'


def _packaged():
  """Returns the files of the explorer that an installed package has."""
  metadata = configparser.ConfigParser()
  metadata.read(ROOT / 'setup.cfg')
  sections = ('options.package_data', 'options.exclude_package_data')
  taken, left = (metadata[section]['dcgan_jax.trained.explorer'].split(', ') for section in sections)
  found, excluded = (
    {path for one in globs for path in folder.STATIC.parent.glob(one)} for globs in (taken, left)
  )
  return {path.relative_to(folder.STATIC).as_posix() for path in found - excluded if path.is_file()}


def test_an_installed_package_has_all_but_the_runtime_for_webgpu(export, tmp_path, monkeypatch):
  everything = {path.relative_to(folder.STATIC).as_posix(): path for path in folder.STATIC.rglob('*.*')}
  assert everything.keys() - _packaged() == {
    f'vendor/{name}'
    for name in (
      'ort.webgpu.min.mjs',
      'ort-wasm-simd-threaded.asyncify.mjs',
      'ort-wasm-simd-threaded.asyncify.wasm.gz',
    )
  }
  for name in _packaged():
    (tmp_path / 'static' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'static' / name).symlink_to(everything[name])
  monkeypatch.setattr(folder, 'STATIC', tmp_path / 'static')
  about, printed = export(tmp_path / 'page')
  assert about['webgpu'] is False and 'it draws without WebGPU' in printed
  assert sum(path.stat().st_size for path in (tmp_path / 'page').rglob('*')) < 5e6


@pytest.mark.slow
def test_a_new_export_replaces_the_old_one_alone(export, tmp_path):
  old, _ = export(tmp_path)
  (tmp_path / 'CNAME').write_text('somewhere')
  (tmp_path / 'style.css').write_text('old')
  new, _ = export(tmp_path, '--statistics=population')
  assert new['made']['Batch norm'] == 'population statistics' and new['model'] != old['model']
  assert [path.name for path in tmp_path.glob('*.onnx')] == [new['model']['file']]
  assert (tmp_path / 'CNAME').read_text() == 'somewhere' and (tmp_path / 'style.css').stat().st_size > 1000
  assert not list(tmp_path.rglob('*.part'))


def test_weights_are_float32_where_float16_would_show(export, tmp_path, monkeypatch):
  small, _ = export(tmp_path / 'a')
  monkeypatch.setattr(precision, 'MOST', 0.0)
  about, printed = export(tmp_path / 'b')
  assert about['model']['weights'] == 'float32' and about['made']['Weights'].endswith('float32')
  assert 'its weights are float32, for float16 is not within 0.0 of 255' in printed
  sizes = [(tmp_path / x / one['model']['file']).stat().st_size for x, one in (('a', small), ('b', about))]
  assert sizes[1] > 1.2 * sizes[0]


def test_a_half_written_folder_can_be_written_again(export, tmp_path):
  (tmp_path / 'app.js').write_text('half')
  (tmp_path / 'generator-01234567.onnx').write_text('half')
  about, _ = export(tmp_path)
  assert [path.name for path in tmp_path.glob('*.onnx')] == [about['model']['file']]


@pytest.fixture
def refuse(refused, untrained):
  """A function that exports to a folder, which must be refused; it returns the line that says why."""
  return lambda *flags: refused('--mode=export', '--format=web', f'--workdir={untrained}', *flags)


def test_what_is_refused(refuse, tmp_path, monkeypatch):
  file = tmp_path / 'file'
  file.write_text('mine')
  assert f'out={file}: is a file; choose a folder' in refuse(f'--out={file}')
  assert f'out={tmp_path}: has other things in it (file); choose a new folder' in refuse(f'--out={tmp_path}')
  assert 'out=/proc/1/x: cannot be written' in refuse('--out=/proc/1/x')
  assert 'network=discriminator: draws nothing' in refuse('--network=discriminator')
  monkeypatch.setitem(sys.modules, 'onnx', None)
  assert "format=web: needs the package onnx; pip install -e '.[export]'" in refuse(
    f'--out={tmp_path / "new"}'
  )
  assert os.listdir(tmp_path) == ['file'] and file.read_text() == 'mine'


def test_a_full_disk_leaves_the_page_that_is_there(export, refuse, tmp_path, monkeypatch):
  before, _ = export(tmp_path)

  def fail(path, content):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(folder.workdir, 'write_json', fail)
  monkeypatch.setattr(norm_statistics, 'SAMPLES', 200)
  line = refuse(f'--out={tmp_path}', '--statistics=population')
  assert f'out={tmp_path}: cannot be written: No space left on device; choose another --out' in line
  assert json.loads((tmp_path / 'explorer.json').read_text()) == before
  assert (tmp_path / before['model']['file']).exists()
