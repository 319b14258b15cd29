"""Arrays as training images: .npy and .npz of any dtype, unchanged, resized or refused."""

import contextlib
import pickle
import re

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dcgan_jax import files
from dcgan_jax.core import pixels
from dcgan_jax.data import Fit, array_file, cache, open_source
from dcgan_jax.data.feed import Feed
from dcgan_jax.data.order import batch_indices
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))


def _images(dtype='uint16', count=20, size=(8, 8), channels=5):
  """Returns images with all values, [N, H, W, C]; floats are from 0 to 1."""
  random, shape, kind = np.random.default_rng(0), (count, *size, channels), np.dtype(dtype)
  if kind.kind == 'f':
    return random.uniform(0, 1, shape).astype(kind)
  limits = np.iinfo(kind)
  return random.integers(limits.min, limits.max + 1, shape, kind)


def _fit(images, size=None, **options):
  """Returns the fit of an array."""
  value_range = () if images.dtype.kind in 'iu' else (0.0, 1.0)
  numbers = pixels.of(images.dtype.name, options.pop('value_range', value_range))
  return Fit(size or images.shape[1:3], images.shape[3] if images.ndim == 4 else 1, pixels=numbers, **options)


def _saved(path, images, **others):
  """Writes an .npy or .npz; returns the source's name."""
  if path.suffix == '.npy':
    np.save(path, images)
  else:
    np.savez(path, x=images, **others)
  return f'npy:{path}'


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
@pytest.mark.parametrize('dtype', ['uint8', 'int8', 'uint16', 'int16', 'float16', 'float32', 'float64'])
def test_images_are_loaded_as_they_are(tmp_path, dtype, suffix):
  images = _images(dtype)
  source = open_source(_saved(tmp_path / f'a{suffix}', images), 'train', _fit(images))
  loaded = cache.load(source, 'a')
  assert len(source) == 20 and loaded.dtype == source.fit.pixels.kept
  np.testing.assert_array_equal(loaded, images.astype(loaded.dtype))
  np.testing.assert_array_equal(source.read([3])[0], loaded[3])


def test_an_npy_is_mapped_and_not_copied(tmp_path, monkeypatch):
  images = _images('float32')
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images))
  loaded = cache.load(source, 'a')
  assert isinstance(loaded, np.memmap) and loaded.filename == str(tmp_path / 'a.npy')
  assert not list(cache.folder().rglob('*.npy'))
  monkeypatch.setattr(array_file.ArrayFile, 'check', lambda self: pytest.fail('looked at all numbers again'))
  cache.load(source, 'a')


def test_gray_images_need_no_channel(tmp_path):
  images = _images('uint8', channels=1)[..., 0]
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images))
  np.testing.assert_array_equal(cache.load(source, 'a')[..., 0], images)


def test_bytes_in_the_other_order_are_turned(tmp_path):
  images = _images('uint16')
  source = open_source(_saved(tmp_path / 'a.npy', images.astype('>u2')), 'train', _fit(images))
  loaded = cache.load(source, 'a')
  assert loaded.dtype == np.uint16
  np.testing.assert_array_equal(loaded, images)


@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'float32', 'float64'])
def test_other_sizes_are_made_to_fit(tmp_path, dtype, capsys):
  images = np.zeros((3, 12, 8, 2), dtype)
  images[:, 2:10, :, 1] = 1  # what is left of it in the middle
  images[:, :2] = 1
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images, (4, 4)))
  assert 'images are resized from 12x8 to 4x4 pixels, by data.fit=crop' in capsys.readouterr().out
  loaded = cache.load(source, 'a')
  assert loaded.shape == (3, 4, 4, 2) and loaded.dtype == source.fit.pixels.kept
  assert (loaded[..., 0] == 0).all() and (loaded[..., 1] == 1).all()
  squashed = open_source(f'npy:{tmp_path}/a.npy', 'train', _fit(images, (4, 4), mode='squash'))
  assert (cache.load(squashed, 'a')[:, 0, :, 0] > 0).all() or dtype != 'float32'


def test_resized_numbers_are_rounded_and_keep_their_sign(tmp_path):
  images = np.tile(np.array([[-1000, -999], [-998, -997]], np.int16)[..., None], (1, 2, 2, 1))
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images, (1, 1)))
  assert cache.load(source, 'a').ravel().tolist() in ([-998], [-999])  # the mean is -998.5


