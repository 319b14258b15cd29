"""A short form of the campaign of `benchmarks/faults.py`, and checks of its own judgement."""

import numpy as np
import pytest
from conftest import environment

from benchmarks import faults

SHORT = ('killed_in_a_save', 'damaged')


@pytest.mark.slow(45)
def test_a_short_campaign_loses_nothing(monkeypatch, capsys):
  monkeypatch.setattr(faults, 'STEPS', 40)
  for key, value in {'train.num_steps': 40, 'log.tensorboard': False, 'log.report': False}.items():
    monkeypatch.setitem(faults.KEYS, key, value)
  monkeypatch.setattr('sys.argv', ['faults', '--share=0.01', f'--faults={",".join(SHORT)}'])
  for name in ('JAX_NUMPY_DTYPE_PROMOTION', 'XLA_FLAGS'):  # as users have them, but for the time to compile
    monkeypatch.setenv(name, environment()[name])
  status, printed = faults.main(), capsys.readouterr()
  assert status == 0, printed.err
  assert printed.out.count('| 1 of 1 |') == len(SHORT)


def test_what_is_lost_is_noticed(tmp_path, monkeypatch):
  """Lets runs end as they should not, without training any."""
  run = faults.Run(tmp_path, np.random.default_rng(0), tmp_path, 1.0)
  monkeypatch.setattr(faults.Run, 'finish', lambda self: '')
  monkeypatch.setattr(faults, 'last_state', lambda folder: {'w': np.float32([1.0, -0.0])})
  assert faults.suffer(lambda run: None, run, {'w': np.float32([1.0, -0.0])}) == ''
  assert faults.suffer(lambda run: None, run, {'w': np.float32([1.0, 0.0])}) == 'the last states differ'

  def refuse(run):
    raise faults.LostError('status 1')

  assert faults.suffer(refuse, run, {}) == 'LostError: status 1'


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
