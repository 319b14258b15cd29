import errno
import os
import subprocess
import sys

import pytest

from dcgan_jax.errors import InputError
from dcgan_jax.records import lock

HOLD = """
import sys, time
from pathlib import Path
from dcgan_jax.records import lock
with lock.held(Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
  """A second process that holds the lock of a folder."""
  command = [sys.executable, '-c', HOLD, str(tmp_path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


def test_a_second_writer_is_told_who_trains(other, tmp_path):
  text = f'process {other.pid} of .*, since .*, trains here; wait for it'
  with pytest.raises(InputError, match=text), lock.held(tmp_path):
    pytest.fail('has the lock')
  other.kill()
  other.wait()
  with lock.held(tmp_path):  # Nothing is stale after SIGKILL.
    pass


def test_a_missing_note_does_not_matter(other, tmp_path):
  (tmp_path / lock.OWNER).write_text('{')
  with pytest.raises(InputError, match='another process trains here'), lock.held(tmp_path):
    pytest.fail('has the lock')


def test_one_process_twice(tmp_path):
  with lock.held(tmp_path), pytest.raises(InputError, match=f'process {os.getpid()} '), lock.held(tmp_path):
    pytest.fail('has the lock')
  with lock.held(tmp_path):
    pass


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='cannot be written'), lock.held(tmp_path / 'file' / 'run'):
    pytest.fail('has the lock')


def test_removing_the_file_lets_nobody_in(other, tmp_path):
  (tmp_path / lock.LOCK).unlink()
  with pytest.raises(InputError, match=f'process {other.pid} of .* trains here'), lock.held(tmp_path):
    pytest.fail('has the lock')
  assert lock.is_elsewhere(tmp_path)
  other.kill()
  other.wait()
  with lock.held(tmp_path):
    assert not lock.is_elsewhere(tmp_path)


def test_without_locks_of_folders_there_is_that_of_the_file(other, tmp_path, monkeypatch):
  """Refuses to lock folders, as NFS does, and has no such call, as Windows."""

  def refuse(*_):
    raise OSError(errno.EBADF, 'Bad file descriptor')

  monkeypatch.setattr(lock.fcntl, 'flock', refuse)
  with lock._locked_folder(tmp_path):
    pass
  monkeypatch.undo()
  monkeypatch.setattr(lock, 'fcntl', None)
  with pytest.raises(InputError, match='trains here'), lock.held(tmp_path):
    pytest.fail('has the lock')
  other.kill()
  other.wait()
  with lock.held(tmp_path):
    pass


def test_nothing_is_written_through_links(tmp_path):
  """Opens a stranger's workdir, whose files are links to those of the user."""
  (tmp_path / 'diary').write_text('dear diary')
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / lock.OWNER).symlink_to(tmp_path / 'diary')
  with lock.held(workdir):
    assert lock._owner(workdir)['process'] == os.getpid()
  (workdir / lock.LOCK).unlink()
  for target in ('diary', 'missing'):
    (workdir / lock.LOCK).symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=r'run/\.lock: is a link.*; remove the link$'), lock.held(workdir):
      pytest.fail('has the lock')
    assert not lock.is_elsewhere(workdir)
    (workdir / lock.LOCK).unlink()
  assert (tmp_path / 'diary').read_text() == 'dear diary' and not (tmp_path / 'missing').exists()


def test_a_note_that_is_a_pipe_is_not_waited_for(other, tmp_path):
  (tmp_path / lock.OWNER).unlink()
  os.mkfifo(tmp_path / lock.OWNER)
  with pytest.raises(InputError, match='another process trains here'), lock.held(tmp_path):
    pytest.fail('has the lock')
