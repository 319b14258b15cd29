"""Standard output and errors of a process that has more to do than to print: no reader holds it up."""

import atexit
import collections
import contextlib
import os
import sys
import threading
import time
from typing import Any

from absl import logging

PATIENCE = 1.0  # seconds that a process waits for a reader who takes nothing, and again at its end
MOST = 1000  # lines that wait for such a reader; of more the oldest are dropped


def open_missing() -> None:
  """Gives a process that was started without some of its standard streams, as by `>&-`, ones to nowhere.

  Otherwise libraries would take the next file that is opened, maybe a checkpoint, for standard output.
  """
  for number, (name, mode) in enumerate({'stdin': 'r', 'stdout': 'w', 'stderr': 'w'}.items()):
    try:
      os.fstat(number)
    except OSError:
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # It has the lowest number that is free: this.
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  It stays open as long as the process lives.


def protect(name: str) -> None:
  """Puts a `Stream` in the place of 'stdout' or 'stderr', until the process ends."""
  own = getattr(sys, name)
  stream = Stream(own)
  setattr(sys, name, stream)
  if name == 'stderr':
    logging.get_absl_handler().python_handler.setStream(stream)  # It was made with the other one.

  def restore() -> None:
    if stream.drain() and getattr(sys, name) is stream:  # Python has no threads on its way out.
      setattr(sys, name, own)

  atexit.register(restore)


def drain() -> None:
  """Gives those who read the standard streams a last, short time to take what is left."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, Stream):
      stream.drain()


class Stream:
  """A text stream whose writing is done by a thread, and never fails.

  Who prints a line waits until it is written, so that the order of all output is that of the prints. From a
  reader who takes nothing for `PATIENCE` seconds on, lines are kept for the thread and nobody waits, until
  all are written. What is dropped because it would be too much, or because a disk is full or a terminal gone,
  is counted, and the next line that can be written follows a note of it.
  """

  def __init__(self, stream: Any):
    """Takes the place of a stream; nothing else may write to that one."""
    stream.flush()
    self._stream, self._raw = stream, getattr(stream.buffer, 'raw', stream.buffer)
    self._turn = threading.Condition()
    self._waiting: collections.deque[str] = collections.deque()
    self._begun = ''  # a line without an end, which waits for it or for `flush`
    self._busy = self._stalled = False  # whether something is being written; whether that takes too long
    self._lost = 0  # lines since the last one that was written
    threading.Thread(target=self._work, name='output', daemon=True).start()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Takes text, of which whole lines are written."""
    with self._turn:
      lines, end, self._begun = (self._begun + text).rpartition('\n')
      self._give(lines + end)
    return len(text)

  def flush(self) -> None:
    """Writes a line that has no end yet."""
    with self._turn:
      text, self._begun = self._begun, ''
      self._give(text)

  def drain(self) -> bool:
    """Waits until all is written, for `PATIENCE` seconds at most; returns whether it is."""
    with self._turn:
      self.flush()
      return self._turn.wait_for(self._is_idle, PATIENCE)

  def _give(self, text: str) -> None:
    """Gives the thread something to write, and waits if the reader is not known to take nothing."""
    if not text:
      return
    if len(self._waiting) == MOST:
      self._lost += self._waiting.popleft().count('\n')
    self._waiting.append(text)
    self._turn.notify_all()
    if not self._stalled:
      self._stalled = not self._turn.wait_for(self._is_idle, PATIENCE)

  def _is_idle(self) -> bool:
    return not self._busy and not self._waiting

  def _work(self) -> None:
    while True:
      with self._turn:
        self._turn.wait_for(lambda: self._waiting)
        text, lost, self._lost, self._busy = self._waiting.popleft(), self._lost, 0, True
      note = f'[{lost} lines of output are missing here: they could not be written]\n' if lost else ''
      written = self._put(note + text)
      with self._turn:
        self._busy = False
        self._stalled = self._stalled and bool(self._waiting)
        self._lost += 0 if written else lost + text.count('\n')
        self._turn.notify_all()

  def _put(self, text: str) -> bool:
    """Writes text, for as long as it takes; returns whether the file, pipe or terminal has taken it."""
    rest = text.replace('\n', os.linesep).encode(self._stream.encoding or 'utf-8', 'backslashreplace')
    with contextlib.suppress(OSError, ValueError):  # no room, no reader, no terminal; a stream that is closed
      while rest:
        done = self._raw.write(rest)
        if done is None:  # Another process with the same pipe or terminal has made it non-blocking.
          time.sleep(0.01)
        else:
          rest = rest[done:]
      return True
    return False
