"""Runs main.py in processes that are forked from one with the libraries imported, which saves time."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
  ['jax', 'matplotlib.figure', 'dcgan_jax.training', 'dcgan_jax.sampling', 'dcgan_jax.evaluation.evaluate']
)


def run(arguments, environment):
  """Runs main.py as a user starts it, except for the imports; returns the finished process.

  Args:
    arguments: of the command line.
    environment: the variables that the process has. Those that JAX reads when it is imported must be this
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


def _main(arguments, environment, printed):
  """Becomes the process of main.py."""
  import jax

  for number, path in enumerate(printed, 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
  os.chdir(ROOT)
  os.environ.clear()
  os.environ.update(environment, GLIBC_TUNABLES='')  # With them set, main.py does not start itself again.
  jax.config.update('jax_numpy_dtype_promotion', environment['JAX_NUMPY_DTYPE_PROMOTION'])
  sys.argv = ['main.py', *arguments]
  runpy.run_path('main.py', run_name='__main__')
