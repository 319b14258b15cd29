import json
import os
import sys

import pytest

from dcgan_jax import files
from dcgan_jax.errors import MOST, InputError


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('a' * 5000, 'File name too long'),
    ('a\0b', 'is not a path'),
    ('~nobody_here/x', 'is not a path'),
  ],
)
def test_what_can_be_no_path_is_refused(text, reason):
  with pytest.raises(InputError, match=reason) as error:
    files.named('out', text)
  assert str(error.value).startswith('out=') and len(str(error.value)) <= MOST + 5


def test_a_link_to_nothing_is_not_taken_for_nothing(tmp_path):
  """Refuses a folder on a disk that is not mounted: a run would begin anew there."""
  (tmp_path / 'link').symlink_to(tmp_path / 'away')
  for look in (files.listed, files.exists):
    with pytest.raises(InputError, match=r'link: is a link to .*away, which is not there; mount that'):
      look(tmp_path / 'link')
  (tmp_path / 'away').mkdir()
  assert files.listed(tmp_path / 'link') == [] and files.exists(tmp_path / 'link')
  assert files.listed(tmp_path / 'missing') == [] and not files.exists(tmp_path / 'missing')


def test_ordinary_files_are_opened_without_the_flags_that_windows_lacks(tmp_path, monkeypatch):
  for name in ('O_NONBLOCK', 'O_NOCTTY'):
    monkeypatch.delattr(files.os, name)
  (tmp_path / 'file').write_bytes(b'x')
  assert files.read_bytes(tmp_path / 'file', 1) == b'x'


def test_loops_are_refused_and_what_is_not_there_is_no_error(tmp_path):
  (tmp_path / 'loop').symlink_to('loop')
  with pytest.raises(InputError, match='Too many levels'):
    files.named('out', f'{tmp_path}/loop')
  (tmp_path / 'file').touch()
  assert files.named('out', f'{tmp_path}/file/x') == tmp_path / 'file' / 'x'
  assert files.named('out', '~') == files.Path.home()


def test_where_nothing_can_be_written(tmp_path):
  (tmp_path / 'file').touch()
  assert files.to_be_written('out', f'{tmp_path}/new/x.png') == tmp_path / 'new' / 'x.png'
  for text in ('', f'{tmp_path}/file/x.png'):
    with pytest.raises(InputError, match=r'^out.*(is empty|cannot be written)'):
      files.to_be_written('out', text)


def test_what_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match=r'^out=.*file: is a file; choose a folder$'):
    files.folder_to_be_written('out', f'{tmp_path}/file')
  assert files.folder_to_be_written('out', str(tmp_path)) == tmp_path
  target = tmp_path / 'file' / 'x'
  line = rf'^out={target}: cannot be written: (Not a directory|File exists); choose another --out$'
  with pytest.raises(InputError, match=line), files.output('out', target):
    files.write_bytes(target, b'')
  line = r'^out=x: cannot be written: no reason given; choose another --out$'
  with pytest.raises(InputError, match=line), files.output('out', files.Path('x')):
    raise OSError('no reason given')


def test_only_ordinary_files_are_opened(tmp_path):
  (tmp_path / 'file').write_bytes(b'abc')
  (tmp_path / 'link').symlink_to('file')
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'link to a pipe').symlink_to('pipe')
  for name in ('file', 'link'):
    with files.opened(tmp_path / name) as file:
      assert (files.size(file), file.read()) == (3, b'abc')
  for name in ('', 'pipe', 'link to a pipe', '/dev/zero', 'missing', 'a\0'):
    with pytest.raises(OSError) as error:
      files.opened(tmp_path / name)
    assert error.value.strerror


def test_large_files_are_not_read(tmp_path):
  (tmp_path / 'file').write_bytes(b'abc')
  assert files.read_bytes(tmp_path / 'file', 3) == b'abc'
  with pytest.raises(OSError, match='has 3 bytes, which is too large; it should have 2 at most'):
    files.read_bytes(tmp_path / 'file', 2)


