"""Trains 20,000 tiny steps and checks that memory, step time and files stay constant.

python benchmarks/long_run.py --out=long_run.png

The run trains on the digits in its own process, with a row of metrics every 20 steps, a sample grid every 500
and a checkpoint every 250. Its resident memory is sampled every half second. The last line is a JSON object.
The status is 1 if the last quarter needs 3 % more memory or 20 % more time per step than the second
(medians), or if files accumulate.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
KEYS: dict[str, Any] = {
  'data.image_size': 8,
  'generator.widths': (8, 6),
  'discriminator.widths': (6, 8),
  'train.batch_size': 16,
  'log.every_steps': 20,
  'sample.every_steps': 500,
  'checkpoint.every_steps': 250,
}


def resident(process: int) -> float:
  """Returns the resident memory of a process in MiB, NaN if it has ended."""
  try:
    lines = Path(f'/proc/{process}/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmRSS')).split()[1]) / 1024
  except (OSError, StopIteration):
    return np.nan


def train(folder: Path, steps: int) -> np.ndarray:
  """Trains; returns the step and the memory in MiB at each sampled time, [N, 2]."""
  command = [sys.executable, 'main.py', '--config=configs/digits.py', f'--workdir={folder}']
  command += [f'--config.{key}={value}' for key, value in (KEYS | {'train.num_steps': steps}).items()]
  seen = []
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
    path = folder / 'metrics.jsonl'
    while process.poll() is None:
      time.sleep(0.5)
      lines = path.read_bytes().splitlines() if path.exists() else []
      if lines and resident(process.pid) > 0:
        seen.append((json.loads(lines[-1])['step'], resident(process.pid)))
  if process.returncode:
    raise SystemExit(f'training ended with status {process.returncode}')
  return np.array(seen)


def quarters(steps: np.ndarray, values: np.ndarray, total: int) -> list[float]:
  """Returns the median of values in each quarter of the run."""
  bounds = [(total * i / 4, total * (i + 1) / 4) for i in range(4)]
  return [float(np.median(values[(steps > low) & (steps <= high)])) for low, high in bounds]


def plot(path: Path, memory: np.ndarray, steps: np.ndarray, milliseconds: np.ndarray) -> None:
  """Plots memory and step time over steps."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.5), layout='constrained')
  panels: Any = figure.subplots(1, 2)
  panels[0].plot(*memory.T)
  panels[0].set(xlabel='step', ylabel='resident memory, MiB', ylim=(0, 1.2 * memory[:, 1].max()))
  panels[1].plot(steps, milliseconds, '.', markersize=2)
  panels[1].set(xlabel='step', ylabel='milliseconds a step', ylim=(0, 3 * np.median(milliseconds)))
  for panel in panels:
    panel.locator_params(axis='x', nbins=5)
    panel.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=110)


def main() -> int:
  """Trains, plots and checks; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--steps', type=int, default=20_000)
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix='long') as top:
    folder = Path(top) / 'run'
    memory = train(folder, arguments.steps)
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    kept = len(list((folder / 'checkpoints').iterdir()))
    size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 2**20
  rows = [row for row in rows if 'images_per_second' in row]
  steps = np.array([row['step'] for row in rows])
  milliseconds = np.array([1000 * KEYS['train.batch_size'] / row['images_per_second'] for row in rows])
  found: dict[str, Any] = {
    'memory_mib': quarters(memory[:, 0], memory[:, 1], arguments.steps),
    'milliseconds': quarters(steps, milliseconds, arguments.steps),
    'checkpoints': kept,
    'workdir_mib': size,
  }
  if arguments.out:
    plot(arguments.out, memory, steps, milliseconds)
  print(json.dumps(found))
  grown = found['memory_mib'][3] > 1.03 * found['memory_mib'][1]
  slower = found['milliseconds'][3] > 1.2 * found['milliseconds'][1]
  return int(grown or slower or kept > 4)


if __name__ == '__main__':
  sys.exit(main())
