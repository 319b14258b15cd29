import os
import subprocess
import sys

import pytest

from dcgan_jax.errors import InputError
from dcgan_jax.journal import lock

HOLD = """
import sys, time
from pathlib import Path
from dcgan_jax.journal import lock
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
  assert lock.is_elsewhere(tmp_path)
  text = f'process {other.pid} of .*, since .*, trains here; wait for it'
  with pytest.raises(InputError, match=text), lock.held(tmp_path):
    pytest.fail('has the lock')
  other.kill()
  other.wait()
  assert not lock.is_elsewhere(tmp_path)
  with lock.held(tmp_path):  # Nothing is stale after SIGKILL.
    assert not lock.is_elsewhere(tmp_path)


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
