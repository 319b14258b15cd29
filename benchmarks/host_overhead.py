"""Measures what the host does for a step: a whole run against its bare steps, on a device that is never busy.

python benchmarks/host_overhead.py --steps=6000
python benchmarks/host_overhead.py --steps=3000 --device_ms=2

The networks are as small as they can be, so that nearly all time is the host's: the loop, metrics every 50
steps, a picture every 100, a checkpoint every 1000. With `--device_ms` each step also works for so long on
one core, which stands for a device beside the host; what counts then is how much longer the run takes than
its steps. Programs have `--together` steps at most, and three are in flight, as on an accelerator.

The bare steps are the same compiled program on the same batch, called without waiting for its results.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from benchmarks import processes
from dcgan_jax import experiment, settings, training

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
Times = np.ndarray  # float64 [3], see `now`
WARM = 1000  # steps that are left out: they compile, and save for the first time


def now() -> Times:
  """Returns the time in seconds, the CPU time of this process, and that of the calling thread."""
  return np.array([time.perf_counter(), time.process_time(), time.thread_time()])


def work(x: Any, count: Any) -> Any:
  """Returns a vector after so much work, which XLA:CPU does in one thread."""
  return jax.lax.fori_loop(0, count, lambda _, x: jax.numpy.sin(x), x)


def busy(make_train_step: Any, seconds: float) -> Any:
  """Returns the maker of train steps of which each takes so much longer, on one core."""
  vector, timed = jax.numpy.ones(1024), jax.jit(work)
  timed(vector, 1000).block_until_ready()
  start = time.perf_counter()
  timed(vector, 1000).block_until_ready()
  count = round(seconds / (time.perf_counter() - start) * 1000)

  def make(parts: Any, *which: Any) -> Any:
    train_step = make_train_step(parts, *which)

    def step(state: Any, *examples: Any) -> Any:
      state, metrics = train_step(state, *examples)
      # The work depends on the step, so that it is not taken out of the loop over steps.
      worked = work(vector + 0.0 * state.step, count)
      return state, metrics | {'loss_d': metrics['loss_d'] + 0.0 * worked[0]}

    return step

  return make


def main() -> None:
  """Trains, takes the bare steps, and prints both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--steps', type=int, default=6000)
  parser.add_argument('--together', type=int, default=50, help='steps of a program')
  parser.add_argument('--device_ms', type=float, default=0.0, help='that each step takes on one core')
  parser.add_argument('--folder', type=Path, help='of the run, on the disk that is to be tried')
  arguments = parser.parse_args()
  if arguments.device_ms:
    made = busy(experiment.Experiment.train_step, arguments.device_ms / 1000)
    experiment.Experiment.train_step = made  # type: ignore[method-assign]
  config = processes.load_config('configs/digits.py')
  config.update_from_flattened_dict(TINY)
  config.train.num_steps = WARM + arguments.steps
  config.train.steps_per_dispatch = arguments.together
  calls: list[tuple[int, Times]] = []
  kept: list[Any] = []
  compile_steps = training.compile_steps

  def noting(*arguments: Any) -> Any:
    run_steps = compile_steps(*arguments)

    def call(state: Any, batch: Any) -> Any:
      calls.append((int(getattr(batch, 'steps', 1)), now()))
      made = run_steps(state, batch)
      kept[:] = [run_steps, batch, made[0]]
      return made

    return call

  training.compile_steps = noting
  training.programs_in_flight = lambda: 3
  with tempfile.TemporaryDirectory() as name:
    training.run(settings.check(config), (arguments.folder or Path(name)) / 'run')
  done = np.cumsum([count for count, _ in calls])
  first = int(np.searchsorted(done, WARM)) + 1  # the first call after that step
  taken = int(done[-2] - done[first - 1])
  in_run = (calls[-1][1] - calls[first][1]) / taken

  run_steps, batch, state = kept
  together, begun = calls[-2][0], now()
  programs = max(1, taken // together)
  for _ in range(programs):
    state = run_steps(state, batch)[0]
  jax.block_until_ready(state)
  bare = (now() - begun) / (programs * together)
  print(f'{taken} steps, {together} in a program; microseconds a step:')
  print('| | time | CPU time of all threads | of the main thread |\n|---|---|---|---|')
  for name, values in (('run', in_run), ('bare steps', bare), ('difference', in_run - bare)):
    print(f'| {name} | ' + ' | '.join(f'{1e6 * value:.1f}' for value in values) + ' |')
  print(f'outside the steps: {1 - bare[0] / in_run[0]:.2%} of the time')


if __name__ == '__main__':
  main()
