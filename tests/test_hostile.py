"""Tests of the checks of `benchmarks/hostile.py`, and a short form of it."""

import os
import shutil

import pytest
from conftest import environment

from benchmarks import faults, hostile

LARGE = ('a million rows', 'a line of 100 MB', '8 large bombs')


def _task(kind, place, root, mode='sample'):
  shutil.copytree(root / 'half', root / 'shared/half')
  usual = dict(os.environ)
  return hostile.Task(kind, '', place, mode, root / 'it', root / 'shared', usual, 0.0, 0)


def _make_run(root):
  """Returns a folder with a run in it, of which the names are all that counts."""
  for name in ('config.json', 'metrics.jsonl', 'checkpoints/20/x', 'samples/step_00000010.png'):
    (root / 'half' / name).parent.mkdir(parents=True, exist_ok=True)
    (root / 'half' / name).write_text('{}')
  return root


@pytest.fixture
def root(tmp_path):
  return _make_run(tmp_path)


def test_each_changes_the_workdir_and_leaves_what_is_beside_it(tmp_path):
  (tmp_path / hostile.PRECIOUS).write_text('precious')

  def is_right(change, folder):
    def seen():
      return {(path, path.lstat().st_mode, path.lstat().st_size) for path in folder.rglob('*')}

    before = seen()
    change(folder)
    return seen() != before and (tmp_path / hostile.PRECIOUS).read_text() == 'precious'

  wrong, tried = [], 0
  for kind, found in hostile.places().items():
    for words, change in found:
      if words not in LARGE:
        wrong += [] if is_right(change, _make_run(tmp_path) / 'half') else [(kind, words)]
        shutil.rmtree(tmp_path / 'half')
        tried += 1
  assert tried > 100 and not wrong


@pytest.mark.parametrize(
  ('words', 'problem'),
  [('config.json', 'written through the link'), ('config.json to nothing', 'made through the link')],
)
def test_what_is_written_through_a_link_is_noticed(words, problem, root, monkeypatch):
  class Writes:
    """A process that has written to the workdir."""

    status, peak = 0, 1.0

    def __init__(self, run):
      (run.folder / 'config.json').write_text('mine')
      self.wait, self.said = lambda seconds: True, lambda: ('', '')

  monkeypatch.setattr(faults.Run, 'start', lambda run, *arguments: Writes(run))
  place = [name for name, _ in hostile.places()['links']].index(words)
  assert hostile.do(_task('links', place, root))[1] == problem
  assert not (root / 'it').exists()


@pytest.mark.nightly(45)
def test_a_short_campaign_is_withstood(monkeypatch, capsys):
  monkeypatch.setattr('sys.argv', ['hostile', '--modes=report', '--kinds=pipes', '--share=0.3'])
  for name in ('JAX_NUMPY_DTYPE_PROMOTION', 'XLA_FLAGS'):  # as users have them, but for the time to compile
    monkeypatch.setenv(name, environment()[name])
  status, printed = hostile.main(), capsys.readouterr()
  assert status == 0, printed.err