@pytest.mark.parametrize('bad', [np.nan, np.inf, -0.01, 1.01])
@pytest.mark.parametrize('size', [(8, 8), (4, 4)])
def test_numbers_that_are_not_in_the_range_are_found(tmp_path, bad, size, monkeypatch):
  monkeypatch.setattr(array_file, 'PART', 6 * 8 * 8 * 5 * 4)
  images = _images('float32')
  images[17, 2, 3, 4] = bad
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images, size))
  message = (
    f'image 17 has {np.float32(bad)} at row, column, channel (2, 3, 4); all numbers must be from 0 to 1'
  )
  for _ in range(2):  # What is wrong is not kept as right.
    with pytest.raises(InputError, match=re.escape(message)):
      cache.load(source, 'a')


def test_whole_numbers_have_a_range_too(tmp_path):
  images = _images('uint16') % 4096
  name = _saved(tmp_path / 'a.npy', images)
  assert cache.load(open_source(name, 'train', _fit(images, value_range=(0, 4095))), 'a') is not None
  with pytest.raises(InputError, match='all numbers must be from 0 to 4000'):
    cache.load(open_source(name, 'train', _fit(images, value_range=(0, 4000))), 'a')


@pytest.mark.parametrize(
  ('shape', 'channels', 'text'),
  [
    ((9, 3, 8, 8), 3, 'looks like (N, C, H, W); save numpy.moveaxis(x, 1, -1) of it'),
    ((9, 8, 8, 5), 3, 'data.channels=3: the images of data.source=npy:'),
    ((9, 8, 8), 3, 'have 1; set it to that'),
    ((9, 8), 1, 'images are (N, H, W) or (N, H, W, C)'),
    ((9, 8, 0, 1), 1, 'is empty'),
  ],
)
def test_other_shapes_are_refused(tmp_path, shape, channels, text):
  name = _saved(tmp_path / 'a.npy', np.zeros(shape, np.uint8))
  with pytest.raises(InputError) as error:
    source = open_source(name, 'train', Fit((8, 8), channels))
    cache.load(source, 'a')
  assert text in str(error.value) or 'images are' in str(error.value)


@pytest.mark.parametrize(
  ('dtype', 'text'),
  [
    ('uint16', 'data.dtype=uint8: the numbers of .*a.npy are uint16; set it to that'),
    ('int64', 'its numbers are int64; save them as one of uint8, int8'),
    ('bool', 'its numbers are bool; save'),
    ('complex64', 'which are no real numbers'),
  ],
)
def test_other_dtypes_are_refused(tmp_path, dtype, text):
  name = _saved(tmp_path / 'a.npy', np.zeros((9, 8, 8, 3), dtype))
  with pytest.raises(InputError, match=text):
    open_source(name, 'train', Fit((8, 8), 3))


def test_files_that_are_none(tmp_path):
  fit = Fit((8, 8), 3)
  for name, text in [
    ('nowhere.npy', 'No such file or directory; give the path of an .npy or .npz'),
    ('.', 'is a folder'),
    ('text.npy', 'has no header of .npy'),
    ('text.npz', 'is no whole .npz'),
  ]:
    (tmp_path / 'text.npy').write_text('no array')
    (tmp_path / 'text.npz').write_text('no array')
    with pytest.raises(InputError, match=rf'data\.source=npy:.*{re.escape(text)}'):
      open_source(f'npy:{tmp_path / name}', 'train', fit)
  np.save(tmp_path / 'f.npy', np.asfortranarray(np.zeros((9, 8, 8, 3), np.uint8)))
  with pytest.raises(InputError, match="Fortran's order; save numpy"):
    open_source(f'npy:{tmp_path}/f.npy', 'train', fit)


def test_names_of_arrays_in_an_npz(tmp_path):
  images, others = _images('uint8'), _images('uint8')[::-1]
  np.savez_compressed(tmp_path / 'named.npz', other=others, images=images)
  np.savez(tmp_path / 'first.npz', images, others)
  for name in ('named', 'first'):
    source = open_source(f'npy:{tmp_path / name}.npz', 'train', _fit(images))
    np.testing.assert_array_equal(cache.load(source, 'a'), images)


def test_an_npz_larger_than_memory_is_refused(tmp_path, monkeypatch):
  images = _images('uint8')
  source = open_source(_saved(tmp_path / 'a.npz', images), 'train', _fit(images))
  monkeypatch.setattr(files, 'free_memory', lambda: images.nbytes)
  with pytest.raises(InputError, match=r'more than half of the free memory; save it as an \.npy'):
    cache.load(source, 'a')


