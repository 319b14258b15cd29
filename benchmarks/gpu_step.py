"""Times train steps on a GPU against PyTorch, with many steps in flight as in a run.

python benchmarks/gpu_step.py --configs=cifar10,mnist,celeba --batches=128,1024 --dtypes=float32,bfloat16

`ours` is the program that `python main.py` runs; `torch` stands for eager with NCHW, eager with channels_last
and torch.compile with NCHW, each with cuDNN benchmarking, TF32, fused Adam where it works and autocast for
bfloat16. In float32 both sides use TF32, their default for convolutions on a GPU. Each setting runs in its
own process, in which the contenders take turns. `celeba` updates both networks with every batch here, because
the PyTorch side has no order 'one_per_batch'. The last line is a JSON list.
"""

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ml_collections import ConfigDict

from benchmarks import processes, train_step

TOGETHER = 50, 10  # steps in flight: for batches below 512, for larger ones
SECONDS = 0.3  # minimum duration of a turn
LOCK = Path(tempfile.gettempdir()) / 'gpu_step.lock'


@contextlib.contextmanager
def device_to_itself() -> Iterator[None]:
  """Grants the GPU to one of several processes; the others compile meanwhile."""
  with LOCK.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def warmed_up(name: str, config: ConfigDict, together: int) -> Callable[[], object] | None:
  """Returns a compiled function that takes `together` steps of a contender, or None if it fails."""
  kind, _, variant = name.partition(':')
  try:
    if kind == 'ours':
      call = train_step.ours(config, together)
    else:
      call = train_step.pytorchs(config, variant, together)
    call()
    call()
  except Exception as error:
    print(
      f'{name} failed: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}',
      file=sys.stderr,
    )
    return None
  return call


def time_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
  """Returns the seconds of a call in each round, by contender."""
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      call()
      count, start = 0, time.perf_counter()
      while time.perf_counter() - start < SECONDS:
        call()
        count += 1
      seconds[name].append((time.perf_counter() - start) / count)
  return seconds


def run_setting(name: str, batch: int, dtype: str, rounds: int) -> dict[str, Any]:
  """Times the contenders of one setting."""
  import jax
  import torch

  config = processes.load_config(f'configs/{name}.py')
  config.train.batch_size, config.train.dtype = batch, dtype
  if config.train.order == 'one_per_batch':
    config.train.order = 'alternating'
  together = TOGETHER[batch >= 512]
  # Compiling takes a minute and little of the GPU, so it overlaps with the timing of other settings.
  compiled = warmed_up('torch:compile', config, together)
  with device_to_itself():
    calls = {key: warmed_up(key, config, together) for key in ('ours', 'torch:nchw', 'torch:channels_last')}
    calls['torch:compile'] = compiled
    seconds = time_turns({key: call for key, call in calls.items() if call}, rounds)
  medians = {key: statistics.median(values) / together for key, values in seconds.items()}
  best = min((key for key in medians if key != 'ours'), key=medians.__getitem__, default='ours')
  return {
    'config': name,
    'batch': batch,
    'dtype': dtype,
    'device': jax.devices()[0].device_kind,
    'versions': {'jax': jax.__version__, 'torch': torch.__version__},
    'step_ms': {key: round(1e3 * value, 4) for key, value in medians.items()},
    'best_of_torch': best,
    'ratio': statistics.median(a / b for a, b in zip(seconds['ours'], seconds[best])),
    'tflops': train_step.direct_gflop(config) / medians['ours'] / 1e3,
    'peak_memory_mib': (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0) / 2**20,
  }


def main() -> None:
  """Runs each setting in its own process and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--configs', default='cifar10,mnist,celeba')
  parser.add_argument('--batches', default='128,1024')
  parser.add_argument('--dtypes', default='float32,bfloat16')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument(
    '--beside',
    type=int,
    default=1,
    help='settings at a time: others compile, and slow launches, while one is timed',
  )
  parser.add_argument('--setting', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.setting:
    name, batch, dtype = arguments.setting.split(',')
    print(json.dumps(run_setting(name, int(batch), dtype, arguments.rounds)))
    return
  settings = [
    f'{name},{batch},{dtype}'
    for name in arguments.configs.split(',')
    for batch in arguments.batches.split(',')
    for dtype in arguments.dtypes.split(',')
  ]
  # Both frameworks share the process, so neither may preallocate the whole memory.
  environment = os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  print('| config | batch | dtype | ours, ms | NCHW | channels_last | compile | ours / best | TFLOP/s |')
  print('|---|---|---|---|---|---|---|---|---|')
  rows = []
  waiting: list[subprocess.Popen[str]] = []
  while settings or waiting:
    while settings and len(waiting) < arguments.beside:
      command = [sys.executable, sys.argv[0], f'--setting={settings.pop(0)}', f'--rounds={arguments.rounds}']
      waiting.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    lines = waiting.pop(0).communicate()[0].strip().splitlines()
    if not lines or not lines[-1].startswith('{'):
      print('failed:', *lines[-1:])
      continue
    row = json.loads(lines[-1])
    rows.append(row)
    times = [f'{row["step_ms"].get(key, float("nan")):.3f}' for key in ('ours', *train_step.AGAINST['torch'])]
    cells = [row['config'], row['batch'], row['dtype'], *times, f'{row["ratio"]:.2f}', f'{row["tflops"]:.0f}']
    print(f'| {" | ".join(map(str, cells))} |', flush=True)
  print(json.dumps(rows))


if __name__ == '__main__':
  main()
