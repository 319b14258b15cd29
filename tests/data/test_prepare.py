"""The first use of a tfds data set, which TensorFlow prepares in another process."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

if importlib.util.find_spec('tensorflow') is None:
  pytest.skip('TensorFlow has no package here', allow_module_level=True)

pytestmark = pytest.mark.slow

BUILDER = '''
  import numpy as np
  import tensorflow_datasets as tfds

  class Squares(tfds.core.GeneratorBasedBuilder):
    """Twelve images made here: nothing to download."""
    VERSION = tfds.core.Version('1.0.0')
    def _info(self):
      features = tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(8, 8, 3))})
      return self.dataset_info_from_configs(features=features)
    def _split_generators(self, manager):
      return {'train': self._generate_examples()}
    def _generate_examples(self):
      for i in range(12):
        yield i, {'image': np.full((8, 8, 3), 20 * i, np.uint8)}
'''
HEAD = """
  import sys
  import tensorflow_datasets as tfds
  import made.squares
  from dcgan_jax import data
"""
READ = """
  images, _ = data.load(data.open_source('tfds:squares', 'train', data.Fit((8, 8), 3)), 'squares')
  print(sorted(images[:, 0, 0, 0].tolist()), 'tensorflow' in sys.modules)
"""
PREPARE_TFRECORD = """
  tfds.builder('squares').download_and_prepare(file_format='tfrecord')
"""


def _run(code, folder):
  env = os.environ | {'TFDS_DATA_DIR': str(folder / 'tfds'), 'PYTHONPATH': f'{ROOT}:{folder}'}
  (folder / 'made').mkdir(exist_ok=True)
  (folder / 'made' / '__init__.py').touch()
  (folder / 'made' / 'squares.py').write_text(textwrap.dedent(BUILDER))
  done = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(HEAD) + textwrap.dedent(code)],
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


def test_prepared_on_first_use_then_read_without_tensorflow(tmp_path):
  values = str([20 * i for i in range(12)])
  first = _run(READ, tmp_path)
  assert f'to {tmp_path}/tfds/squares' in first and f'{values} True' in first
  second = _run(READ, tmp_path)
  assert 'downloading' not in second and f'{values} False' in second


@pytest.mark.nightly(12)
def test_prepared_as_tfrecord_is_converted(tmp_path):
  values = str([20 * i for i in range(12)])
  _run(PREPARE_TFRECORD, tmp_path)
  converted = _run(READ, tmp_path)
  assert 'writing its TFRecords again as ArrayRecord' in converted and f'{values} True' in converted
  assert f'{values} False' in _run(READ, tmp_path)
