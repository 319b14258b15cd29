"""Processes of main.py forked from one with the libraries imported, which saves most of the start-up time."""

import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
# Workers import everything that a run needs and stay single-threaded, so that they can fork.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
  [
    'jax',
    'matplotlib.figure',
    'dcgan_jax.training.loop',
    'dcgan_jax.runs.sampling',
    'dcgan_jax.evaluation.evaluate',
  ]
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE)
PR_SET_PDEATHSIG = 1  # option of prctl(2)


class Child:
  """A process of main.py, forked from this single-threaded one, and killed when it ends.

  Attributes:
    pid: Process ID.
    status: Exit status as in `subprocess.Popen.returncode`; None while it runs.
    age: Seconds of run time, scaled by its share of a core if others compete for the cores.
    peak: Peak memory in MiB, once it has ended.
  """

  def __init__(
    self,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    outputs: tuple[int | None, int | None],
    first: Sequence[Callable[[], object]] = (),
  ):
    """Forks the process.

    Args:
      arguments: Command-line arguments.
      environment: Environment variables. Those that JAX reads on import are inherited from this process
        instead, except for JAX_NUMPY_DTYPE_PROMOTION and JAX_ENABLE_X64.
      outputs: Descriptors of standard output and standard error; None for closed.
      first: Functions to call before anything else.
    """
    self.status: int | None = None
    self.age = self.peak = 0.0
    self._polled = time.monotonic()
    self.pid = os.fork()
    if not self.pid:
      _become(arguments, environment, outputs, first)

  def poll(self) -> int | None:
    """Returns the status, None while it runs."""
    now = time.monotonic()
    self.age, self._polled = self.age + (now - self._polled) * _share(), now
    if self.status is None:
      pid, status, usage = os.wait4(self.pid, os.WNOHANG)
      if pid:
        self.status, self.peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
    return self.status

  def wait(self, seconds: float) -> bool:
    """Waits for the process to end; returns False if its age has grown by `seconds` before that."""
    end = self.age + seconds
    while self.poll() is None:
      if self.age > end:
        return False
      time.sleep(0.001)
    return True

  def send_signal(self, number: int) -> None:
    """Sends a signal unless the process has ended."""
    if self.poll() is None:
      os.kill(self.pid, number)


def _share() -> float:
  """Returns the share of a core that each runnable process has now."""
  with contextlib.suppress(OSError):
    running = int(Path('/proc/loadavg').read_text().split()[3].partition('/')[0])
    return min(1.0, (os.cpu_count() or 1) / max(1, running))
  return 1.0


def _become(
  arguments: Sequence[str],
  environment: Mapping[str, str],
  outputs: tuple[int | None, int | None],
  first: Sequence[Callable[[], object]],
) -> NoReturn:
  """Turns this new fork into a process started as `python main.py ARGUMENTS`."""
  status = 1
  try:
    import jax

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for each in SIGNALS:
      signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, output in zip((1, 2), outputs, strict=True):
      os.close(number) if output is None else os.dup2(output, number)
    # As Python does at start-up: None for closed streams. mypy takes two of the names for constants.
    is_terminal = outputs[0] is not None and os.isatty(1)
    sys.stdout = sys.__stdout__ = _stream(1, 'strict', is_terminal)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, 'backslashreplace', True)  # type: ignore[misc]
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment, GLIBC_TUNABLES='')  # so that main.py does not re-execute itself
    jax.config.update('jax_numpy_dtype_promotion', environment.get('JAX_NUMPY_DTYPE_PROMOTION', 'standard'))
    jax.config.update('jax_enable_x64', environment.get('JAX_ENABLE_X64') == '1')
    for act in first:
      act()
    sys.argv = ['main.py', *arguments]
    runpy.run_path('main.py', run_name='__main__')
    status = 0
  except SystemExit as end:
    status = end.code if isinstance(end.code, int) else int(end.code is not None)
  except BaseException:
    with contextlib.suppress(Exception):  # Standard error may be full or closed.
      traceback.print_exc()
  finally:
    ctypes.pythonapi.Py_Exit(status)  # joins threads and flushes streams like the interpreter
    os._exit(status)


def _stream(number: int, errors: str, line_buffering: bool):  # type: ignore[no-untyped-def]
  """Returns a standard stream, None if it is closed."""
  try:
    os.fstat(number)
  except OSError:
    return None
  return open(
    number, 'w', encoding='utf-8', errors=errors, buffering=1 if line_buffering else -1, closefd=False
  )
