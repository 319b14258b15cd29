"""Work in threads: ahead of its use, or beside other work."""

import collections
import functools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Item = TypeVar('Item')
Made = TypeVar('Made')


class cached_property(functools.cached_property[Made]):  # noqa: N801  It takes the place of functools'.
  """A cached property that one thread computes while others wait, as functools' did before Python 3.12."""

  def __init__(self, compute: Callable[[Any], Made]):
    super().__init__(compute)
    self._turn = threading.RLock()

  def __get__(self, instance: Any, owner: type | None = None) -> Any:
    with self._turn:
      return super().__get__(instance, owner)


def map_ahead(
  function: Callable[[Item], Made], items: Iterable[Item], threads: int, ahead: int
) -> Generator[Made, None, None]:
  """Yields what a function makes of each item, in their order; threads work on those that come next.

  Unlike `Executor.map` it takes items without end, and holds no more than `ahead` results in memory, however
  slow the consumer is. The threads end when the generator is closed.

  Args:
    function: called in the threads. What it raises is raised where its result would be yielded.
    items: read in this thread, one at a time.
    threads: how many.
    ahead: how many items are in work, or done and not yielded.
  """
  pool = ThreadPoolExecutor(threads)
  waiting: collections.deque[Future[Made]] = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) >= ahead:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)


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
    self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    self._room = threading.BoundedSemaphore(most)
    self._error: BaseException | None = None
    self.last: Future[Any] = Future()
    self.last.set_result(None)

  def do(self, function: Callable[..., Any], *arguments: Any) -> None:
    """Gives it a function to call, and waits only for room.

    Raises:
      Exception: what an earlier function raised.
    """
    self.check()
    self._room.acquire()
    self.last = self._pool.submit(self._call, function, *arguments)

  def drain(self) -> None:
    """Waits until all is done.

    Raises:
      Exception: what a function raised.
    """
    wait([self.last])
    self.check()

  def check(self) -> None:
    """Raises what a function has raised, if one has; each error is raised once."""
    if self._error is not None:
      error, self._error = self._error, None
      raise error

  def close(self) -> None:
    """Waits until all is done, and ends the thread."""
    self._pool.shutdown()

  def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
    try:
      function(*arguments)
    except BaseException as error:
      self._error = self._error or error  # The first one says most.
    finally:
      self._room.release()
