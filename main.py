"""Trains and uses DCGANs.

python main.py --config=configs/digits.py
python main.py --mode=sample --workdir=runs/digits --num=64 --out=digits.png
"""

# Ctrl-C is handled before the slow imports.

import errno
import os
import sys

from dcgan_jax.command_line import exits

if __name__ == '__main__':
  exits.hear_interrupts()

from dcgan_jax.command_line import output, parsing
from dcgan_jax.errors import InputError

EXHAUSTED = {  # errors of a machine, not of this code: what cannot be done with a file, and the remedy
  errno.ENOSPC: ('written', 'free some room'),
  errno.EDQUOT: ('written', 'free some room'),
  errno.EMFILE: ('opened', 'raise the limit, as by `ulimit -n 1024`'),
  errno.ENFILE: ('opened', 'close other programs'),
}
SMALLER = (
  'choose a smaller train.batch_size, data.image_size or --num, or a larger train.accumulate; '
  '--mode=summary says what a step takes'
)


def main() -> int:
  """Runs the command of a mode; returns the exit status."""
  try:
    mode, argv = parsing.find_mode(sys.argv)
    if any(parsing.HELP.fullmatch(argument) for argument in argv):
      print(parsing.help_of(mode) if mode else f'{__doc__}\n{parsing.help_of_all()}')
      return 0
    mode = mode or 'train'
    if mode == 'train' and __name__ == '__main__':
      output.protect('stdout')  # A long run needs no reader; the output of other modes is their result.
    values = parsing.parse(mode, argv)
    parsing.find_command(mode).run(values)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except (MemoryError, RuntimeError) as error:
    if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):  # XLA's status
      raise
    print(f'error: out of memory: {parsing.one_line(error)[:300]}; {SMALLER}', file=sys.stderr)
    return 2
  except ValueError as error:
    if 'jax' in sys.modules or 'jax._src' not in sys.modules:
      raise
    # JAX reads its environment variables when it is imported, and one of them is wrong.
    print(
      f'error: JAX_...: {parsing.one_line(error)}; correct that variable, or leave it out', file=sys.stderr
    )
    return 2
  except BrokenPipeError:  # e.g. `python main.py ... | head -1`
    return exits.BROKEN_PIPE
  except OSError as error:
    if error.errno not in EXHAUSTED:
      raise
    verb, remedy = EXHAUSTED[error.errno]
    what = error.filename or ('a file' if verb == 'opened' else 'standard output, or another file')
    print(f'error: {what}: cannot be {verb}: {error.strerror}; {remedy}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return exits.INTERRUPTED
  except SystemExit as end:  # after a signal
    if isinstance(end.code, str):  # like Python for `sys.exit(TEXT)`
      print(end.code, file=sys.stderr)
      return exits.BUG
    return int(end.code or 0)
  return 0


def _ask_for_huge_pages() -> None:
  """Asks Linux for pages of 2 MiB, which makes a train step on CPU a tenth faster.

  XLA allocates its buffers anew in every step, and small pages are mapped one by one: a step of `cifar10_32`
  takes 0.39 s instead of 0.44 s. glibc reads this setting only when a process starts, so this process
  replaces itself, with the same process id. A user's own GLIBC_TUNABLES are left alone.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)


if __name__ == '__main__':
  output.open_missing()
  _ask_for_huge_pages()
  sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]  # File names may be any bytes.
  output.protect('stderr')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ['MPLBACKEND'] = 'agg'  # No window is opened, and a backend chosen by the user may be missing.
  try:
    status = main()
  except BaseException as bug:
    sys.excepthook(type(bug), bug, bug.__traceback__)
    status = exits.BUG
  exits.leave(status)
