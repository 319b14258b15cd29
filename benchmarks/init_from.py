"""Measures the benefit of initialising from another run; prints tables and draws a figure.

python benchmarks/init_from.py --seeds=0,1,2 --out=init_from.png
python benchmarks/init_from.py --seeds=0,1,2 --only_show
python benchmarks/init_from.py --seeds=0,1,2 --few=100,1000 --freeze=0,1,2

Two comparisons on Fashion-MNIST, each of `--init_from` against random initialisation: a run initialised from
an MNIST run, and a run at 64x64 initialised from one at 32x32. All networks are those of
`configs/cifar10_32.py` at a quarter of its widths, in gray, with batches of 64. Those at 64x64 have one more
layer next to the image; they and their initial networks upsample bilinearly. Each run has its own folder, so
the command resumes where it was stopped.

With --few it compares runs on the first images of Fashion-MNIST instead: from random initialisation, and from
the MNIST run with the first layers of D frozen (`train.freeze`). They are scored against all images.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.ablation import DISTANCE, Curves, read, score_against_all, train
from dcgan_jax.errors import counted

SMALL: dict[str, Any] = {
  'data.source': 'tfds:fashion_mnist',
  'data.channels': 1,
  'generator.widths': (128, 64, 32),
  'discriminator.widths': (16, 32, 64),
}
MNIST = SMALL | {'data.source': 'tfds:mnist', 'eval.every_steps': 0}
# With transposed convolutions, D wins against such narrow networks at 64x64 within the first 100 steps.
BILINEAR = {'generator.upsample': 'bilinear'}
LARGE = (
  SMALL
  | BILINEAR
  | {
    'data.image_size': (64, 64),
    'generator.widths': (128, 64, 32, 16),
    'generator.strides': (2, 2, 2, 2),
    'generator.norm': (True, True, True, True),
    'discriminator.widths': (8, 16, 32, 64),
    'discriminator.strides': (2, 2, 2, 2),
    'discriminator.norm': (False, True, True, True),
  }
)
# Keys of each run, and the run to initialise it from; '' for none.
RUNS: dict[str, tuple[dict[str, Any], str]] = {
  'mnist': (MNIST, ''),
  'fashion': (SMALL, ''),
  'fashion_from_mnist': (SMALL, 'mnist'),
  'fashion_bilinear': (SMALL | BILINEAR | {'eval.every_steps': 0}, ''),
  'fashion_64': (LARGE, ''),
  'fashion_64_from_32': (LARGE, 'fashion_bilinear'),
}
COMPARISONS = {
  'Fashion-MNIST, 32x32': {'random initialisation': 'fashion', 'from MNIST': 'fashion_from_mnist'},
  'Fashion-MNIST, 64x64': {'random initialisation': 'fashion_64', 'grown from 32x32': 'fashion_64_from_32'},
}


def use_few(counts: list[int], freeze: list[int]) -> None:
  """Replaces the comparisons by those of runs on so many images, with so many frozen layers of D."""
  COMPARISONS.clear()
  for name in set(RUNS) - {'mnist'}:
    del RUNS[name]
  for count in counts:
    keys = SMALL | {'data.split': f'train[:{count}]', 'eval.every_steps': 0}
    labels = {'random initialisation': (f'fashion_{count}', keys, '')}
    for layers in freeze:
      label = 'from MNIST' + (f', {counted(layers, "layer")} of D frozen' if layers else '')
      labels[label] = (f'fashion_{count}_freeze_{layers}', keys | {'train.freeze': layers}, 'mnist')
    RUNS.update({name: (keys, before) for name, keys, before in labels.values()})
    title = f'{count:,} images of Fashion-MNIST, 32x32'
    COMPARISONS[title] = {label: name for label, (name, _, _) in labels.items()}


def curves_of(folder: Path, name: str, seeds: list[int]) -> dict[int, Curves]:
  """Returns the scores of the runs of a name by seed and step, without seeds that have none."""
  found = {seed: read(folder / name / str(seed), '', [DISTANCE])[0] for seed in seeds}
  return {seed: curves for seed, curves in found.items() if curves}


def table(folder: Path, title: str, seeds: list[int]) -> list[str]:
  """Returns the lines of a table: mean distances at each step that all runs have reached."""
  runs = {label: curves_of(folder, name, seeds) for label, name in COMPARISONS[title].items()}
  every = [set(curves) for each in runs.values() for curves in each.values()]
  if not every or not all(runs.values()):
    return [f'{title}: not trained yet']
  steps = sorted(set.intersection(*every))
  lines = [
    f'| {title}, distance after step | seeds | {" | ".join(f"{step:,}" for step in steps)} |',
    '|---' * (len(steps) + 2) + '|',
  ]
  for label, each in runs.items():
    values = np.array([[curves[step][DISTANCE] for step in steps] for curves in each.values()])
    cells = [
      f'{mean:.0f} ± {spread:.0f}'
      for mean, spread in zip(values.mean(0), values.std(0, ddof=len(values) > 1))
    ]
    lines.append(f'| {label} | {len(each)} | {" | ".join(cells)} |')
  return lines


def plot(path: Path, folder: Path, seeds: list[int]) -> None:
  """Plots the distance over steps, with a panel per comparison and the range over seeds."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.4), layout='constrained')
  for panel, (title, runs) in zip(figure.subplots(1, len(COMPARISONS)), COMPARISONS.items()):
    for label, name in runs.items():
      each = list(curves_of(folder, name, seeds).values())
      steps = sorted(set.intersection(*map(set, each))) if each else []
      values = np.array([[curves[step][DISTANCE] for step in steps] for curves in each])
      if steps:
        (line,) = panel.plot(steps, values.mean(0), marker='.', label=label)
        panel.fill_between(
          steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0
        )
    panel.set(title=title, xlabel='step', ylabel='distance, lower is better', yscale='log')
    for formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
      formatter(lambda x, _: f'{x:.0f}')
    panel.spines[['top', 'right']].set_visible(False)
    if panel.lines:
      panel.legend(frameon=False)
  figure.savefig(path, dpi=110)


def main() -> None:
  """Trains missing runs, prints the tables and draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--runs', help='with commas: which to train; by default all')
  parser.add_argument('--few', default='', help='with commas: numbers of images, for the other comparison')
  parser.add_argument('--freeze', default='0,1,2', help='with commas: frozen layers of D, with --few')
  parser.add_argument('--seeds', default='0', help='with commas')
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--every', type=int, default=125, help='steps between two scores')
  parser.add_argument('--folder', type=Path, default=Path('runs/init_from'))
  parser.add_argument('--only_show', action='store_true', help='do not train')
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  if arguments.few:
    use_few(*([int(x) for x in text.split(',')] for text in (arguments.few, arguments.freeze)))
  folder = Path(os.path.abspath(arguments.folder))
  every = arguments.every
  common = {'eval.every_steps': every, 'eval.num': 2000} | (
    {'checkpoint.every_steps': every} if arguments.few else {}
  )
  for seed in seeds if not arguments.only_show else []:
    for name in arguments.runs.split(',') if arguments.runs else RUNS:
      keys, before = RUNS[name]
      flags = [f'--init_from={folder / before / str(seed)}'] if before else []
      train(folder / name / str(seed), common | keys, seed, arguments.steps, flags)
      if arguments.few and name != 'mnist':
        score_against_all(folder / name / str(seed), folder / 'fashion_whole', SMALL)
  for title in COMPARISONS:
    print('\n'.join(table(folder, title, seeds)), end='\n\n')
  if arguments.out:
    plot(arguments.out, folder, seeds)


if __name__ == '__main__':
  main()
