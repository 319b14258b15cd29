import os
import signal
import threading

import pytest

from dcgan_jax.training import signals

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def nothing_is_ignored():
  """Lets signals act as ever, if the tests run under nohup."""
  before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGUSR1)}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_request_is_noted_and_a_second_acts_as_usual(number):
  before = signal.getsignal(number)
  with signals.stop_requests() as stop:
    assert stop() is None
    os.kill(os.getpid(), number)
    assert stop() == number
    assert signal.getsignal(number) is before
  assert signal.getsignal(number) is before


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGUSR1])
def test_notices_may_come_often_and_with_others(number):
  """Sends what a lost connection does, SIGHUP twice and SIGTERM; none of it ends this process."""
  before = signal.getsignal(number)
  with signals.stop_requests() as stop:
    os.kill(os.getpid(), number)
    assert stop() == number
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), number)
    assert stop() == number and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  assert signal.getsignal(number) is before


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGUSR1])
def test_a_notice_that_is_ignored_stays_so(number):
  before = signal.signal(number, signal.SIG_IGN)  # as nohup does
  try:
    with signals.stop_requests() as stop:
      os.kill(os.getpid(), number)
      assert stop() is None
  finally:
    signal.signal(number, before)


def test_handlers_are_put_back():
  before = [signal.getsignal(number) for number in ALL]
  with pytest.raises(ZeroDivisionError), signals.stop_requests():
    assert all(signal.getsignal(number) is not handler for number, handler in zip(ALL, before))
    raise ZeroDivisionError
  assert [signal.getsignal(number) for number in ALL] == before


def test_outside_the_main_thread_nothing_is_noted():
  told = []

  def work():
    with signals.stop_requests() as stop:
      told.append(stop())

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert told == [None]
