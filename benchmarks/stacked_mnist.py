"""Counts the modes of Stacked MNIST that DCGAN covers, with packing (PacGAN) and with a relativistic loss.

python benchmarks/stacked_mnist.py --sizes=half --steps=30000 --seeds=0
python benchmarks/stacked_mnist.py --sizes=table_3_quarter --seeds=0,1,2

The rows are those of Lin et al. 2018, Tables 2 and 3: plain DCGAN and packing of 2 to 4 images; and the
relativistic loss with gradient penalties. As there, a digit classifier labels each channel of 26,000 samples;
there are 128,000 triples, batches of 64, Adam at 2e-4 and uniform z. The networks are smaller: those of
`configs/cifar10_32.py` at 32x32 with half its widths. In `table_3_quarter` and `table_3_half`, D has that
fraction of the parameters of G.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import ablation

STACKED = {'data.source': 'stacked:tfds:mnist', 'eval.num': 26_000}
SIZES: dict[str, dict[str, Any]] = {
  'half': {},
  'table_3_quarter': {'discriminator.widths': (40, 80, 160)},
  'table_3_half': {'discriminator.widths': (58, 116, 232)},
}
UNIFORM = {'latent.prior': 'uniform'}
RELATIVISTIC = ablation.RELATIVISTIC | ablation.AVERAGE
RECIPES: dict[str, dict[str, Any]] = {
  'DCGAN': UNIFORM,
  **{f'packing {m}': UNIFORM | {'discriminator.packing': m} for m in (2, 3, 4)},
  'average': UNIFORM | ablation.AVERAGE,
  'average, packing 2': UNIFORM | ablation.AVERAGE | {'discriminator.packing': 2},
  'average, D 4e-4': UNIFORM | ablation.AVERAGE | ablation.D_4,
  'average, translation, D 4e-4': UNIFORM | ablation.AVERAGE | ablation.TRANSLATION | ablation.D_4,
  'relativistic, R1, R2': RELATIVISTIC,
  'relativistic, R1, R2, packing 2': RELATIVISTIC | {'discriminator.packing': 2},
}
SCORES = ('modes', 'kl_to_uniform', ablation.DISTANCE)


def table(folder: Path, size: str, recipes: list[str], seeds: list[int]) -> list[str]:
  """Returns the lines of a table: scores of each recipe at the last step that all its seeds have reached."""
  lines = [
    f'| {size} | seeds | steps | modes | KL to uniform | classifier distance |',
    '|---|---|---|---|---|---|',
  ]
  for recipe in recipes:
    runs = [ablation.read(folder / ablation.name_of(size, recipe, seed), recipe, SCORES)[0] for seed in seeds]
    runs = [curve for curve in runs if curve]
    if not runs:
      continue
    step = min(max(curve) for curve in runs)
    cells = []
    for name, digits in zip(SCORES, (1, 3, 1)):
      values = [curve[step][name] for curve in runs if step in curve]
      cells.append(f'{np.mean(values):.{digits}f} ± {np.std(values, ddof=len(values) > 1):.{digits}f}')
    lines.append(f'| {recipe} | {len(runs)} | {step:,} | {" | ".join(cells)} |')
  return lines


def main() -> None:
  """Trains missing runs, prints the tables and draws the curves."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--sizes', default='half', help=f'with commas: {", ".join(SIZES)}')
  parser.add_argument('--recipes', default=';'.join(RECIPES), help='with semicolons; by default all')
  parser.add_argument('--seeds', default='0', help='with commas')
  parser.add_argument('--steps', type=int, default=7500)
  parser.add_argument('--folder', type=Path, default=Path('runs/stacked_mnist'))
  parser.add_argument('--only_show', action='store_true', help='do not train')
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  sizes, recipes = arguments.sizes.split(','), arguments.recipes.split(';')
  seeds, folder = [int(seed) for seed in arguments.seeds.split(',')], arguments.folder.absolute()
  for size in sizes:
    for seed in seeds if not arguments.only_show else []:
      for recipe in recipes:
        keys = STACKED | SIZES[size] | RECIPES[recipe]
        ablation.train(folder / ablation.name_of(size, recipe, seed), keys, seed, arguments.steps)
    print('\n'.join(table(folder, size, recipes, seeds)), end='\n\n')
  if arguments.out:
    ablation.plot(arguments.out, folder, sizes, recipes, seeds, 'kl_to_uniform')


if __name__ == '__main__':
  main()