def test_a_file_is_whole_and_no_link_is_followed(tmp_path):
  """Leaves alone what links point to, and gives the file the permissions of any other."""
  (tmp_path / 'precious').write_text('precious')
  (tmp_path / 'other').write_text('other')
  for name in ('x', 'x.part'):
    (tmp_path / name).symlink_to('precious')
  with files.whole(tmp_path / 'x') as part:
    part.write_text('new')
    assert (tmp_path / 'x').read_text() == 'precious'
  assert not (tmp_path / 'x').is_symlink() and (tmp_path / 'x').read_text() == 'new'
  assert (tmp_path / 'precious').read_text() == 'precious'
  assert (tmp_path / 'x').stat().st_mode == (tmp_path / 'other').stat().st_mode


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
  (tmp_path / 'x').write_text('old')
  with pytest.raises(KeyboardInterrupt), files.whole(tmp_path / 'x') as part:
    part.write_text('half')
    raise KeyboardInterrupt
  assert [path.name for path in tmp_path.iterdir()] == ['x'] and (tmp_path / 'x').read_text() == 'old'


def test_two_writers_of_a_file_do_not_meet(tmp_path):
  with files.whole(tmp_path / 'x') as one, files.whole(tmp_path / 'x') as other:
    one.write_text('one')
    other.write_text('other')
  assert (tmp_path / 'x').read_text() == 'one'


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (b'{', 'is not JSON'),
    (b'\xff\xfe', 'is not JSON'),
    (b'[' * 200_000, 'nested too deeply'),
    (b'9' * 5000, 'is not JSON'),
    (b' ' * 2000, 'too large'),
  ],
)
def test_broken_json_is_one_line(tmp_path, content, reason):
  path = tmp_path / 'x.json'
  path.write_bytes(content)
  with pytest.raises(InputError, match=reason) as error:
    files.read_json(path, 1000 if reason == 'too large' else 2**20)
  assert str(error.value).startswith(f'{path}: ')


def test_json_is_read(tmp_path):
  (tmp_path / 'x.json').write_text(json.dumps({'a': [1, 'é']}))
  assert files.read_json(tmp_path / 'x.json') == {'a': [1, 'é']}
  with pytest.raises(InputError, match='No such file'):
    files.read_json(tmp_path / 'y.json')


def test_memory_that_is_left_is_known():
  known = files.free_memory()
  assert known > 2**20 if sys.platform == 'linux' else known == 0


def test_paths_that_are_not_utf8_are_refused(tmp_path, monkeypatch):
  files.check_utf8(tmp_path / 'café')
  with pytest.raises(InputError, match=r'is not UTF-8, .* choose a path whose bytes are UTF-8'):
    files.check_utf8(tmp_path / os.fsdecode(b'\xff') / 'run')
  # In the locale C, Python takes the bytes of the accent for two surrogates; in another, for other letters.
  for encoding, path in (('ascii', 'caf\udcc3\udca9'), ('iso8859-1', 'cafÃ©')):
    monkeypatch.setattr(os, 'fsencode', lambda path: 'café'.encode())
    monkeypatch.setattr(sys, 'getfilesystemencoding', lambda encoding=encoding: encoding)
    with pytest.raises(InputError, match=f'set PYTHONUTF8=1, since the locale is {encoding}'):
      files.check_utf8(files.Path(path))


def test_what_may_not_be_looked_at_is_one_line(tmp_path, monkeypatch):
  assert files.listed(tmp_path / 'missing') == [] and not files.exists(tmp_path / 'missing')

  def fail(*_):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(os, 'listdir', fail)
  monkeypatch.setattr(files.Path, 'stat', fail)
  for look in (files.listed, files.exists):
    with pytest.raises(InputError, match='missing: cannot be read: Permission denied'):
      look(tmp_path / 'missing')
