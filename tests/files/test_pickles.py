import io
import json
import pickle
import resource
import struct
import sys
import types

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks import fuzz_inputs
from dcgan_jax.files import pickles

TABLE = b'ccollections\nOrderedDict\n'
TENSOR = ('0', 0, (2, 3), (3, 1), 'FloatStorage')


def _text(length):
  return b'X' + struct.pack('<I', length) + b'a' * length


def _number(length):
  """Returns the instruction of a number of so many bytes."""
  return b'\x8b' + struct.pack('<i', length) + b'\x7f' * length


def _pairs(count):
  """Returns the instructions of a list of pairs, which is put at 0, and of a table's name at 1."""
  pairs = b''.join(b'(M' + struct.pack('<H', i) + b'Nt' for i in range(count))
  return b'\x80\x02' + TABLE + b'q\x01](' + pairs + b'eq\x00'


def _in_the_state(key):
  """Returns a state dict of a tensor that has this key, as instructions, in another with the same."""
  tensor = fuzz_inputs.torch_pickle([('w', *TENSOR)])
  begin = tensor.index(b'ctorch._utils')
  return b'\x80\x02}(' + key + b'q\x00}(h\x00' + tensor[begin:-2] + b'uu.'


NESTED = b')q\x00' + b'h\x00\x86q\x00' * 60  # a tuple of two, each of which is a tuple of two, and so on
TOO_MUCH = 'takes more memory or time than tensors do'
CRAFTED = {
  'a huge place': (b'Nr' + struct.pack('<I', 2**30) + b'.', TOO_MUCH),
  'a long text': (b'\x80\x04\x8d' + struct.pack('<Q', 2**40) + b'a.', 'damaged'),
  'many bytes': (b'\x80\x05\x96' + struct.pack('<Q', 2**36) + b'a.', TOO_MUCH),
  'a deep key': (b'\x80\x02}(' + b')' + b'\x85' * 100_000 + b'Nu.', 'key of type tuple'),
  'a name of tuples': (b'\x80\x04' + NESTED + b'\x8c\x01a\x93.', 'requires str'),
  'a huge number as a key': (_in_the_state(_number(10**5)), 'key of type int'),
  'a huge shape': (
    _in_the_state(_text(1)).replace(b'K\x02K\x03\x86', b'K\x02' + _number(10**6) + b'\x86'),
    'not whole numbers below',
  ),
  'a shape of many axes': (
    _in_the_state(_text(1)).replace(b'K\x02K\x03\x86', b'(' + b'K\x01' * 99 + b't'),
    'axes',
  ),
  'long names': (_in_the_state(_text(2**23)), 'names have more than'),
  'digits': (b'I' + b'9' * 10**6 + b'\n.', 'damaged'),
  'code': (b'cos\nsystem\nX\x04\0\0\0exit\x85R.', 'names os.system, which is not a tensor'),
  'a builtin': (b'c__builtin__\neval\nX\x01\0\0\x001\x85R.', 'names __builtin__.eval'),
  'an attribute': (b'\x80\x04\x8c\x0bcollections\x8c\x11OrderedDict.clear\x93.', 'OrderedDict.clear, which'),
  'nothing': (b'', 'damaged'),
  'no end': (b'(N', 'damaged'),
}  # fmt: skip
SLOW = {
  'a key of tuples': (b'\x80\x02}(' + NESTED + b'Nu.', TOO_MUCH),  # It is looked up for years.
  'copies': (_pairs(60_000) + b'](' + b'h\x01h\x00\x85R' * 5_000 + b'e.', TOO_MUCH),
  'copies one after the other': (_pairs(60_000) + b'h\x01h\x00\x85R0' * 50_000 + b'N.', TOO_MUCH),
  'sets': (b'\x80\x04(' + b'\x8f' * 10**7 + b'l.', TOO_MUCH),
}


