import collections
import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import jax
import numpy as np
import pytest
from conftest import ROOT
from filelock import FileLock
from PIL import Image

from dcgan_jax import data, files
from dcgan_jax.data import cache, sources


@pytest.fixture
def source(tmp_path, monkeypatch):
  """Two images and a broken one, with a cache."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))
  pictures = tmp_path / 'pictures'
  pictures.mkdir()
  for i in range(2):
    Image.fromarray(np.full((9, 9, 3), 100 * i, np.uint8)).save(pictures / f'{i}.png')
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
  Image.fromarray(noise).save(pictures / 'cut.png')
  (pictures / 'cut.png').write_bytes((pictures / 'cut.png').read_bytes()[:2000])
  return sources.open_folder(pictures, data.Fit((8, 8), 3))


def _refuse_to_decode(monkeypatch):
  def load(*_):
    raise AssertionError('decoded again')

  monkeypatch.setattr(sources, 'decoded', load)


def test_decodes_once(source, monkeypatch, capsys):
  first = cache.load(source, 'folder')
  assert 'skipped 1 unreadable' in capsys.readouterr().out
  _refuse_to_decode(monkeypatch)
  second = cache.load(source, 'folder')
  np.testing.assert_array_equal(first, second)
  assert second.shape == (2, 8, 8, 3) and second.dtype == np.uint8
  assert 'cut.png' in capsys.readouterr().out  # It is still said.
  assert not list(cache.folder().rglob('*.part'))


def test_other_images_or_another_fit_are_decoded_anew(source):
  first = cache.load(source, 'folder')
  Image.fromarray(np.full((9, 9, 3), 50, np.uint8)).save(source.paths[0])
  assert not np.array_equal(cache.load(source, 'folder'), first)
  assert cache.load(sources.Folder(source.paths, data.Fit((4, 4), 1)), 'folder').shape == (2, 4, 4, 1)


@pytest.mark.parametrize('content', [b'', b'no array'])
def test_a_broken_cache_is_made_again(source, content):
  first = np.array(cache.load(source, 'folder'))
  (kept,) = cache.folder().rglob('*.npy')
  for broken in (content, kept.read_bytes()[:-7]):
    kept.write_bytes(broken)
    np.testing.assert_array_equal(cache.load(source, 'folder'), first)


def test_other_arrays_in_the_cache_are_made_again(source):
  """Replaces images of another shape or dtype, and invalid notes."""
  first = np.array(cache.load(source, 'folder'))
  (kept,) = cache.folder().rglob('*.npy')
  for other in (first[:, :4], first.astype(np.float32), first[0], first[:1], first[:0]):
    np.save(kept, other)
    np.testing.assert_array_equal(cache.load(source, 'folder'), first)
  for notes in ('{', '[]', '{"skipped": 3}', '{"skipped": [3]}'):
    kept.with_suffix('.json').write_text(notes)
    np.testing.assert_array_equal(cache.load(source, 'folder'), first)
  assert 'cut.png' in kept.with_suffix('.json').read_text()


def test_kept_arrays_that_do_not_fit_are_made_again(tmp_path):
  path, good = tmp_path / 'x.npz', {'a': np.zeros(3, np.float32)}

  def fits(kept):
    return {name: x.shape for name, x in kept.items()} == {'a': (3,)}

  for other in ({'b': np.zeros(3)}, {'a': np.zeros(4)}, {}):
    np.savez(path, **other)
    assert cache.arrays_in(path, lambda: good, fits) is good
    assert fits(cache.arrays_in(path, lambda: {}, fits))


def test_without_room_or_permission_nothing_is_kept(source, monkeypatch, capsys):
  usage = collections.namedtuple('usage', 'total used free')
  with monkeypatch.context() as patch:
    patch.setattr(cache.shutil, 'disk_usage', lambda _: usage(100, 99, 1))
    assert len(cache.load(source, 'folder')) == 2
  assert not list(cache.folder().rglob('*.npy'))
  with monkeypatch.context() as patch:
    patch.setattr(os, 'getuid', lambda: -1)
    assert len(cache.load(source, 'folder')) == 2
  assert 'belongs to another user' in capsys.readouterr().out


def test_without_a_home_folder_nothing_is_kept(source, monkeypatch, capsys):
  """Runs as in a container whose user has no name and no HOME."""
  for name in ('DCGAN_JAX_CACHE', 'XDG_CACHE_HOME', 'HOME'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os, 'getuid', lambda: 2**32 - 2)
  assert len(cache.load(source, 'folder')) == 2
  assert cache.arrays('some', 'x', lambda: {'a': np.ones(1)})['a'] == 1
  assert capsys.readouterr().out.count('not kept for the next start') == 2
  monkeypatch.setenv('DCGAN_JAX_CACHE', '~nobody_here/x')
  assert not cache.folder().parent.is_dir()


def test_a_disk_that_runs_full_keeps_nothing(source, monkeypatch, capsys):
  """Hits the file size limit, and a disk that is full at the final sync."""

  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
  try:
    first = cache.load(source, 'folder')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', full)
    np.testing.assert_array_equal(cache.load(source, 'folder'), first)
    monkeypatch.setattr(files, 'free_memory', lambda: 2 * cache.size(source))
    np.testing.assert_array_equal(cache.load_large(source, 'folder')[0], first)
    monkeypatch.setattr(files, 'free_memory', lambda: 2 * cache.size(source) - 1)
    assert cache.load_large(source, 'folder') is None
  printed = capsys.readouterr().out
  assert printed.count('not kept for the next start') == 4 and printed.count('No space left') == 3
  assert not [path for suffix in ('npy', 'part') for path in cache.folder().rglob(f'*.{suffix}')]
  images, skipped = cache.load_large(source, 'folder')
  np.testing.assert_array_equal(images, first)
  assert isinstance(images, np.memmap) and skipped == [str(source.paths[2])]


def test_what_an_error_interrupts_is_removed(source, monkeypatch):
  def interrupted(source, title):
    yield np.zeros((1, 8, 8, 3), np.uint8), []
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(sources, 'decoded', interrupted)
    with pytest.raises(KeyboardInterrupt):
      cache.load(source, 'folder')
  assert [path.suffix for path in (cache.folder() / 'images').iterdir()] == ['.lock']
  assert len(cache.load(source, 'folder')) == 2


KILLED = """
import os, signal
from dcgan_jax import data
from dcgan_jax.data import cache, sources
class Killing(sources.Digits):
  def read(self, indices):
    if indices[0] > 1500:
      os.kill(os.getpid(), signal.SIGKILL)
    return super().read(indices)
