"""Work in threads, ahead of its use."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar('Item')
Made = TypeVar('Made')


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
