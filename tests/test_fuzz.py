"""A short form of the campaign in `benchmarks/fuzz.py`: the first inputs of each target, in this process."""

import warnings

import numpy as np
import pytest

from benchmarks import fuzz, fuzz_inputs

SLOW = {'tfds names', 'main.py'}  # They import TensorFlow Datasets, or start processes.
IN_PROCESS = [name for name in fuzz.TARGETS if name not in SLOW]


@pytest.fixture(autouse=True)
def restored(monkeypatch, tmp_path):
  """A separate folder for each target, with warning filters restored."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr('sys.argv', ['main.py'])
  with warnings.catch_warnings():
    yield


def _assert_good(report, count):
  assert report['inputs'] == count and not report['failures'], report['failures'][0]
  assert report['accepted'] + report['refused'] == count


@pytest.mark.nightly(1)
@pytest.mark.parametrize('name', IN_PROCESS)
def test_every_input_is_accepted_or_refused_in_a_line(name):
  _assert_good(fuzz.run_target(name, range(12), seed=1, show=False), 12)


@pytest.mark.nightly
@pytest.mark.parametrize('name', sorted(SLOW))
def test_whole_commands(name, monkeypatch):
  for variable in ('HTTP_PROXY', 'HTTPS_PROXY', 'TFDS_DATA_DIR'):
    monkeypatch.setenv(variable, '')  # The target sets them; this is undone afterwards.
  _assert_good(fuzz.run_target(name, range(4), seed=1, show=False), 4)


def test_what_fails_is_reported(monkeypatch):
  """Runs targets that misbehave: raise other errors, take too long, write outside their folder."""

  def broken(random, folder):
    return lambda: {}['x']

  def endless(random, folder):
    def act():
      while True:
        pass

    return act

  def untidy(random, folder):
    return lambda: open('left', 'w').close()

  for name, target, said in (
    ('a', broken, 'KeyError'),
    ('b', endless, 'took longer'),
    ('c', untidy, "left beside the inputs: ['left']"),
  ):
    monkeypatch.setattr(fuzz, 'TARGETS', {name: (target, 1, 0.2)})
    report = fuzz.run_target(name, range(1), seed=0, show=False)
    assert report['failed'] == 1 and said in report['failures'][0][1]


def test_inputs_follow_from_the_seed():
  made = [fuzz_inputs.image(np.random.default_rng([3, 1, i])) for i in range(20)]
  assert made == [fuzz_inputs.image(np.random.default_rng([3, 1, i])) for i in range(20)]
  assert len(set(made)) > 15
