"""Runs main.py in processes forked from one with the libraries imported, which saves time."""

import atexit
import functools
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).parents[1]
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


def run(arguments, environment):
  """Runs main.py as a user would, except for the imports; returns the finished process.

  Args:
    arguments: Command-line arguments.
    environment: Environment variables. Those that JAX reads on import must be this
      process's own, except for JAX_NUMPY_DTYPE_PROMOTION.
  """
  with tempfile.TemporaryDirectory() as folder:
    printed = [pathlib.Path(folder, name) for name in ('stdout', 'stderr')]
    process = SERVER.Process(target=_main, args=(arguments, environment, printed))
    process.start()
    process.join()
    return subprocess.CompletedProcess(
      ['main.py', *arguments], process.exitcode, *(path.read_text() for path in printed)
    )


class Started:
  """A process of main.py that runs, with what `subprocess.Popen` has; its errors are printed to its stdout.

  Attributes:
    stdout: what it prints, to be read line by line.
  """

  def __init__(self, arguments, environment, heartbeat=None):
    """Starts it.

    Args:
      arguments: see `run`.
      environment: see `run`.
      heartbeat: seconds without a sign of life after which it takes another process for dead, if not JAX's.
    """
    self._pipe, writer = SERVER.Pipe(duplex=False)
    self._process = SERVER.Process(target=_main, args=(arguments, environment, (writer,), heartbeat))
    self._process.start()
    writer.close()
    self.stdout = open(self._pipe.fileno(), closefd=False)  # noqa: SIM115

  @property
  def returncode(self):
    """The exit status, or a negative signal; None while it runs."""
    return self._process.exitcode

  def send_signal(self, number):
    """Sends a signal."""
    os.kill(self._process.pid, number)

  def kill(self):
    """Kills the process."""
    self._process.kill()

  def communicate(self, timeout=240):
    """Waits for the end and kills it after so many seconds; returns what it printed, and None."""
    watch = threading.Timer(timeout, self.kill)
    watch.start()
    printed = self.stdout.read()
    self._process.join()
    watch.cancel()
    self.stdout.close()
    self._pipe.close()
    return printed, None


def _main(arguments, environment, outputs, heartbeat=None):
  """Becomes the process of main.py, which prints to one file or pipe, or to two."""
  import jax

  for number, output in zip((1, 2), outputs * 2):
    is_path = isinstance(output, pathlib.Path)
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if is_path else output.fileno(), number)
  sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115
  sys.stderr = open(2, 'w', buffering=1, errors='backslashreplace', closefd=False)  # noqa: SIM115
  os.chdir(ROOT)
  os.environ.clear()
  os.environ.update(environment, GLIBC_TUNABLES='')  # With them set, main.py does not start itself again.
  jax.config.update('jax_numpy_dtype_promotion', environment['JAX_NUMPY_DTYPE_PROMOTION'])
  if heartbeat:
    jax.distributed.initialize = functools.partial(
      jax.distributed.initialize, heartbeat_timeout_seconds=heartbeat
    )
  sys.argv = ['main.py', *arguments]
  try:
    runpy.run_path('main.py', run_name='__main__')
  finally:
    atexit._run_exitfuncs()  # Processes of multiprocessing leave them out.
