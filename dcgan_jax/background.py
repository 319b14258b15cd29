"""Work that is done beside training, in a thread, in the order in which it is given."""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

Future = concurrent.futures.Future[Any]


class Background:
  """A thread that does one thing after the other.

  Attributes:
    last: what was given to it last, which ends when all before it have ended.
  """

  def __init__(self, name: str, most: int):
    """Starts without anything to do.

    Args:
      name: of the thread.
      most: how many things may wait or be under way; who gives it more waits until one is done.
    """
    self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
    self._room = threading.BoundedSemaphore(most)
    self._error: BaseException | None = None
    self.last: Future = Future()
    self.last.set_result(None)

  def do(self, function: Callable[..., Any], *arguments: Any) -> Future:
    """Gives it a function to call, and waits only for room.

    Raises:
      Exception: what an earlier function raised.
    """
    self.check()
    self._room.acquire()
    self.last = self._pool.submit(function, *arguments)
    self.last.add_done_callback(self._done)
    return self.last

  def drain(self) -> None:
    """Waits until all is done.

    Raises:
      Exception: what a function raised.
    """
    concurrent.futures.wait([self.last])
    self.check()

  def close(self) -> None:
    """Waits until all is done, and ends the thread."""
    self._pool.shutdown()

  def _done(self, future: Future) -> None:
    self._room.release()
    self._error = self._error or future.exception()

  def check(self) -> None:
    """Raises what a function has raised, if one has, once."""
    if self._error is not None:
      error, self._error = self._error, None
      raise error
