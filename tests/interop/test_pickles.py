import io
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.interop import pickles

KEYS = st.text() | st.integers() | st.floats(allow_nan=False)
LEAVES = KEYS | st.none() | st.booleans() | st.binary()
CONTENT = st.recursive(
  LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner)
)


def _load(content):
  def find(module, name):
    raise pickles.PickleError(f'{module}.{name}')

  return pickles.load(io.BytesIO(content), find, lambda pid: pid)


@given(CONTENT, st.integers(0, 5))
def test_data_is_read_as_python_reads_it(content, protocol):
  """Reads what has no name in it; bytes have one in the first protocols."""
  try:
    assert _load(pickle.dumps(content, protocol)) == content
  except pickles.PickleError as error:
    assert (protocol < 3 and '_codecs.encode' in str(error)) or '__builtin__' in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_an_error(content):
  try:
    _load(content)
  except Exception as error:
    assert not isinstance(error, MemoryError | SystemError)


def test_several_pickles_of_a_file_are_read_one_after_the_other():
  file = io.BytesIO(b''.join(pickle.dumps(n) for n in (1, 'a', [2])) + b'rest')
  assert [pickles.load(file, print, print) for _ in range(3)] == [1, 'a', [2]] and file.read() == b'rest'


@pytest.mark.parametrize(
  'content',
  [
    b'Nr' + struct.pack('<I', 2**30) + b'.',  # 16 GiB for the numbers of its values, in Python's own reader
    b'\x80\x02)' + b'2\x86' * 60 + b'}(' + b'.',
    b'\x80\x02}(' + b')' + b'2\x86' * 60 + b'Nu.',  # a key that is looked up for years
    b'\x80\x02}(' + b')' + b'\x85' * 100_000 + b'Nu.',  # a key that overflows the stack
    b'N' * (pickles.MOST + 1) + b'.',
    b'\x80\x02N(NNu.',
    b'(N',
    b'',
  ],
)
def test_crafted_pickles_end_at_once(content):
  try:
    assert _load(content) is None
  except Exception as error:
    assert isinstance(error, pickles.PickleError | ValueError | IndexError | AttributeError | TypeError)