def _assert_refused(content, reason):
  before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
  with pytest.raises(pickles.PickleError, match=reason) as error:
    pickles.read(content, legacy=False)
  assert len(str(error.value)) < 300
  assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < pickles.SECONDS + 1


@pytest.mark.parametrize('name', CRAFTED)
def test_crafted_pickles_end_at_once(name):
  _assert_refused(*CRAFTED[name])


@pytest.mark.slow
@pytest.mark.parametrize('name', SLOW)
def test_crafted_pickles_are_ended(name):
  assert pickles.MEMORY < 2**30
  _assert_refused(*SLOW[name])


def test_tensors_are_found():
  content = fuzz_inputs.torch_pickle([('w', *TENSOR), ('v', *TENSOR)])
  tensor = pickles.Tensor(pickles.Storage('FloatStorage', '0'), 0, (2, 3), (3, 1))
  assert pickles.read(content + b'rest', legacy=False) == ([('w', tensor), ('v', tensor)], [], len(content))


@hypothesis_settings(max_examples=hypothesis_settings().max_examples // 3)  # Each is a process.
@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_an_error(content):
  try:
    assert pickles.read(content, legacy=True).tensors
  except pickles.PickleError as error:
    assert 'not a file of torch.save' in str(error)


@given(
  st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
  ),
  st.integers(0, 5),
)
def test_what_is_no_tensor_is_left_out(content, protocol):
  found = pickles._find(pickle.dumps(content, protocol), legacy=False)
  assert not found.tensors


def _refuse(kind, limits):
  raise ValueError('current limit exceeds maximum limit')


LIMITS = {name: getattr(resource, name) for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_CORE')}


@pytest.mark.parametrize(
  'module', [None, types.SimpleNamespace(**LIMITS, setrlimit=_refuse)], ids=['Windows', 'macOS']
)
def test_a_system_without_limits_reads_tensors(monkeypatch, capsys, module):
  content = fuzz_inputs.torch_pickle([('w', *TENSOR)])
  monkeypatch.setitem(sys.modules, 'resource', module)
  monkeypatch.setattr(sys, 'stdin', types.SimpleNamespace(buffer=io.BytesIO(content)))
  monkeypatch.setattr(sys, 'argv', ['pickles.py'])
  pickles._main()
  assert json.loads(capsys.readouterr().out)[0][0][0] == 'w'


def test_each_limit_is_set_by_itself(monkeypatch):
  told = []

  def limit(kind, limits):
    told.append((kind, limits))
    if kind == resource.RLIMIT_AS:
      raise OSError('not here')

  monkeypatch.setitem(sys.modules, 'resource', types.SimpleNamespace(**LIMITS, setrlimit=limit))
  pickles._limit()
  assert dict(told) == {
    resource.RLIMIT_AS: (pickles.MEMORY,) * 2,
    resource.RLIMIT_CPU: (pickles.SECONDS,) * 2,
    resource.RLIMIT_CORE: (0, 0),
  }


@pytest.mark.parametrize(
  ('script', 'said'),
  [
    ('import nothing_here', "process of its own: ModuleNotFoundError: No module named 'nothing_here'"),
    ('raise SystemExit(3)', 'process of its own: status 3'),
    ('import os; os.kill(os.getpid(), 9)', TOO_MUCH),
    ('import time; time.sleep(60)', TOO_MUCH),
  ],
)
def test_why_the_process_said_nothing(monkeypatch, tmp_path, script, said):
  (tmp_path / 'script.py').write_text(script)
  monkeypatch.setattr(pickles, '__file__', str(tmp_path / 'script.py'))
  if 'sleep' in script:
    monkeypatch.setattr(pickles, 'PATIENCE', 0.1)
  with pytest.raises(pickles.PickleError) as error:
    pickles.read(b'N.', legacy=False)
  assert str(error.value).endswith(said)


def test_a_process_that_cannot_be_started_is_told(monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/nonexistent/python')
  with pytest.raises(pickles.PickleError, match='not be read in a process of its own: No such file or dir'):
    pickles.read(b'N.', legacy=False)
