"""How the steps of a run reach the devices: several in one program, which is compiled before the first."""

import ctypes
import math
import sys
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from dcgan_jax.core.train_state import GanState
from dcgan_jax.devices import parallel
from dcgan_jax.records.metrics import Values
from dcgan_jax.records.plan import Plan
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.settings import Settings

SMALL = 64 * 16 * 16 * 256  # pixels of a batch times the generator's widest layer


class Steps:
  """Takes blocks of a run's steps: the function of `parallel.compile_steps`.

  A block of another number of steps than a multiple of `loop`, see `steps_of_loop`, has a program of its own.
  """

  def __init__(self, parts: Experiment, mesh: Mesh, loop: int = 0):
    self._loop = max(loop, 1)
    whole = parts.compile_steps(mesh, loop)
    self._programs = {True: whole, False: parts.compile_steps(mesh, 1) if loop > 1 else whole}
    self._compiled: dict[bool, jax.stages.Compiled] = {}

  def must_compile(self, batches: parallel.Batches) -> bool:
    """Returns whether the program for such a block is not compiled yet."""
    return self._is_whole(batches) not in self._compiled

  def compile(self, state: GanState, batches: parallel.Batches) -> None:
    """Compiles the program for such a block."""
    whole = self._is_whole(batches)
    self._compiled[whole] = self._programs[whole].lower(state, batches).compile()
    _give_memory_back()

  def __call__(self, state: GanState, batches: parallel.Batches) -> tuple[GanState, Values, Values]:
    """Takes the steps of a block."""
    if self.must_compile(batches):
      self.compile(state, batches)
    return self._compiled[self._is_whole(batches)](state, batches)

  def _is_whole(self, batches: parallel.Batches) -> bool:
    return bool(batches.steps % self._loop == 0)


def _give_memory_back() -> None:
  """Returns to Linux what compiling has freed, of which glibc would keep a tenth of the memory of a run."""
  if sys.platform == 'linux' and (trim := getattr(ctypes.CDLL(None), 'malloc_trim', None)):
    trim(0)


def programs_in_flight() -> int:
  """Returns how many programs the devices have before them: so many that an accelerator never waits.

  A CPU works on a program for longer, and a signal is noticed only between two of them.
  """
  return 1 if jax.default_backend() == 'cpu' else 3


def steps_per_dispatch(chosen: Settings, platform: str | None = None) -> int:
  """Returns how many steps one program has at most: as configured or, by default, what hides the host's work.

  Args:
    chosen: the settings.
    platform: 'cpu', 'gpu' or 'tpu'; None for that of this process's devices.
  """
  if chosen.train.steps_per_dispatch:
    return chosen.train.steps_per_dispatch
  if (platform or jax.default_backend()) == 'cpu':
    return 1  # XLA:CPU runs loops at half the speed.
  small = chosen.train.images_per_step * math.prod(chosen.data.size) * max(chosen.generator.widths) <= SMALL
  return 100 if small else 10  # A signal is noticed after some programs.


def steps_of_loop(plan: Plan, most: int) -> int:
  """Returns how many steps the devices take before they ask for more, 0 for programs of a single step.

  It divides the steps between any two things that are due, so that one program serves almost all blocks.

  Args:
    plan: what is due.
    most: steps of a program.
  """
  if most == 1:
    return 0
  unit = math.gcd(*plan.intervals)
  return max(n for n in range(1, min(most, parallel.LOOP) + 1) if unit % n == 0)


def steps_of_block(chosen: Settings, plan: Plan, loop: int) -> Callable[[int], int]:
  """Returns the function from a step to how many steps the program has that begins there.

  It ends at the next step after which something is due.
  """
  most = steps_per_dispatch(chosen)

  def count(step: int) -> int:
    steps = min(most, plan.steps_until_next(step))
    if loop <= 1 or steps < loop:
      return steps
    return loop - step % loop if step % loop else steps - steps % loop

  return count
