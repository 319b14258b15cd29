"""Measures the host overhead per step: a whole run against its bare steps, on an idle device.

python benchmarks/host_overhead.py --steps=20000
python benchmarks/host_overhead.py --steps=40000 --device_ms=2

The networks are minimal, so that the host takes nearly all of the time: the loop, metrics every 50 steps, a
sample grid every 100, a checkpoint every 1000. With `--device_ms` each step also sleeps, like a host beside a
device; then the extra time of the run over its steps counts. This needs a C++ compiler. Rounds have at most
`--together` steps, and three are in flight, as on an accelerator.

The bare steps are calls of the same compiled program on the same batch, without waiting for results. They
take turns with the run, a thousand steps each, and medians over the turns count.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from benchmarks import processes
from dcgan_jax import settings
from dcgan_jax.runs import experiment
from dcgan_jax.training import loop, rounds

TINY = {
  'data.image_size': (8, 8),
  'latent.size': 2,
  'generator.widths': (2, 2),
  'discriminator.widths': (2, 2),
  'discriminator.norm': (False, True),
  'train.batch_size': 4,
  'train.augment': '',
  'train.ema_decay': 0.0,
  'sample.num': 16,
  'eval.every_steps': 0,
}
Times = np.ndarray  # float64 [3]; see `now`
TURN = 1000  # steps per turn; the first turn is ignored, because it compiles and saves for the first time
BETWEEN = 550  # steps since the last save, when the writers are idle


def now() -> Times:
  """Returns the time, the CPU time of this process and that of the calling thread, in seconds."""
  return np.array([time.perf_counter(), time.process_time(), time.thread_time()])


def asleep(make_train_step: Any, seconds: float) -> Any:
  """Returns a `make_train_step` whose steps also sleep for `seconds`; see `asleep.cc`."""
  source = Path(__file__).with_name('asleep.cc')
  with tempfile.TemporaryDirectory() as folder:
    library = Path(folder) / 'asleep.so'
    compiler = ['c++', '-std=c++17', '-shared', '-fPIC', f'-I{jax.ffi.include_dir()}']
    subprocess.run([*compiler, str(source), '-o', str(library)], check=True)
    function = ctypes.CDLL(str(library)).Asleep
  jax.ffi.register_ffi_target('asleep', jax.ffi.pycapsule(function), platform='cpu')

  def make(parts: Any, *which: Any) -> Any:
    train_step = make_train_step(parts, *which)

    def step(state: Any, *examples: Any) -> Any:
      sleep = jax.ffi.ffi_call('asleep', jax.ShapeDtypeStruct((), np.int32))
      # The sleep depends on the step, so that the compiler does not hoist it out of the loop.
      zero = 0.0 * sleep(state.step, seconds=np.float32(seconds))
      state, metrics = train_step(state, *examples)
      return state, metrics | {'loss_d': metrics['loss_d'] + zero}

    return step

  return make


class InTurns(rounds.TakeRound):
  """Takes a run's steps, and after each turn as many bare ones.

  Attributes:
    run: Times of the turns of the run.
    bare: Times of the turns of bare steps.
  """

  run: ClassVar[list[Times]] = []
  bare: ClassVar[list[Times]] = []
  _done, _begun = 0, None

  def __call__(self, state: Any, batches: Any) -> Any:
    """Takes the steps of a round, after a turn of bare ones if that is due."""
    if self._done > TURN and self._done % TURN == BETWEEN:
      jax.block_until_ready(state)
      if self._begun is not None:
        self.run.append(now() - self._begun)
        self.bare.append(self._take_bare(state, batches))
      self._begun = now()
    self._done += int(batches.steps)
    return super().__call__(state, batches)

  def _take_bare(self, state: Any, batches: Any) -> Times:
    """Returns the times of a turn of bare steps from a copy of a state."""
    state = jax.block_until_ready(jax.tree.map(jax.numpy.copy, state))
    begun = now()
    for _ in range(TURN // int(batches.steps)):
      state = super().__call__(state, batches)[0]
    jax.block_until_ready(state)
    return now() - begun


def main() -> None:
  """Trains, takes the bare steps, and prints both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--steps', type=int, default=20000)
  parser.add_argument('--together', type=int, default=50, help='steps of a program; 50 is divisible by it')
  parser.add_argument('--device_ms', type=float, default=0.0, help='that each step also sleeps')
  parser.add_argument('--folder', type=Path, help='of the run, on the disk that is to be tried')
  arguments = parser.parse_args()
  if arguments.device_ms:
    made = asleep(experiment.Experiment.train_step, arguments.device_ms / 1000)
    experiment.Experiment.train_step = made  # type: ignore[method-assign]
  config = processes.load_config('configs/digits.py')
  config.update_from_flattened_dict(TINY)
  config.train.num_steps = 2 * TURN + arguments.steps
  config.train.steps_per_dispatch = arguments.together
  rounds.TakeRound = InTurns  # type: ignore[misc]
  rounds.most_in_flight = lambda: 3
  with tempfile.TemporaryDirectory() as name:
    loop.run(settings.check(config), (arguments.folder or Path(name)) / 'run')

  run, bare = np.array(InTurns.run) / TURN, np.array(InTurns.bare) / TURN  # seconds per step, [turns, 3]
  print(f'{len(run)} turns of {TURN} steps, {arguments.together} in a program; microseconds a step:')
  print('| | time | CPU time of all threads | of the main thread |\n|---|---|---|---|')
  for name, values in (('run', run), ('bare steps', bare), ('difference', run - bare)):
    print(f'| {name} | ' + ' | '.join(f'{1e6 * value:.1f}' for value in np.median(values, 0)) + ' |')
  low, median, high = np.percentile(1 - bare[:, 0] / run[:, 0], (25, 50, 75))
  print(f'outside the steps: {median:.2%} of the time (the half of the turns: {low:.2%} to {high:.2%})')


if __name__ == '__main__':
  main()
