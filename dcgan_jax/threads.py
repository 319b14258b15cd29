"""Threads that work ahead, or in the background."""

import collections
import functools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Item = TypeVar('Item')
Made = TypeVar('Made')


class cached_property(functools.cached_property[Made]):  # noqa: N801  It takes the place of functools'.
  """A cached property that only one thread computes, as functools' did before Python 3.12."""

  def __init__(self, compute: Callable[[Any], Made]):
    super().__init__(compute)
    self._turn = threading.RLock()

  def __get__(self, instance: Any, owner: type | None = None) -> Any:
    with self._turn:
      return super().__get__(instance, owner)


def map_ahead(
  function: Callable[[Item], Made], items: Iterable[Item], threads: int, ahead: int
) -> Generator[Made, None, None]:
  """Yields the result of a function for each item, in order, while threads work on the next ones.

  Unlike `Executor.map` it takes endless items, and holds at most `ahead` results in memory, however slow the
  consumer is. The threads end when the generator is closed.

  Args:
    function: The function. An exception is raised where the result would be yielded.
    items: The items, read in this thread, one at a time.
    threads: Number of threads.
    ahead: Maximum number of items in flight, or done and not yielded.
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
  """A thread that runs tasks one after the other.

  Attributes:
    last: Future of the most recent task; when it is done, all earlier ones are.
  """

  def __init__(self, name: str, most: int):
    """Starts without a task.

    Args:
      name: Name of the thread.
      most: Maximum number of tasks that wait or run; `do` blocks while there are as many.
    """
    self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    self._room = threading.BoundedSemaphore(most)
    self._error: BaseException | None = None
    self.last: Future[Any] = Future()
    self.last.set_result(None)

  def do(self, function: Callable[..., Any], *arguments: Any) -> None:
    """Queues a call of a function; blocks while the queue is full.

    Raises:
      Exception: An earlier task raised it.
    """
    self.check()
    self._room.acquire()
    self.last = self._pool.submit(self._call, function, *arguments)

  def drain(self) -> None:
    """Waits for all tasks.

    Raises:
      Exception: A task raised it.
    """
    wait([self.last])
    self.check()

  def check(self) -> None:
    """Raises the first exception of a task, if there is one; each is raised once."""
    if self._error is not None:
      error, self._error = self._error, None
      raise error

  def close(self) -> None:
    """Waits for all tasks and ends the thread."""
    self._pool.shutdown()

  def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
    try:
      function(*arguments)
    except BaseException as error:
      self._error = self._error or error  # The first one says most.
    finally:
      self._room.release()
