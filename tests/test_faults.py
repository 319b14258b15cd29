"""A short form of the campaign of `benchmarks/faults.py`, and tests of its checks."""

import os

import numpy as np
import pytest
from conftest import environment

from benchmarks import faults

SHORT = ('damaged', 'killed_in_a_save')


@pytest.mark.nightly(45)
def test_a_short_campaign_loses_nothing(monkeypatch, capsys):
  monkeypatch.setattr('sys.argv', ['faults', '--share=0.01', f'--faults={",".join(SHORT)}'])
  for name in ('JAX_NUMPY_DTYPE_PROMOTION', 'XLA_FLAGS'):  # as users have them, but for the time to compile
    monkeypatch.setenv(name, environment()[name])
  status, printed = faults.main(), capsys.readouterr()
  assert status == 0, printed.err
  assert printed.out.count('| 1 of 1 |') == len(SHORT)


def test_pairs_follow_from_the_seed_and_do_not_contradict_each_other():
  def draw():
    return [faults.draw_pair(np.random.default_rng([0, i]), list(faults.FAULTS)) for i in range(300)]

  assert draw() == draw()
  for first, second in draw():
    things = faults.FAULTS[first][1], faults.FAULTS[second][1]
    assert first is not second and '*' not in things[0] | things[1] and not things[0] & things[1]
  together = {fault for fault, (_, things) in faults.FAULTS.items() if '*' not in things}
  assert {fault for pair in draw() for fault in pair} == together


class Ended:
  """A process that has ended in a given way."""

  def __init__(self, status=0, out='', err='', peak=100.0, ends=True):
    self.status, self.peak, self.wait = status, peak, lambda seconds: ends
    self.said, self.send_signal = lambda: (out, err), lambda number: None


@pytest.fixture
def run(tmp_path):
  return faults.Run(tmp_path / 'it', np.random.default_rng(0), tmp_path, dict(os.environ))


@pytest.mark.parametrize(
  ('ended', 'lost'),
  [
    (Ended(), ''),
    (Ended(err='Traceback (most recent call last):'), 'a traceback'),
    (Ended(1), 'status 1'),
    (Ended(-11), 'status -11'),
    (Ended(2, err='error: no room'), ''),
    (Ended(2, err='no room'), 'not a line'),
    (Ended(2, err='error: no room\nerror: no room'), 'not a line'),
    (Ended(-9, ends=False), 'no end after'),
    (Ended(peak=1100.0), '1100 MiB'),
  ],
)
def test_ends_that_are_a_loss(run, ended, lost):
  if lost:
    with pytest.raises(faults.LostError, match=lost):
      run.end(ended)
  else:
    run.end(ended)


def test_what_was_said_to_be_saved_must_be_there(run):
  run.out = 'step 2/40  loss_d 1.0  saved 5, 9.9 GiB free\n'
  with pytest.raises(faults.LostError, match='step 5 was said to be saved'):
    run.check_what_was_said()
  (run.folder / 'checkpoints/5').mkdir(parents=True)
  with pytest.raises(faults.LostError, match=r'rows of steps \[2, 4\]'):
    run.check_what_was_said()
  (run.folder / 'metrics.jsonl').write_text('{"step": 2, "x": 1}\n{"step": 4, "x": 1}\n')
  with pytest.raises(faults.LostError, match=r'pictures of steps \[0\]'):
    run.check_what_was_said()
  (run.folder / 'samples').mkdir()
  (run.folder / 'samples/step_00000000.png').touch()
  run.check_what_was_said()
  (run.folder / 'damaged').mkdir()
  with pytest.raises(faults.LostError, match='a sound checkpoint was moved'):
    run.check_what_was_said()


def test_what_is_lost_is_noticed(tmp_path, monkeypatch):
  """Compares states of untrained runs."""
  monkeypatch.setattr(faults, 'last_state', lambda folder: {'w': np.float32([1.0, -0.0])})
  assert faults.judge('', tmp_path, {'w': np.float32([1.0, -0.0])}) == ''
  assert faults.judge('', tmp_path, {'w': np.float32([1.0, 0.0])}) == 'the last states differ'
  assert faults.judge('LostError: status 1', tmp_path, {}) == 'LostError: status 1'


def test_damage_damages(tmp_path):
  path = tmp_path / 'file'
  seen = set()
  for seed in range(40):
    path.write_bytes(b'0123456789')
    faults.damage(path, np.random.default_rng(seed))
    content = path.read_bytes() if path.exists() else None
    assert content != b'0123456789'
    seen.add(None if content is None else len(content))
  assert seen == {None, 0, 5, 10}
