"""Compares loss curves of the same training in different arithmetic: plain convolutions, bfloat16.

python benchmarks/curves.py --config=configs/digits.py --steps=1000 --out=curves.png

GANs amplify rounding: after a few hundred steps two runs are two independent samples. What counts is
therefore whether a curve differs more from the first than that of another seed does. The last line is a JSON
object of the mean absolute differences of the smoothed curves from the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RUNS = {
  'float32': [],
  'float32, another seed': ['--config.seed=1'],
  'float32, plain convolutions': ['--config.train.fast_conv=False'],
  'bfloat16': ['--config.train.dtype=bfloat16'],
}
LOSSES = ('loss_d', 'loss_g')


def train(config: str, steps: int, more: list[str]) -> dict[str, np.ndarray]:
  """Trains a run; returns both losses of every fifth step, averaged over ten of them."""
  with tempfile.TemporaryDirectory() as workdir:
    keys = {'train.num_steps': steps, 'log.every_steps': 5, 'sample.every_steps': 0, 'log.tensorboard': False}
    command = [sys.executable, 'main.py', f'--config={config}', f'--workdir={workdir}/run', *more]
    command += [f'--config.{key}={value}' for key, value in keys.items()]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    lines = (Path(workdir) / 'run' / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  window = np.ones(10) / 10
  return {name: np.convolve([row[name] for row in rows], window, 'valid') for name in LOSSES}


def plot(path: str, curves: dict[str, dict[str, np.ndarray]]) -> None:
  """Plots both losses of all runs."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot

  figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.5), layout='constrained')
  for panel, name in zip(panels, LOSSES):
    for label, losses in curves.items():
      panel.plot(5 * (10 + np.arange(len(losses[name]))), losses[name], label=label, linewidth=1)
    panel.set_xlabel('step')
    panel.set_ylabel(name)
  panels[0].legend(frameon=False)
  figure.savefig(path, dpi=110)


def main() -> None:
  """Trains all runs, compares and plots them."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/digits.py')
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--out', default='curves.png')
  arguments = parser.parse_args()
  curves = {}
  for label, more in RUNS.items():
    curves[label] = train(arguments.config, arguments.steps, more)
    differences = {n: float(np.abs(curves[label][n] - curves['float32'][n]).mean()) for n in LOSSES}
    print(f'{label:28}' + '  '.join(f'{n} {d:.3f}' for n, d in differences.items()), flush=True)
  plot(arguments.out, curves)
  distances = {
    label: {n: float(np.abs(curve[n] - curves['float32'][n]).mean()) for n in LOSSES}
    for label, curve in curves.items()
  }
  print(json.dumps(distances))


if __name__ == '__main__':
  main()