sources.CHUNK = 100 * 256
cache.load(Killing(data.Fit((16, 16), 1)), 'digits')
"""


@pytest.mark.slow
def test_what_a_kill_interrupts_is_made_again(tmp_path, monkeypatch):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  done = subprocess.run([sys.executable, '-c', KILLED], cwd=ROOT, env=os.environ, capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr
  assert list(tmp_path.rglob('*.part')) and not list(tmp_path.rglob('*.npy'))
  digits = sources.Digits(data.Fit((16, 16), 1))
  np.testing.assert_array_equal(cache.load(digits, 'digits'), sources.load(digits, 'digits')[0])
  assert not list(tmp_path.rglob('*.part')) and len(list(tmp_path.rglob('*.npy'))) == 1


def test_only_one_process_decodes(source, monkeypatch):
  """Waits for the holder of the lock, and then finds the images."""
  expected = np.array(cache.load(source, 'folder'))
  (kept,) = cache.folder().rglob('*.npy')
  aside = kept.rename(kept.with_suffix('.aside'))
  _refuse_to_decode(monkeypatch)
  found, said = [], []
  # A capture that is read while another thread prints loses what it prints.
  monkeypatch.setattr('builtins.print', lambda text, **_: said.append(text))
  with FileLock(kept.with_suffix('.lock')):
    thread = threading.Thread(target=lambda: found.append(cache.load(source, 'folder')))
    thread.start()
    while not any('another process decodes its images' in text for text in said):
      assert thread.is_alive()
      time.sleep(0.001)
    aside.rename(kept)
  thread.join()
  np.testing.assert_array_equal(found[0], expected)


def test_a_file_system_without_locks_is_written_all_the_same(source, monkeypatch):
  def acquire(*_, **__):
    raise NotImplementedError

  monkeypatch.setattr(FileLock, 'acquire', acquire)
  assert len(cache.load(source, 'folder')) == 2 and list(cache.folder().rglob('*.npy'))


class Many(sources.Digits):
  """Images of 12 KiB, all different."""

  def __len__(self):
    return 2000

  def read(self, indices):
    return [np.full((64, 64, 3), i % 251, np.uint8) for i in indices]


def test_memory_holds_a_part_of_the_images_while_they_are_decoded(tmp_path, monkeypatch):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(sources, 'CHUNK', 5 * 64 * 64 * 3)
  source = Many(data.Fit((64, 64), 3))
  tracemalloc.start()
  images = cache.load(source, 'many')
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < cache.size(source) / 4
  np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(2000) % 251)


def test_where_it_is(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
  monkeypatch.delenv('DCGAN_JAX_CACHE')
  assert cache.folder() == pathlib.Path('/somewhere/dcgan_jax')
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert cache.folder() == pathlib.Path.home() / '.cache' / 'dcgan_jax'


# NumPy leaves a broken .npz open.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_what_was_made_is_kept(monkeypatch, tmp_path):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  made = []

  def make():
    made.append(1)
    return {'a': np.arange(3), 'b': np.float32(0.5)}

  for _ in range(2):
    kept = cache.arrays('things', 'of one kind', make)
    np.testing.assert_array_equal(kept['a'], [0, 1, 2])
    assert kept['b'] == 0.5 and len(made) == 1
  cache.arrays('things', 'of another kind', make)
  (path, _) = (tmp_path / 'things').iterdir()
  path.write_bytes(path.read_bytes()[:-40])
  cache.arrays('things', 'of one kind', make), cache.arrays('things', 'of another kind', make)
  assert len(made) == 3 and not list(tmp_path.rglob('*.part'))


def test_compiled_programs_are_kept_where_the_user_says(monkeypatch, tmp_path):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
  try:
    jax.config.update('jax_compilation_cache_dir', '/elsewhere')
    cache.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == '/elsewhere'
    jax.config.update('jax_compilation_cache_dir', None)
    cache.keep_compiled_programs()
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / 'programs' and folder.stat().st_mode & 0o777 == 0o700
  finally:
    jax.config.update('jax_compilation_cache_dir', before[0])
    jax.config.update('jax_persistent_cache_min_compile_time_secs', before[1])
