import logging
import sys
import threading

import pytest

from dcgan_jax.journal.checkpoints import quiet


def test_what_outlives_its_loop_is_silent_and_everything_else_is_not(monkeypatch):
  seen = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda error: seen.append(str(error.exc_value)))
  monkeypatch.setattr(threading, 'excepthook', lambda error: seen.append(str(error.exc_value)))

  class Broken:
    def __init__(self, message):
      self.message = message

    def __del__(self):
      raise RuntimeError(self.message)

  def fail():
    raise RuntimeError('of our own thread')

  with quiet.quietly():
    assert logging.getLogger('absl').level == logging.CRITICAL
    Broken('Event loop is closed')
    Broken('of our own object')
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
  assert seen == ['of our own object', 'of our own thread']
  assert logging.getLogger('absl').level != logging.CRITICAL


def test_hooks_are_restored_after_an_error():
  before = sys.unraisablehook, threading.excepthook
  with pytest.raises(KeyError), quiet.quietly():
    raise KeyError
  assert (sys.unraisablehook, threading.excepthook) == before
