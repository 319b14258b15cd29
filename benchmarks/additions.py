"""Times the cost per step of each addition to the classic recipe, paired with the step without it.

python benchmarks/additions.py --config=configs/cifar10_32.py --batch=64 --rounds=7

All steps are compiled in one process and take turns; the figures are medians over the rounds of a step's time
divided by that of the unchanged config.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from benchmarks import processes, train_step
from dcgan_jax import settings
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.devices import placement
from dcgan_jax.runs import experiment
from dcgan_jax.training import rounds

PENALTIES = {'train.r1': 1.0, 'train.r2': 1.0}
ADDITIONS: dict[str, dict[str, Any]] = {
  'as it is': {},
  'as it is, again': {},
  'moving average': {'train.ema_decay': 0.999},
  'packing 2': {'discriminator.packing': 2},
  'translation': {'train.augment': 'translation'},
  'translation, cutout': {'train.augment': 'translation,cutout'},
  'color, translation, cutout': {'train.augment': 'color,translation,cutout'},
  'classes': {'data.classes': 10},
  'moving average, translation, classes': {
    'train.ema_half_life': 20_000,
    'train.augment': 'translation',
    'data.classes': 10,
  },
  'without batch norm in D': {'plain': True},
  'spectral norm, hinge': {'plain': True, 'discriminator.spectral_norm': True, 'train.loss': 'hinge'},
  'relativistic': {'train.loss': 'relativistic'},
  'relativistic, R1, R2': {'plain': True, 'train.loss': 'relativistic'} | PENALTIES,
  'moving average, classes, relativistic, R1, R2': {  # configs/modern.py
    'plain': True,
    'train.ema_half_life': 20_000,
    'data.classes': 10,
    'train.loss': 'relativistic',
  }
  | PENALTIES,
  'wasserstein, gradient penalty': {
    'plain': True,
    'train.loss': 'wasserstein',
    'train.gradient_penalty': 10.0,
  },
}


def compile_step(path: str, batch: int, changes: dict[str, Any]) -> Any:
  """Returns a function that takes one step of the config with these changes."""
  config = processes.load_config(path)
  config.train.batch_size = batch
  for key, value in changes.items():
    if key == 'plain':
      config.discriminator.norm = (False,) * len(config.discriminator.norm)
    else:
      config.update_from_flattened_dict({key: value})
  mesh, built = placement.mesh(), experiment.build(settings.check(config))
  classes = np.arange(batch, dtype=np.int32) % 10 if config.data.classes else None
  batches = placement.put_batch(mesh, Examples(train_step.random_images(config), classes))
  state = built.first_state(placement.replicated(mesh))
  run = rounds.TakeRound(built, mesh)

  def step_once() -> None:
    nonlocal state
    state, *metrics = run(state, batches)
    jax.block_until_ready((state, metrics))

  step_once()
  return step_once


def main() -> None:
  """Times all additions in turn and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10_32.py')
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--only', default=';'.join(ADDITIONS), help='with semicolons')
  arguments = parser.parse_args()
  names = [name for name in ADDITIONS if name == 'as it is' or name in arguments.only.split(';')]
  steps = {name: compile_step(arguments.config, arguments.batch, ADDITIONS[name]) for name in names}
  seconds: dict[str, list[float]] = {name: [] for name in names}
  for _ in range(arguments.rounds):
    for name, step_once in steps.items():
      start = time.perf_counter()
      for _ in range(5):
        step_once()
      seconds[name].append((time.perf_counter() - start) / 5)
  base = np.array(seconds['as it is'])
  ratios = {name: float(np.median(np.array(times) / base)) for name, times in seconds.items()}
  for name, ratio in ratios.items():
    print(f'| {name} | {np.median(seconds[name]):.4f} | {ratio:.2f} |')
  print(json.dumps(ratios))


if __name__ == '__main__':
  main()
