import contextlib
import itertools
import threading
import time
from concurrent.futures import wait

import pytest

from dcgan_jax.threads import Background, map_ahead


def test_results_are_in_order_and_few_are_ahead():
  begun = []

  def square(x):
    begun.append(x)
    time.sleep(0.002 * (x % 3))
    return x * x

  with contextlib.closing(map_ahead(square, itertools.count(), threads=3, ahead=4)) as made:
    for x in range(20):
      assert next(made) == x * x
      assert max(begun) < x + 4
  assert list(map_ahead(square, range(3), threads=2, ahead=8)) == [0, 1, 4]
  assert list(map_ahead(square, [], threads=2, ahead=1)) == []


def test_what_a_thread_raises_is_raised_in_its_place():
  made = map_ahead(lambda x: 1 // x, [1, 1, 0, 1], threads=2, ahead=4)
  assert [next(made), next(made)] == [1, 1]
  with pytest.raises(ZeroDivisionError):
    next(made)
  assert list(made) == []


def test_closing_ends_the_threads():
  before = threading.active_count()
  made = map_ahead(time.sleep, itertools.repeat(0.01), threads=3, ahead=50)
  next(made)
  assert threading.active_count() > before
  made.close()
  assert threading.active_count() == before


def test_background_keeps_the_order_and_waits_only_for_room():
  gate, done = threading.Event(), []
  work = Background('test', most=3)
  work.do(gate.wait)
  for i in range(2):
    work.do(done.append, i)
  waits = threading.Thread(target=work.do, args=(done.append, 2))
  waits.start()
  waits.join(0.1)
  assert waits.is_alive() and not done  # There is room for three.
  gate.set()
  waits.join()
  work.drain()
  assert done == [0, 1, 2]
  work.close()


def test_errors_in_the_background_are_raised_once_and_later_work_is_done():
  work, done = Background('test', most=9), []
  work.do(int, 'x')
  wait([work.last])
  with pytest.raises(ValueError, match='invalid literal'):
    work.do(done.append, 1)
  work.do(done.append, 2)
  work.drain()
  assert done == [2]
  work.close()
