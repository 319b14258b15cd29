import time

import pytest

from dcgan_jax.journal import timing


class _Value:
  def __init__(self, ready):
    self.is_ready = lambda: ready


@pytest.mark.parametrize(('ready', 'least', 'most'), [(True, 0.5, 1.0), (False, 0.0, 0.0)])
def test_waiting_counts_only_while_devices_are_idle(ready, least, most):
  clock = timing.Clock(0)
  with clock.waiting({'loss': _Value(ready)}):
    time.sleep(0.05)
  assert least <= clock.lap(1, 8)['input_wait'] <= most
