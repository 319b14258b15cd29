"""Trains the same recipe here and in PyTorch, and scores both over whole runs with the same classifier.

python benchmarks/whole_runs.py --configs=mnist,cifar10_32 --seeds=0,1,2 --out=FILE.png

Our runs are those of `benchmarks/norm_statistics.py` in the same --folder: half the widths, batches of 64.
The PyTorch runs (`benchmarks/torch_dcgan.py`) have the same layers, losses, optimizers and distribution of
initial weights, with random numbers of their own. 10,000 samples are scored at each step, with stored running
averages on both sides. Runs and scores are kept, so the command resumes where it was stopped.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from ml_collections import ConfigDict

from benchmarks import norm_statistics, processes

STEPS = (500, 1000, 2000, 4000)
SAMPLES = 10_000
SIDES = ('dcgan_jax', 'PyTorch')

Distances = dict[str, float]  # distance by step


def config_of(name: str) -> ConfigDict:
  """Returns the narrowed config of the runs."""
  config = processes.load_config(f'configs/{name}.py')
  config.update_from_flattened_dict(norm_statistics.NARROW[name])
  return config


def train_torch(config: ConfigDict, images: np.ndarray, folder: Path, seed: int) -> None:
  """Trains in PyTorch and writes samples at each of STEPS as STEP.npz; resumes after the last of them."""
  import torch

  from benchmarks import torch_dcgan

  torch.manual_seed(seed)
  step = torch_dcgan.TrainStep(config, torch.channels_last)
  parts = (step.generator, step.discriminator, *step.optimizers)
  done = max((int(path.stem) for path in folder.glob('*.npz')), default=0)
  if done:
    for part, state in zip(parts, torch.load(folder / 'state.pt')):
      part.load_state_dict(state)
  folder.mkdir(parents=True, exist_ok=True)
  data = torch.tensor(images).permute(0, 3, 1, 2).to(torch_dcgan.DEVICE)
  batch, per_epoch = config.train.batch_size, len(images) // config.train.batch_size
  for number in range(done, STEPS[-1]):
    if number == done or number % per_epoch == 0:
      order = torch.tensor(np.random.default_rng([seed, number // per_epoch]).permutation(len(images)))
      order = order.to(torch_dcgan.DEVICE)
    start = number % per_epoch * batch
    step(data[order[start : start + batch]])
    if number + 1 in STEPS:
      torch.save([part.state_dict() for part in parts], folder / 'state.pt')
      np.savez(folder / f'{number + 1}.npz', sample_torch(step.generator, config.latent.size))


def sample_torch(generator: Any, z_size: int) -> np.ndarray:
  """Samples images, uint8 [N, H, W, C], with stored running averages."""
  import torch

  from benchmarks.torch_dcgan import DEVICE

  generator.eval()
  draw = torch.Generator().manual_seed(0)
  made = []
  with torch.inference_mode():
    for _ in range(SAMPLES // 100):
      images = generator(torch.randn(100, z_size, 1, 1, generator=draw).to(DEVICE))
      made.append(((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
  generator.train()
  return np.concatenate(made)


def score_torch(folder: Path, workdir: Path) -> Distances:
  """Scores the samples in a folder against the data of our run; returns the distances."""
  from dcgan_jax.evaluation import evaluate, extractors

  path = folder / 'scores.json'
  found: Distances = json.loads(path.read_text()) if path.exists() else {}
  for step in STEPS:
    if str(step) not in found:
      with contextlib.redirect_stdout(io.StringIO()):
        chosen, given = extractors.Chosen('classifier'), str(folder / f'{step}.npz')
        evaluate.run(workdir, SAMPLES, 0, 'last', chosen, given)
      report = json.loads((workdir / 'evaluation.json').read_text())
      found[str(step)] = report['scores'][norm_statistics.DISTANCE]
      path.write_text(json.dumps(found))
  return found


def print_table(config: str, runs: dict[str, list[Distances]]) -> None:
  """Prints the distances of all seeds at each step, and whether our mean is within the range of PyTorch's."""
  print(f'| {config}, step | {" | ".join(runs)} | our mean is |')
  print('|---|---|---|---|')
  for step in STEPS:
    ours, theirs = ([one[str(step)] for one in runs[side]] for side in SIDES)
    mean = float(np.mean(ours))
    place = 'below' if mean < min(theirs) else 'above' if mean > max(theirs) else 'within'
    cells = ' | '.join(', '.join(f'{value:.1f}' for value in values) for values in (ours, theirs))
    print(f'| {step:,} | {cells} | {place} |')
  print(flush=True)


def plot(path: Path, runs: dict[str, dict[str, list[Distances]]]) -> None:
  """Plots distances over steps, with a panel per config and a line per seed."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator

  figure = Figure(figsize=(4.5 * len(runs), 4), layout='constrained')
  panels: Any = figure.subplots(1, len(runs), squeeze=False)[0]
  for panel, (config, sides) in zip(panels, runs.items()):
    for (side, seeds), color in zip(sides.items(), ('tab:blue', 'tab:orange')):
      for i, one in enumerate(seeds):
        label = None if i else side
        panel.plot(STEPS, [one[str(step)] for step in STEPS], 'o-', color=color, alpha=0.7, label=label)
    panel.set(title=config, xlabel='step', ylabel='classifier distance', xscale='log', yscale='log')
    panel.set_xticks(STEPS, [f'{step:,}' for step in STEPS])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter('{x:g}')
    panel.minorticks_off()
    panel.spines[['top', 'right']].set_visible(False)
  panels[-1].legend(frameon=False)
  figure.savefig(path, dpi=110)


def main() -> None:
  """Trains and scores missing runs, prints the tables and draws the figure."""
  from dcgan_jax import settings
  from dcgan_jax.data import cache
  from dcgan_jax.runs import experiment

  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--configs', default='mnist,cifar10_32')
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--folder', type=Path, default=Path('runs/statistics'))
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  runs = {}
  for name in arguments.configs.split(','):
    config = config_of(name)
    images = cache.load(experiment.build(settings.check(config)).source, config.data.source)
    sides: dict[str, list[Distances]] = {side: [] for side in SIDES}
    for seed in arguments.seeds.split(','):
      workdir = arguments.folder.absolute() / name / seed
      norm_statistics.train(name, workdir, int(seed))
      sides['dcgan_jax'].append(norm_statistics.score(workdir, STEPS, ('stored',))['stored'])
      theirs = arguments.folder.absolute() / 'pytorch' / name / seed
      train_torch(config, images, theirs, int(seed))
      sides['PyTorch'].append(score_torch(theirs, workdir))
    runs[name] = sides
    print_table(name, sides)
  if arguments.out:
    plot(arguments.out, runs)


if __name__ == '__main__':
  main()
