"""Trains DCGANs and uses them.

python main.py --config=configs/digits.py
python main.py --mode=sample --workdir=runs/digits --num=64 --out=digits.png
"""

import errno
import os
import sys
import threading
from typing import NoReturn

from dcgan_jax.command_line import output, parsing
from dcgan_jax.errors import InputError

SMALLER = (
  'choose a smaller train.batch_size, data.image_size or --num, or a larger train.accumulate; '
  '--mode=summary says what a step takes'
)
BROKEN_PIPE = 141  # the status of a process that SIGPIPE ends
BUG = 1  # of a traceback
LONGEST_END = 5.0  # seconds that threads and what they hold may take to end after a traceback


def main() -> int:
  """Runs the command of the mode; returns the exit status."""
  try:
    mode, argv = parsing.find_mode(sys.argv)
    if any(parsing.HELP.fullmatch(argument) for argument in argv):
      print(parsing.help_of(mode) if mode else f'{__doc__}\n{parsing.help_of_all()}')
      return 0
    mode = mode or 'train'
    if mode == 'train' and __name__ == '__main__':
      output.protect('stdout')  # A run of days needs no reader; that of other modes is what they print.
    values = parsing.parse(mode, argv)
    parsing.find_command(mode).run(values)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except (MemoryError, RuntimeError) as error:
    if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):  # how XLA says it
      raise
    print(f'error: out of memory: {parsing.one_line(error)[:300]}; {SMALLER}', file=sys.stderr)
    return 2
  except BrokenPipeError:  # as in `python main.py ... | head -1`
    return BROKEN_PIPE
  except OSError as error:
    if error.errno != errno.ENOSPC:
      raise
    what = error.filename or 'standard output, or another file'
    print(f'error: {what}: cannot be written: {error.strerror}; free some room', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130
  except SystemExit as end:  # after a signal
    return int(end.code or 0)
  return 0


def _leave(status: int) -> NoReturn:
  """Ends the process, also if threads of Orbax wait, maybe for an hour, for a save that has failed.

  After a bug no other thread holds it up for long, either.
  """
  try:
    sys.stdout.flush()
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python still has to write
    if isinstance(error, BrokenPipeError):
      status = BROKEN_PIPE
    elif status == 0:
      print(f'error: standard output: cannot be written: {error.strerror}', file=sys.stderr)
      status = 2
  if any(type(thread).__module__.startswith('orbax') for thread in threading.enumerate()):
    output.drain()
    os._exit(status)
  if status == BUG:
    last = threading.Timer(LONGEST_END, os._exit, [status])
    last.daemon = True
    last.start()
  sys.exit(status)


def _ask_for_huge_pages() -> None:
  """Asks Linux for memory in pages of 2 MiB, which takes a tenth off a train step on CPU.

  XLA's buffers are new to the process in every step, and small pages are mapped one by one: a step of
  `cifar10_32` takes 0.39 s instead of 0.44 s. glibc reads this setting only when a process starts, so this
  one starts itself again, under the same process number. A user's own GLIBC_TUNABLES are left alone.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)


if __name__ == '__main__':
  output.open_missing()
  _ask_for_huge_pages()
  sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]  # Names of files may be any bytes.
  output.protect('stderr')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  try:
    status = main()
  except BaseException as bug:
    sys.excepthook(type(bug), bug, bug.__traceback__)
    status = BUG
  _leave(status)
