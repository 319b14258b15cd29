import os
import signal
import threading

import pytest

from dcgan_jax import signals


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_request_is_noted_and_a_second_acts_as_usual(number):
  before = signal.getsignal(number)
  with signals.stop_requests() as stop:
    assert stop() is None
    os.kill(os.getpid(), number)
    assert stop() == number
    assert signal.getsignal(number) is before
  assert signal.getsignal(number) is before


def test_handlers_are_put_back():
  before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  with pytest.raises(ZeroDivisionError), signals.stop_requests():
    raise ZeroDivisionError
  assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_is_noted():
  told = []

  def work():
    with signals.stop_requests() as stop:
      told.append(stop())

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert told == [None]
