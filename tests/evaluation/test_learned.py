"""Where the classifier of a run comes from, with a stand-in for its training."""

import errno
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from dcgan_jax.data import cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, learned

NAMES = ('cat', 'dog', 'ox')
IMAGES = np.zeros((6, 8, 8, 1), np.uint8)
CLASSES = np.arange(6) % 3


@pytest.fixture
def find(monkeypatch, tmp_path):
  """A function that finds the classifier of a run; its list `trained` counts how often one had to learn."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))

  def train(images, labels, module):
    find.trained.append(module.classes)
    variables = jax.jit(module.init)(jax.random.key(len(find.trained)), images[:1])
    return classifier.Trained(jax.tree.map(np.asarray, variables), find.accuracy)

  def find(folder, names=NAMES, classes=CLASSES):
    with jax.numpy_dtype_promotion('standard'):  # Flax's pooling divides by an integer.
      labels = None if names is None else Labels(classes, names)
      return learned.classifier_for_run(f'images {classes}', IMAGES, labels, folder)

  find.trained, find.accuracy = [], 0.9
  monkeypatch.setattr(classifier, 'train', train)
  return find


@pytest.fixture
def folder(tmp_path):
  """The workdir of a run."""
  path = tmp_path / 'run'
  path.mkdir()
  return path


def _assert_same(a, b):
  assert (a.fingerprint, a.accuracy) == (b.fingerprint, b.accuracy)
  jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)


def test_a_run_takes_its_own_then_the_caches_then_learns(find, folder, tmp_path, capsys):
  first = find(folder)
  assert find.trained == [3] and first.accuracy == 0.9
  other = tmp_path / 'other'
  other.mkdir()
  _assert_same(find(other), first)  # from the cache
  _assert_same(find(None), first)
  assert find.trained == [3] and (other / learned.FILE).read_bytes() == (folder / learned.FILE).read_bytes()
  shutil.rmtree(cache.folder())
  _assert_same(find(folder), first)  # its own
  assert find.trained == [3]
  new = find(None)
  assert find.trained == [3, 3] and new.fingerprint != first.fingerprint
  _assert_same(find(folder), first)  # its own still, although the cache has another one
  assert (
    capsys.readouterr().out
    == 2 * 'training a classifier of 3 classes, once for this data (a minute or two on a CPU)\n'
  )
  assert [path.name for path in folder.iterdir()] == [learned.FILE]


def test_the_file_says_what_it_is(find, folder):
  variables = find(folder).variables
  with np.load(folder / learned.FILE) as arrays:
    np.testing.assert_array_equal(arrays['params/Conv_0/kernel'], variables['params']['Conv_0']['kernel'])
    assert arrays['accuracy'] == 0.9
    about = json.loads(arrays['about'].tobytes())
  assert about.pop('labels') and about == {'version': classifier.VERSION, 'classes': ['cat', 'dog', 'ox']}


def test_the_fingerprint_is_of_every_weight(find, folder):
  before = find(folder)
  with np.load(folder / learned.FILE) as kept:
    arrays = dict(kept)
  arrays['params/Dense_1/bias'][2] = np.nextafter(arrays['params/Dense_1/bias'][2], np.float32(1))
  np.savez(folder / learned.FILE, **arrays)
  after = find(folder)
  assert len(after.fingerprint) == 8 and after.fingerprint != before.fingerprint


def _rewrite(path, **changes):
  with np.load(path) as kept:
    arrays = dict(kept) | changes
  np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


DAMAGES = {
  'empty': lambda path: path.write_bytes(b''),
  'text': lambda path: path.write_text('no classifier'),
  'cut': lambda path: path.write_bytes(path.read_bytes()[:-300]),
  'changed': lambda path: path.write_bytes(path.read_bytes()[:3000] + b'8 bytes!' + path.read_bytes()[3008:]),
  'one array': lambda path: _rewrite(path, **{'params/Dense_1/bias': None}),
  'shape': lambda path: _rewrite(path, **{'params/Dense_1/bias': np.zeros(4, np.float32)}),
  'dtype': lambda path: _rewrite(path, **{'params/Dense_1/bias': np.zeros(3)}),
  'accuracy': lambda path: _rewrite(path, accuracy=None),
  'about': lambda path: _rewrite(path, about=np.zeros(3, np.uint8)),
  'objects': lambda path: np.savez(path, about=np.array([None])),
  'a folder': lambda path: path.unlink() or path.mkdir(),
}


@pytest.mark.slow
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_broken_file_is_named_and_replaced(find, folder, capsys, damage):
  path, first = folder / learned.FILE, find(folder)
  DAMAGES[damage](path)
  shutil.rmtree(cache.folder())
  capsys.readouterr()
  second = find(folder)
  said, *more = capsys.readouterr().out.splitlines()
  assert said.startswith(f'{path}: ') and said.endswith('; it is replaced')
  assert more == ['training a classifier of 3 classes, once for this data (a minute or two on a CPU)']
  assert second.fingerprint != first.fingerprint
  if damage != 'a folder':
    _assert_same(find(folder), second)
    assert capsys.readouterr().out == ''
  assert [path.name for path in folder.iterdir()] == [learned.FILE]


def test_a_classifier_of_other_classes_is_not_taken(find, folder, capsys):
  find(folder)
  find(folder, ('cat', 'dog', 'cow'))
  assert "or images ({'version': 2, 'classes': ['cat', 'dog', 'ox']" in capsys.readouterr().out


def test_a_classifier_of_other_images_is_not_taken(find, folder, capsys):
  """Gives the run other images of the same classes, which the classifier of the first knows nothing about."""
  first = find(folder)
  second = find(folder, classes=CLASSES[::-1])
  assert second.fingerprint != first.fingerprint
  assert ', or of other classes or images (' in capsys.readouterr().out
  _assert_same(find(folder, classes=CLASSES[::-1]), second)


def test_a_classifier_from_before_labels_were_noted_is_kept(find, folder):
  first = find(folder)
  about = json.dumps({'version': classifier.VERSION, 'classes': list(NAMES)}).encode()
  _rewrite(folder / learned.FILE, about=np.frombuffer(about, np.uint8))
  shutil.rmtree(cache.folder())
  _assert_same(find(folder), first)


def test_rotations_are_kept_and_are_no_classes(find, folder, capsys):
  """Takes the network of a run for what it says it is, also beside a classifier of as many classes.

  Whatever asks for classes does not replace it.
  """
  assert not learned.keeps_rotations(folder) and not learned.keeps_rotations(None)
  find.accuracy = 0.3  # Any will do.
  first = find(folder, None)
  assert find.trained == [4] and learned.keeps_rotations(folder)
  _assert_same(find(None, None), first)
  with np.load(folder / learned.FILE) as arrays:
    assert json.loads(arrays['about'].tobytes()) == {'version': classifier.ROTATIONS_VERSION, 'rotations': 4}
  find.accuracy = 0.9
  names = ('cat', 'dog', 'ox', 'owl')
  assert find(folder, names).fingerprint != first.fingerprint and learned.keeps_rotations(folder)
  shutil.rmtree(cache.folder())
  _assert_same(find(folder, None), first)
  (folder / learned.FILE).unlink()
  assert find(folder, names).fingerprint != find(folder, None).fingerprint
  assert capsys.readouterr().out.splitlines() == [
    'training a network that tells rotations, once for this data (a minute or two on a CPU)',
    'training a classifier of 4 classes, once for this data (a minute or two on a CPU)',
    'training a classifier of 4 classes, once for this data (a minute or two on a CPU)',
    f'{folder}/{learned.FILE}: is a classifier of another version, or of other classes or images '
    "({'version': 2, 'classes': ['cat', 'dog', 'ox', 'owl'], 'labels': '991a4b62d88e5d); it is replaced",
    'training a network that tells rotations, once for this data (a minute or two on a CPU)',
  ]


def test_broken_files_keep_no_rotations(folder):
  path = folder / learned.FILE
  for content in ({'about': np.zeros(3, np.uint8)}, {'other': np.zeros(3)}, {'about': np.array(3)}):
    np.savez(path, **content)
    assert not learned.keeps_rotations(folder)
  path.write_bytes(b'text')
  assert not learned.keeps_rotations(folder)


def test_a_folder_that_cannot_be_written_is_left_alone(find, folder, capsys, monkeypatch):
  opened = pathlib.Path.open

  def refuse(self, mode='r', *arguments, **options):
    if self.parent == folder and mode != 'rb':
      raise OSError(errno.EROFS, 'Read-only file system')
    return opened(self, mode, *arguments, **options)

  monkeypatch.setattr(pathlib.Path, 'open', refuse)
  _assert_same(find(folder), find(None))
  assert (
    capsys.readouterr().out
    == 'training a classifier of 3 classes, once for this data (a minute or two on a CPU)\n'
  )
  assert not list(folder.iterdir())


def test_a_classifier_that_has_not_learned_is_not_kept(find, folder):
  find.accuracy = 0.5
  with pytest.raises(InputError, match=r'its accuracy on held-out images is 50\.0%; below 60%'):
    find(folder)
  assert not list(folder.iterdir())


def test_a_single_class_teaches_nothing(find, folder):
  """Asks for a classifier of one class, whose random features would be right on every held-out image."""
  with pytest.raises(InputError, match='the data has a single class'):
    find(folder, ('cat',), np.zeros(6, int))
  assert not find.trained and not list(folder.iterdir())
