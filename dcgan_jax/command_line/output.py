"""Standard output and standard error that never block a run: a stalled reader does not hold it up."""

import atexit
import collections
import contextlib
import os
import sys
import threading
import time
from typing import Any

from absl import logging

PATIENCE = 1.0  # seconds to wait for a stalled reader, and again at exit
MOST = 1000  # lines queued for a stalled reader; beyond that, the oldest are dropped


def open_missing() -> None:
  """Opens closed standard streams, as by `>&-`, on /dev/null.

  Otherwise the next file to be opened, maybe a checkpoint, would become standard output.
  """
  for number, (name, mode) in enumerate({'stdin': 'r', 'stdout': 'w', 'stderr': 'w'}.items()):
    try:
      os.fstat(number)
    except OSError:
      os.set_inheritable(
        os.open(os.devnull, os.O_RDWR), True
      )  # `open` takes the lowest free descriptor: this one.
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  Closed by the end of the process.


def protect(name: str) -> None:
  """Replaces 'stdout' or 'stderr' by a `Stream` until the process ends."""
  own = getattr(sys, name)
  stream = Stream(own)
  setattr(sys, name, stream)
  if name == 'stderr':
    logging.get_absl_handler().python_handler.setStream(stream)  # It holds the original stream.

  def restore() -> None:
    if stream.drain() and getattr(sys, name) is stream:  # The thread does not run during finalisation.
      setattr(sys, name, own)

  atexit.register(restore)


def drain() -> None:
  """Waits briefly for the readers of the standard streams to take what is left."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, Stream):
      stream.drain()


class Stream:
  """A text stream that writes in a thread and never fails.

  `write` blocks until its lines are written, which keeps the order of all output. Once the reader stalls for
  `PATIENCE` seconds, lines are queued without blocking until the queue is empty again. Lines lost to a full
  queue, a full disk or a closed terminal are counted and noted before the next one that can be written.
  """

  def __init__(self, stream: Any):
    """Wraps a stream; nothing else may write to it."""
    stream.flush()
    self._stream, self._raw = stream, getattr(stream.buffer, 'raw', stream.buffer)
    self._turn = threading.Condition()
    self._waiting: collections.deque[str] = collections.deque()
    self._begun = ''  # an incomplete line, kept until it ends or `flush` is called
    self._busy = self._stalled = False  # whether a write is running; whether it has stalled
    self._lost = 0  # lines lost since the last successful write
    threading.Thread(target=self._work, name='output', daemon=True).start()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes the complete lines of a text, and keeps the rest."""
    with self._turn:
      lines, end, self._begun = (self._begun + text).rpartition('\n')
      self._give(lines + end)
    return len(text)

  def flush(self) -> None:
    """Writes the incomplete line."""
    with self._turn:
      text, self._begun = self._begun, ''
      self._give(text)

  def drain(self) -> bool:
    """Waits up to `PATIENCE` seconds for all output to be written; returns whether it was."""
    with self._turn:
      self.flush()
      return self._turn.wait_for(self._is_idle, PATIENCE)

  def _give(self, text: str) -> None:
    """Queues text for the thread, and waits for it unless the reader has stalled."""
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
    """Writes text, blocking; returns whether it succeeded."""
    rest = text.replace('\n', os.linesep).encode(self._stream.encoding or 'utf-8', 'backslashreplace')
    with contextlib.suppress(OSError, ValueError):  # full disk, closed pipe, terminal or stream
      while rest:
        done = self._raw.write(rest)
        if done is None:  # Another process has made the shared pipe or terminal non-blocking.
          time.sleep(0.01)
        else:
          rest = rest[done:]
      return True
    return False
