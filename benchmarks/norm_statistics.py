"""Measures which batch-norm statistics give better images over whole runs.

python benchmarks/norm_statistics.py --seeds=0,1,2 --out=FILE.png

Each checkpoint is scored three times with 10,000 images, as by `--mode=evaluate --statistics=...`: with the
running averages of training (stored), the statistics of each 64 images (batch) and those of 10,000 latents
(population). `mnist` and `cifar10_32` are trained at half their widths with batches of 64, so that three
seeds take hours rather than days. Runs and scores are kept in --folder.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

ROOT = Path(__file__).parents[1]
NARROW: dict[str, dict[str, Any]] = {
  'digits': {},
  'mnist': {
    'generator.widths': (128, 64, 32),
    'discriminator.widths': (32, 64),
    'train.batch_size': 64,
  },
  'cifar10_32': {
    'generator.widths': (256, 128, 64),
    'discriminator.widths': (32, 64, 128),
    'train.batch_size': 64,
  },
}
EVERY = 250
SCORED = {
  'digits': (250, 500, 1000, 2000, 2900),
  'mnist': (250, 500, 1000, 2000, 4000),
  'cifar10_32': (250, 500, 1000, 2000, 4000),
}
KINDS = ('stored', 'batch', 'population')
DISTANCE = 'classifier_frechet_distance'

Scores = dict[str, dict[str, float]]  # distance by kind and step


def train(config: str, workdir: Path, seed: int) -> None:
  """Trains a run up to the last scored step, and keeps its checkpoints."""
  keys = NARROW[config] | {
    'seed': seed,
    'train.num_steps': SCORED[config][-1],
    'checkpoint.every_steps': EVERY,
    'checkpoint.keep': 1000,
    'eval.every_steps': 0,
    'sample.every_steps': 0,
    'log.tensorboard': False,
  }
  command = [sys.executable, 'main.py', f'--config=configs/{config}.py', f'--workdir={workdir}']
  command += [f'--config.{key}={value}' for key, value in keys.items()]
  subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def score(workdir: Path, steps: tuple[int, ...], kinds: tuple[str, ...] = KINDS) -> Scores:
  """Scores checkpoints without scores; returns all scores, and the duration of the estimates."""
  from dcgan_jax.evaluation import evaluate, extractors
  from dcgan_jax.runs.sampling import open_sampler

  path = workdir / 'statistics.json'
  found: Scores = json.loads(path.read_text()) if path.exists() else {}
  for step in steps:
    for kind in kinds:
      if str(step) in found.setdefault(kind, {}):
        continue
      start = time.perf_counter()
      if kind == 'population':
        open_sampler(workdir, step).sample(1, statistics=kind)
        found.setdefault('seconds', {})[str(step)] = time.perf_counter() - start
      with contextlib.redirect_stdout(io.StringIO()):
        chosen = extractors.Chosen('classifier')
        evaluate.run(workdir, 10_000, 0, str(step), chosen, None, kind)
      report = json.loads((workdir / 'evaluation.json').read_text())
      found[kind][str(step)] = report['scores'][DISTANCE]
      path.write_text(json.dumps(found))
  return found


def plot(path: Path, runs: dict[str, list[Scores]]) -> None:
  """Plots the distance over steps for each kind, with the range over seeds."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator, NullFormatter

  figure = Figure(figsize=(4.5 * len(runs), 4), layout='constrained')
  panels: Any = figure.subplots(1, len(runs), squeeze=False)[0]
  for panel, (config, scores) in zip(panels, runs.items()):
    for kind, style in zip(KINDS, ('-', '-', '--')):  # Batch and population overlap.
      steps = sorted(set.intersection(*(set(map(int, one[kind])) for one in scores)))
      values = np.array([[one[kind][str(step)] for step in steps] for one in scores])
      (line,) = panel.plot(steps, values.mean(0), style, label=kind)
      panel.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(
      title=f'{config}, {len(scores)} seeds', xlabel='step', ylabel='classifier distance', yscale='log'
    )
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter('{x:g}')
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.spines[['top', 'right']].set_visible(False)
  panels[-1].legend(frameon=False)
  figure.savefig(path, dpi=110)


def print_table(config: str, scores: list[Scores]) -> None:
  """Prints the mean distance of each kind at each step, and how often population beats stored."""
  steps = sorted(set.intersection(*(set(map(int, one['population'])) for one in scores)))
  print(f'| {config}, step | {" | ".join(KINDS)} | population below stored |')
  print('|---|---|---|---|---|')
  for step in steps:
    means = [np.mean([one[kind][str(step)] for one in scores]) for kind in KINDS]
    wins = sum(one['population'][str(step)] < one['stored'][str(step)] for one in scores)
    cells = ' | '.join(f'{mean:.1f}' for mean in means)
    print(f'| {step:,} | {cells} | {wins} of {len(scores)} |')
  seconds = [s for one in scores for s in one['seconds'].values()]
  print(f'\nAn estimate took {np.median(seconds):.1f} s (median).\n', flush=True)


def main() -> None:
  """Trains and scores missing runs, prints the tables and draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--configs', default='digits,mnist,cifar10_32')
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--folder', type=Path, default=Path('runs/statistics'))
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  runs = {}
  for config in arguments.configs.split(','):
    scores = []
    for seed in arguments.seeds.split(','):
      workdir = arguments.folder.absolute() / config / seed
      train(config, workdir, int(seed))
      scores.append(score(workdir, SCORED[config]))
    runs[config] = scores
    print_table(config, scores)
  if arguments.out:
    plot(arguments.out, runs)


if __name__ == '__main__':
  main()
