import logging
import sys
import threading

import pytest

from dcgan_jax.records.checkpoints import quiet

SILENT = ['Event loop is closed', "'_UnixSelectorEventLoop' object has no attribute '_ssock'"]
LOUD = ['of our own object', 'of our own thread']


def test_what_outlives_its_loop_is_silent_and_everything_else_is_not(monkeypatch):
  seen, logger = [], logging.getLogger('absl')
  monkeypatch.setattr(logger, 'level', logging.INFO)  # Savers that other tests left open have silenced it.
  monkeypatch.setattr(sys, 'unraisablehook', lambda error: seen.append(str(error.exc_value)))
  monkeypatch.setattr(threading, 'excepthook', lambda error: seen.append(str(error.exc_value)))

  class Broken:
    def __init__(self, message):
      self.message = message

    def __del__(self):
      raise RuntimeError(self.message)

  def fail():
    raise RuntimeError(LOUD[1])

  with quiet.quietly():
    assert logger.level == logging.CRITICAL
    for message in SILENT:
      Broken(message)
    Broken(LOUD[0])
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
  # What other tests have left behind may complain meanwhile.
  ours = [message for message in seen if message in (*LOUD, *SILENT)]
  assert ours == LOUD
  assert logger.level == logging.INFO


def test_hooks_are_restored_after_an_error():
  before = sys.unraisablehook, threading.excepthook
  with pytest.raises(KeyError), quiet.quietly():
    raise KeyError
  assert (sys.unraisablehook, threading.excepthook) == before
