import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dcgan_jax.data import arrays
from dcgan_jax.errors import InputError

NUMBERS = st.sampled_from(['<f4', '>f8', '<i8', '|u1', '|b1', '<f2'])
SHAPES = hnp.array_shapes(min_dims=0, min_side=0)


def _header(shape, descr="'<f4'", order='False'):
  text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
  return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text


@given(
  NUMBERS.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0))), st.booleans()
)
def test_any_array_of_numbers_is_read_as_numpy_reads_it(tmp_path_factory, array, in_columns):
  array = np.asfortranarray(array) if in_columns else array
  path = tmp_path_factory.mktemp('arrays') / 'x'
  for save, read in (
    (np.save, arrays.read_npy),
    (lambda file, a: np.savez(file, x=a), lambda p: arrays.read_npz(p)['x']),
  ):
    with path.open('wb') as file:
      save(file, array)
    found = read(path)
    assert found.dtype == array.dtype and found.flags.writeable
    np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: _header('(2, 3)')[:40] + tail))
def test_any_bytes_are_an_array_or_refused(tmp_path_factory, content):
  path = tmp_path_factory.mktemp('arrays') / 'x'
  path.write_bytes(content)
  for read in (arrays.read_npy, arrays.map_npy, arrays.read_npz):
    try:
      read(path)
    except InputError as error:
      assert str(error)


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (_header('(1000000000000,)'), 'is cut short: its header says float32 '),
    (_header('(3,)') + bytes(11), 'is cut short'),
    (_header('(-1,)') + bytes(12), 'impossible shape'),
    (_header('(True,)') + bytes(12), 'impossible shape'),
    (_header('(2, False)') + bytes(12), 'impossible shape'),
    (_header('(0, 10000000000000000000000)'), 'impossible shape'),
    (_header('(1,)', "'|O'") + bytes(8), 'no real numbers'),
    (_header('(1,)', "[('a', '<f4')]") + bytes(8), 'no real numbers'),
    (_header('(1,)', "'<U4'") + bytes(16), 'no real numbers'),
    (_header('(' * 3000), 'no header'),
    (_header('9' * 5000), 'no header'),
    (b'', 'no header'),
  ],
)
def test_crafted_headers_are_refused(tmp_path, content, reason):
  (tmp_path / 'x.npy').write_bytes(content)
  with pytest.raises(InputError, match=reason):
    arrays.read_npy(tmp_path / 'x.npy')


@given(
  hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0)), st.lists(st.integers(0, 9))
)
def test_parts_are_written_as_numpy_writes_the_whole(tmp_path_factory, array, cuts):
  path = tmp_path_factory.mktemp('arrays') / 'x.npy'
  count = arrays.write_npy(path, iter(np.array_split(array, sorted(cuts))), array.shape[1:], np.uint8)
  found = np.load(path)
  assert count == len(array) and found.dtype == np.uint8 and found.flags.c_contiguous
  np.testing.assert_array_equal(found, array)
  np.testing.assert_array_equal(arrays.read_npy(path), array)
  assert len(list(path.parent.iterdir())) == 1 and np.load(path, mmap_mode='r').offset % 64 == 0


def test_headers_of_python_2_are_read(tmp_path):
  """Reads files of the authors' NumPy without a warning."""
  (tmp_path / 'x.npy').write_bytes(_header('(2L, 1L)') + np.float32([1, 2]).tobytes())
  np.testing.assert_array_equal(arrays.read_npy(tmp_path / 'x.npy'), [[1], [2]])


def test_rows_are_read_of_a_compressed_archive(tmp_path):
  path, images = tmp_path / 'x.npz', np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
  np.savez_compressed(path, y=np.zeros(1), x=images)
  with arrays.opened_npz(path, 'x') as array:
    assert array.shape == (4, 3, 2)
    np.testing.assert_array_equal(array.read(2), images[:2])
  with arrays.opened_npz(path, 'nothing') as array:
    assert array.shape == (1,)
  np.savez(path, x=np.asfortranarray(images))
  with pytest.raises(InputError, match='Fortran'), arrays.opened_npz(path, 'x') as array:
    array.read(2)


def test_a_small_archive_of_many_zeros_is_not_unpacked(tmp_path):
  """Reads no more than requested, whatever an archive of a few MB claims to contain."""
  path = tmp_path / 'x.npz'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive, archive.open('x.npy', 'w') as file:
    file.write(_header('(1000, 1000, 100)', "'|u1'"))
    for _ in range(100):
      file.write(bytes(10**6))
  with arrays.opened_npz(path, 'x') as array:
    assert array.read(3).nbytes == 3 * 10**5
  with pytest.raises(InputError, match='compressed'):
    arrays.read_npz(path)


def test_archives_that_cannot_be_opened_are_refused(tmp_path):
  stream = io.BytesIO()
  np.savez(stream, x=np.zeros(3))
  whole = stream.getvalue()
  os.mkfifo(tmp_path / 'pipe')
  contents = {'cut': whole[:-30], 'empty': b'', 'spoilt': whole.replace(b'x.npy', b'y.npy', 1)}
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  with zipfile.ZipFile(tmp_path / 'none', 'w'):
    pass
  for name in (*contents, 'none', 'pipe', 'missing', '.'):
    with pytest.raises(InputError), arrays.opened_npz(tmp_path / name, 'x') as array:
      array.read()
