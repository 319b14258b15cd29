"""The lines of docs/exporting.md, run on exports of a tiny run; and what a run's export has in it."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, environment, narrow, untrained_run

import dcgan_jax
from benchmarks import exports
from dcgan_jax.core import norm_statistics
from dcgan_jax.runs import experiment
from dcgan_jax.trained.interop import exporting

PAGE = (ROOT / 'docs' / 'exporting.md').read_text()
SNIPPETS = {
  part.split('\n', 1)[0]: '\n'.join(re.findall(r'```python\n(.*?)```', part, re.DOTALL))
  for part in PAGE.split('\n## ')
  if '```python' in part
}
FORMATS = {'ONNX': 'onnx', 'PyTorch': 'torch', 'StableHLO': 'stablehlo', 'safetensors': 'safetensors'}


@pytest.fixture(scope='module')
def files(untrained, tmp_path_factory):
  """A folder with a generator in each format."""
  pytest.importorskip('onnx')
  pytest.importorskip('safetensors')
  folder = tmp_path_factory.mktemp('exports')
  for name, chosen in exporting.FORMATS.items():
    out = folder / ('netG.pth' if name == 'pytorch' else f'generator{chosen.suffix}')
    exporting.run(untrained, 'last', name, str(out))
  return folder


def test_the_page_has_lines_for_each_format():
  assert [name for name in SNIPPETS if name in FORMATS] == list(FORMATS)
  for name in ('ONNX', 'PyTorch', 'StableHLO'):
    assert 'dcgan_jax' not in SNIPPETS[name]


@pytest.mark.slow
@pytest.mark.parametrize('name', FORMATS)
def test_the_lines_of_the_page_make_our_images(files, untrained, monkeypatch, name):
  if name in ('ONNX', 'PyTorch'):
    pytest.importorskip('onnxruntime' if name == 'ONNX' else 'torch')
  monkeypatch.chdir(files)
  made = {}
  exec(SNIPPETS[name], made)
  pixels = np.asarray(made['pixels'])
  assert pixels.shape == (16, 8, 8, 1) and pixels.dtype == np.uint8 and pixels.std() > 5
  want = dcgan_jax.load(untrained).from_latents(np.asarray(made['z']).reshape(16, -1))
  assert np.abs(np.int64(pixels) - np.int64(want)).max() <= 1


@pytest.mark.slow
def test_stablehlo_needs_nothing_but_jax(files):
  """Runs the lines of the page in a new process, which has imported nothing of ours, and no Flax."""
  code = SNIPPETS['StableHLO'] + (
    'import sys\nprint(pixels.shape, sorted({"dcgan_jax", "flax", "onnx"} & set(sys.modules)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=files, env=environment(), capture_output=True, text=True, check=True
  )
  assert done.stdout == '(16, 8, 8, 1) []\n'


@pytest.mark.slow(2)
def test_a_moving_average_and_population_statistics_are_exported(tmp_path, monkeypatch):
  monkeypatch.setattr(norm_statistics, 'SAMPLES', 200)
  folder = untrained_run(tmp_path / 'run')
  trained = experiment.open_run(folder, 'last')
  trained = trained._replace(state=dataclasses.replace(trained.state, ema=None))
  plain = exporting.network_of(trained, 'generator')
  jax.tree.map(np.testing.assert_array_equal, plain.variables, trained.state.generator.variables)
  average = jax.tree.map(lambda x: 1.5 * x, trained.state.generator.variables)
  trained = trained._replace(state=dataclasses.replace(trained.state, ema=average))
  averaged = exporting.network_of(trained, 'generator')
  jax.tree.map(np.testing.assert_array_equal, averaged.variables, average)
  measured = exporting.network_of(trained, 'generator', 'population')
  jax.tree.map(np.testing.assert_array_equal, measured.variables['params'], average['params'])
  want = norm_statistics.of_latents(measured.module, average['params'], measured.latents)
  jax.tree.map(np.testing.assert_array_equal, measured.variables['batch_stats'], want)
  judge = exporting.network_of(trained, 'discriminator')
  jax.tree.map(np.testing.assert_array_equal, judge.variables, trained.state.discriminator.variables)
  said = [
    (network.about['moving_average'], network.about['statistics'])
    for network in (plain, averaged, measured, judge)
  ]
  assert said == [(False, 'stored'), (True, 'stored'), (True, 'population'), (False, 'stored')]


@pytest.mark.parametrize('kind', ['generator', 'discriminator'])
@pytest.mark.parametrize('preset', ['mnist_conditional', 'svhn'])
def test_a_description_makes_the_same_network(kind, preset):
  """Turns the arguments into JSON and back, and compares what the two modules compute."""
  chosen = narrow(preset)
  gan, variables = exports.random_networks(chosen)
  module = getattr(gan, kind)
  described = exporting.architecture(module.clone(dtype='bfloat16', axis_name='batch'))
  again = type(module)(**json.loads(json.dumps(described)))
  x = np.zeros(
    (2, gan.latents.width) if kind == 'generator' else (2, *chosen.data.size, chosen.data.channels)
  )
  same = [
    str(jax.make_jaxpr(m.clone(fast_conv=False).apply)(variables[kind], np.float32(x)))
    for m in (again, module)
  ]
  assert same[0] == same[1] and 'conv' in same[0]


def test_files_describe_themselves(files, untrained):
  onnx, safetensors = pytest.importorskip('onnx'), pytest.importorskip('safetensors')
  props = onnx.load(files / 'generator.onnx').metadata_props
  with safetensors.safe_open(files / 'generator.safetensors', 'np') as file:
    assert file.metadata() == {prop.key: prop.value for prop in props}
    about = {name: json.loads(text) for name, text in file.metadata().items()}
  assert about['latents'] == {'size': 10, 'prior': 'normal', 'classes': 0, 'counts': []}
  assert (about['network'], about['run'], about['step']) == ('generator', untrained.name, 0)
  assert about['image_shape'] == [8, 8, 1] and about['classes'] == []
