"""What identifies the code that a run was trained with."""

import json
import shutil
import subprocess

import pytest

from dcgan_jax.records import versions


@pytest.fixture
def package(tmp_path):
  folder = tmp_path / 'site' / 'package'
  (folder / 'deeper').mkdir(parents=True)
  (folder / 'a.py').write_text('a = 1\n')
  (folder / 'deeper' / 'b.py').write_text('b = 1\n')
  versions.code.cache_clear()
  return folder


def _git(folder, *arguments):
  own = ['-c', 'user.name=n', '-c', 'user.email=e@example.org', '-c', 'commit.gpgsign=false']
  done = subprocess.run(['git', '-C', folder, *own, *arguments], check=True, capture_output=True, text=True)
  return done.stdout.strip()


def _again(folder):
  versions.code.cache_clear()
  return versions.code(folder)


def test_the_hash_of_an_installed_package_is_of_all_its_code(package):
  first = versions.code(package)
  assert list(first) == ['sha256'] and len(first['sha256']) == 64
  (package / 'data.json').write_text('{}')
  assert _again(package) == first
  (package / 'deeper' / 'b.py').write_text('b = 2\n')
  changed = _again(package)
  (package / 'deeper' / 'b.py').rename(package / 'b.py')
  assert len({first['sha256'], changed['sha256'], _again(package)['sha256']}) == 3


@pytest.mark.skipif(shutil.which('git') is None, reason='no git')
def test_the_commit_of_a_clone_and_whether_it_is_changed(package):
  clone = package.parent
  _git(clone, 'init', '-q')
  _git(clone, 'add', '.')
  _git(clone, 'commit', '-q', '-m', 'first')
  _git(clone, 'tag', '-a', 'v1', '-m', 'v1')
  commit = _git(clone, 'rev-parse', 'HEAD')
  assert _again(package) == {'commit': commit}
  (package / 'a.py').write_text('a = 2\n')
  assert _again(package) == {'commit': f'{commit}+'}


def test_a_clone_without_git_has_a_hash(package, monkeypatch):
  (package.parent / '.git').mkdir()
  assert list(versions.code(package)) == ['sha256']  # Git does not know this folder.
  monkeypatch.setenv('PATH', '')
  assert list(_again(package)) == ['sha256']


def test_a_run_notes_its_code(tmp_path):
  versions.note(tmp_path, '1 cpu device')
  written = json.loads((tmp_path / 'versions.json').read_text())
  assert len(written.get('commit', written.get('sha256', ''))) >= 40
  assert written['devices'] == '1 cpu device' and versions.read(tmp_path) == written
