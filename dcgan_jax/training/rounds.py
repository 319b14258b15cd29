"""Groups train steps into rounds, each of which is one call of a compiled program."""

import ctypes
import math
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import jax
from jax.sharding import Mesh

from dcgan_jax.core.train_state import GanState
from dcgan_jax.data.feed import Round
from dcgan_jax.devices.placement import Batches
from dcgan_jax.devices.programs import LONGEST_INNER
from dcgan_jax.records.metrics import Values
from dcgan_jax.records.schedule import Schedule
from dcgan_jax.runs import starting
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.settings import Settings

SMALL = 64 * 16 * 16 * 256  # pixels of a batch times the generator's widest layer


def prepare(
  experiment: Experiment, folder: Path, schedule: Schedule, mesh: Mesh
) -> tuple['TakeRound', Generator[Round, None, None]]:
  """Returns the function that takes rounds, and the endless input of each round from the start on.

  Args:
    experiment: The run.
    folder: The workdir, which has the age of a moving average that was taken from another run.
    schedule: What is due; a round ends where anything is.
    mesh: All devices.
  """
  most = most_steps(experiment.settings)
  inner = inner_length(schedule, most)
  rounds = experiment.feed().rounds(mesh, schedule.start, round_length(schedule, most, inner))
  return TakeRound(starting.with_age_of_average(experiment, folder), mesh, inner), rounds


class TakeRound:
  """Takes the steps of a round, with a program that is compiled when a round first needs it.

  Rounds that are not a multiple of the inner loop use a second program, whose inner loop has one step.
  """

  def __init__(self, experiment: Experiment, mesh: Mesh, inner: int | None = None):
    """Compiles nothing yet.

    Args:
      experiment: The run.
      mesh: All devices.
      inner: Length of the inner loop, see `inner_length`; None for programs of a single step.
    """
    self._experiment, self._mesh, self._inner = experiment, mesh, inner
    self._compiled: dict[int | None, jax.stages.Compiled] = {}  # by the length of the inner loop

  def must_compile(self, batches: Batches) -> bool:
    """Returns whether the program for such a round is not compiled yet."""
    return self._inner_for(batches) not in self._compiled

  def compile(self, state: GanState, batches: Batches) -> None:
    """Compiles the program for such a round."""
    inner = self._inner_for(batches)
    program = self._experiment.train_program(self._mesh, inner)
    self._compiled[inner] = program.lower(state, batches).compile()
    _trim_heap()

  def __call__(self, state: GanState, batches: Batches) -> tuple[GanState, Values, Values]:
    """Returns the new state, the sums of the metrics over the steps, and the metrics of the last step."""
    if self.must_compile(batches):
      self.compile(state, batches)
    return self._compiled[self._inner_for(batches)](state, batches)

  def _inner_for(self, batches: Batches) -> int | None:
    return self._inner if self._inner is None or batches.steps % self._inner == 0 else 1


def _trim_heap() -> None:
  """Returns freed heap memory to the system after compiling; glibc would keep a tenth of a run's memory."""
  if sys.platform == 'linux' and (trim := getattr(ctypes.CDLL(None), 'malloc_trim', None)):
    trim(0)


def most_in_flight() -> int:
  """Returns the maximum number of rounds in flight: enough that an accelerator never waits.

  On a CPU a round takes longer, and a signal is noticed only between two of them.
  """
  return 1 if jax.default_backend() == 'cpu' else 3


def most_steps(settings: Settings, platform: str | None = None) -> int:
  """Returns the maximum number of steps in a round; by default as many as hide the host's work.

  Args:
    settings: The run's settings.
    platform: 'cpu' | 'gpu' | 'tpu'; None for this process's devices.
  """
  if settings.train.steps_per_dispatch:
    return settings.train.steps_per_dispatch
  if (platform or jax.default_backend()) == 'cpu':
    return 1  # XLA:CPU runs loops at half the speed.
  small = (
    settings.train.images_per_step * math.prod(settings.data.size) * max(settings.generator.widths) <= SMALL
  )
  return 100 if small else 10  # A signal is noticed after some rounds.


def inner_length(schedule: Schedule, most: int) -> int | None:
  """Returns the length of the inner loop; None for rounds of a single step, whose program has no loop.

  It divides the steps between any two things that are due, so that one program serves almost all rounds.

  Args:
    schedule: What is due.
    most: Maximum number of steps in a round.
  """
  if most == 1:
    return None
  unit = math.gcd(*schedule.intervals)
  return max(n for n in range(1, min(most, LONGEST_INNER) + 1) if unit % n == 0)


def round_length(schedule: Schedule, most: int, inner: int | None) -> Callable[[int], int]:
  """Returns the function from a step to the number of steps in the round that begins there.

  A round ends where something is due, or else where it can at a multiple of the inner loop.
  """

  def count(step: int) -> int:
    steps = min(most, schedule.steps_until_due(step))
    if inner is None or steps < inner:
      return steps
    return inner - step % inner if step % inner else steps - steps % inner

  return count
