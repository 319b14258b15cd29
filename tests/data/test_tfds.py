import json
import shutil
import sys

import numpy as np
import pytest
from conftest import TINY

from dcgan_jax import data
from dcgan_jax.data import tfds
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment


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


def test_tfds_without_a_home_folder_says_what_to_do(monkeypatch):
  """Uses a missing home folder, as of a container's user, which tfds would create."""
  monkeypatch.setenv('TFDS_DATA_DIR', '~nobody_here')
  with pytest.raises(
    InputError, match=r'no home folder for ~nobody_here/mnist/.*; set TFDS_DATA_DIR to another'
  ):
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


class _Records(list):
  """Records of a prepared data set."""

  def __getitems__(self, indices):
    return [self[i] for i in indices]


def _labelled(*labels):
  records = _Records({'image': b'', 'label': label} for label in labels)
  return tfds.Tfds(records, 'image', '/data/pets/1.0.0 unsupervised', data.Fit((8, 8), 1), ('cat', 'dog'))


def test_labels_that_are_no_classes_are_refused():
  labels, names = _labelled(0, 1, 1).labels()
  assert labels.tolist() == [0, 1, 1] and names == ('cat', 'dog')
  for labels, said in (
    (
      (0, -1, -1),
      '2 of the 3 images of /data/pets/1.0.0 unsupervised have no class, .*0 to 1, e.g. -1 of record 1',
    ),
    ((0, 2), '1 of the 2 images .* e.g. 2 of record 1; choose another split or data set'),
  ):
    with pytest.raises(InputError, match=said):
      _labelled(*labels).labels()


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--config.data.classes=2'], '; or set data.classes=2 to 0'),
    (['--mode=probe'], ''),
    (['--mode=probe', '--data=tfds:pets'], ''),
    (['--mode=forget', '--class=cat'], ''),
  ],
)
def test_data_of_which_some_has_no_class_is_refused_by_whatever_reads_labels(
  monkeypatch, refused, untrained, tmp_path, arguments, said
):
  """Fails before anything is compiled: the initial state is not created."""
  monkeypatch.setattr(tfds, 'open_tfds', lambda *_: _labelled(0, -1, *[0, 1] * 600))
  monkeypatch.setattr(experiment.Experiment, 'first_state', lambda *_: pytest.fail('it has begun'))
  folder = shutil.copytree(untrained, tmp_path / 'run')
  if arguments[0].startswith('--config'):
    arguments = [*TINY, '--config.data.source=tfds:pets', *arguments]
    folder = tmp_path / 'new'
  else:
    config = json.loads((folder / 'config.json').read_text())
    config['data']['source'] = 'tfds:pets'
    (folder / 'config.json').write_text(json.dumps(config))
  error = refused(f'--workdir={folder}', *arguments)
  field = 'data' if '--data=tfds:pets' in arguments else 'data.source'
  assert error.startswith(
    f'error: {field}: 1 of the 1202 images of /data/pets/1.0.0 unsupervised have no class'
  )
  assert error.endswith(f'e.g. -1 of record 1; choose another split or data set{said}\n')
  assert not (tmp_path / 'new' / 'config.json').exists()
