import time

import pytest

from dcgan_jax.records import timing


class _Value:
  def __init__(self, ready):
    self.is_ready = lambda: ready


@pytest.mark.parametrize(('ready', 'least', 'most'), [(True, 0.5, 1.0), (False, 0.0, 0.0)])
def test_waiting_counts_only_while_devices_are_idle(ready, least, most):
  clock = timing.Clock(0)
  with clock.waiting({'loss': _Value(ready)}):
    time.sleep(0.05)
  assert least <= clock.lap(1, 8)['input_wait'] <= most


def test_a_lap_tells_what_time_was_spent_on():
  clock = timing.Clock(4)
  with clock.spent('scores'):
    time.sleep(0.2)
  with clock.spent('device'):
    time.sleep(0.05)
  row = clock.lap(8, 10)
  parts = {name: row[f'time/{name}'] for name in (*timing.PARTS, 'other')}
  assert parts['scores'] >= 0.2 and parts['device'] >= 0.05 and parts['pictures'] == parts['saves'] == 0
  # Scores are no part of the time that the images took.
  assert row['images_per_second'] == pytest.approx(40 / (sum(parts.values()) - parts['scores']), rel=0.01)
  assert clock.lap(9, 10)['time/scores'] == 0


def test_compiling_is_no_part_of_the_speed():
  clock = timing.Clock(0)
  with clock.spent('compilation'):
    time.sleep(0.2)
  time.sleep(0.05)
  row = clock.lap(5, 10)
  assert row['time/compilation'] >= 0.2 and row['images_per_second'] > 50 / 0.2
