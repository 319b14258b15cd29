import sys

import numpy as np
import pytest

from dcgan_jax import data
from dcgan_jax.data import tfds
from dcgan_jax.errors import InputError


def test_tfds_errors(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  for name, channels, text in (
    ('mnst', 1, 'did you mean mnist'),
    ('imdb_reviews', 1, 'no images'),
    ('mnist/nonsense', 1, 'nonsense'),
    ('mnist', 3, 'gray'),
  ):
    with pytest.raises(InputError, match=text) as error:
      data.open_source(f'tfds:{name}', 'train', data.Fit((28, 28), channels))
    assert '\n' not in str(error.value)


def test_tfds_without_tensorflow_says_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  with pytest.raises(InputError, match='pip install tensorflow'):
    data.open_source('tfds:mnist', 'train', data.Fit((28, 28), 1))


def test_real_mnist_without_tensorflow(tfds_data):
  source = data.open_source('tfds:mnist', 'train[:300]', data.Fit((28, 28), 1))
  images, _ = data.load(source, 'mnist')
  assert images.shape == (300, 28, 28, 1) and images.max() == 255
  assert 25 < images.mean() < 40  # MNIST's mean is 33.3
  with pytest.raises(InputError, match='mnist has'):
    data.open_source('tfds:mnist', 'nonsense', data.Fit((28, 28), 1))


def test_labels_of_tfds(tfds_data):
  source = tfds.open_tfds('mnist', 'test', data.Fit((28, 28), 1))
  labels, names = source.labels()
  assert len(labels) == 10_000 and names == tuple('0123456789')
  assert np.bincount(labels)[:2].tolist() == [980, 1135]  # of MNIST's test set