@pytest.mark.parametrize('name', ['y', 'labels'])
def test_classes_are_the_numbers_that_there_are(tmp_path, name):
  images, labels = _images('uint8', 6), np.array([5, 7, 5, 1, 7, 7])
  source = open_source(_saved(tmp_path / 'a.npz', images, **{name: labels}), 'train', _fit(images))
  classes, names = source.labels()
  assert classes.dtype == np.int32 and classes.tolist() == [1, 2, 1, 0, 2, 2] and names == ('1', '5', '7')


def test_what_are_no_classes(tmp_path):
  images = _images('uint8', 6)
  alone = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images))
  without = open_source(_saved(tmp_path / 'b.npz', images), 'train', _fit(images))
  for source in (alone, without):
    with pytest.raises(InputError, match=r'its images have no classes; give an \.npz with them'):
      source.labels()
  for labels in (np.zeros(5, int), np.zeros(6), np.zeros((6, 2), int)):
    source = open_source(_saved(tmp_path / 'c.npz', images, y=labels), 'train', _fit(images))
    with pytest.raises(InputError, match='they should be integers'):
      source.labels()


def test_an_array_that_has_changed_is_another(tmp_path):
  images = _images('uint8', 6)
  name = _saved(tmp_path / 'a.npy', images)
  first = open_source(name, 'train', _fit(images))
  assert cache.load(first, 'a').sum() == images.sum()
  _saved(tmp_path / 'a.npy', images[:5] // 2)
  second = open_source(name, 'train', _fit(images))
  assert first.identity() != second.identity() and len(cache.load(second, 'a')) == 5


def test_a_source_that_is_sent_to_a_process_takes_no_images_along(tmp_path):
  images = _images('uint8', 200)
  source = open_source(_saved(tmp_path / 'a.npz', images), 'train', _fit(images))
  source.read([0])
  sent = pickle.dumps(source)
  assert len(sent) < 2000
  np.testing.assert_array_equal(pickle.loads(sent).read([7])[0], images[7])


@pytest.mark.parametrize(  # Any two of the options meet.
  ('dtype', 'memory_limit', 'size', 'devices'),
  [
    ('uint16', 4096, (8, 8), 4),
    ('float64', 4096, (8, 8), 1),
    ('uint16', 0, (8, 8), 1),
    ('float64', 0, (8, 8), 4),
    ('float64', 0, (4, 4), 1),
    ('uint16', 0, (4, 4), 4),
  ],
)
def test_batches_are_those_of_their_steps(tmp_path, dtype, memory_limit, size, devices, capsys):
  images = _images(dtype)
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', _fit(images, size))
  expected = cache.load(source, 'a')
  feed = Feed(source, 'a', seed=3, batch_size=4, memory_limit=memory_limit)
  mesh = Mesh(np.array(jax.devices()[:devices]), (placement.AXIS,))
  with contextlib.closing(feed.rounds(mesh, 3, lambda step: 1)) as rounds:
    for step in range(3, 8):
      batches = next(rounds).batches
      found = np.asarray(batches.examples.images)
      assert found.dtype == source.fit.pixels.kept
      if batches.window is not None:
        found = found[np.asarray(batches.window.rows)[step]].reshape(4, *size, 5)
      np.testing.assert_array_equal(found, expected[batch_indices(3, step, 4, 20)])
  assert ('read from the disk as needed' in capsys.readouterr().out) == (memory_limit == 0)


def test_pictures_are_no_arrays_of_other_numbers(pictures_folder):
  fit = Fit((8, 8), 3, pixels=pixels.of('uint16'))
  with pytest.raises(InputError, match='has pictures of 8 bits and 1, 3 or 4 channels, not uint16 and 3'):
    open_source(f'folder:{pictures_folder}', 'train', fit)


def test_a_transparent_array_is_made_to_fit_a_run_of_pictures(tmp_path):
  """Takes straight alpha, where a run stores premultiplied alpha."""
  images = _images('uint8', channels=4)
  numbers = pixels.Pixels(transparent=True)
  source = open_source(_saved(tmp_path / 'a.npy', images), 'train', Fit((8, 8), 4, pixels=numbers))
  np.testing.assert_array_equal(cache.load(source, 'a'), numbers.keep(images))
