"""Measures the effect of each addition to the classic recipe on real images; prints a table, draws a figure.

python benchmarks/ablation.py --data=cifar10,fashion_mnist --steps=3000 --seeds=0,1,2
python benchmarks/ablation.py --recipes="classic;average" --steps=20000 --only_show
python benchmarks/ablation.py --data=folder:data/emoji/all --image_size=64 --steps=500

Networks of 32x32 are those of `configs/cifar10_32.py` at half its widths, with batches of 64; recipes are its
additions. Each run has its own folder, so the command resumes where it was stopped, also with more steps.
Scores are those of `--mode=evaluate` with 10,000 images, every 1,000 steps. A moving average does not affect
training, so recipes that differ from `average` only in sampling are scored from its checkpoints.

Networks of 64x64 are those of `configs/image_folder.py` at half its widths, and recipes are the steps that
lead to it. They are scored by 2,000 images every 250 steps, by rotations where the images have no classes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

ROOT = Path(__file__).parents[1]
DISTANCE = 'classifier_frechet_distance'
SCORES = (DISTANCE, 'precision', 'recall', 'coverage')

Curves = dict[int, dict[str, float]]  # scores by step

COMMON: dict[str, Any] = {
  'generator.widths': (256, 128, 64),
  'discriminator.widths': (32, 64, 128),
  'train.batch_size': 64,
  'eval.every_steps': 1000,
  'eval.num': 10_000,
  'sample.every_steps': 1000,
  'checkpoint.every_steps': 1000,
  'checkpoint.keep': 1000,
  'log.tensorboard': False,
}
DATA: dict[str, dict[str, Any]] = {
  'cifar10': {'data.source': 'tfds:cifar10'},
  'fashion_mnist': {'data.source': 'tfds:fashion_mnist', 'data.channels': 1},
  # A classifier trained on 1,000 images generalises poorly, so scores are against all of CIFAR-10.
  'cifar10_1000': {'data.split': 'train[:1000]', 'eval.every_steps': 0},
}

COMMON_64 = COMMON | {
  'generator.widths': (256, 128, 64, 32),
  'discriminator.widths': (32, 64, 128, 256),
  'sample.every_steps': 250,
  'eval.every_steps': 250,
  'eval.num': 2000,
  'checkpoint.every_steps': 250,
}

CLASSES = {'data.classes': 10}
BY_NORM = CLASSES | {'generator.condition': 'norm'}
PLAIN_D = {'discriminator.norm': (False, False, False)}
POPULATION = {'sample.statistics': 'population'}
AVERAGE = {'train.ema_half_life': 20_000} | POPULATION
AUGMENT = {'train.augment': 'translation,cutout'}
TRANSLATION = {'train.augment': 'translation'}
D_3 = {'discriminator_optimizer.learning_rate': 3e-4}
D_4 = {'discriminator_optimizer.learning_rate': 4e-4}
RATES = {'generator_optimizer.learning_rate': 4e-4, 'discriminator_optimizer.learning_rate': 4e-4}
FALLING = RATES | {
  f'{n}_optimizer.{key}': value
  for n in ('generator', 'discriminator')
  for key, value in (('decay', 'cosine'), ('decay_steps', 20_000), ('final_rate', 5e-5))
}
SPECTRAL = PLAIN_D | {'discriminator.spectral_norm': True}
NO_MOMENTUM = {
  f'{n}_optimizer.{b}': v for n in ('generator', 'discriminator') for b, v in (('b1', 0.0), ('b2', 0.99))
}
PENALTIES = PLAIN_D | NO_MOMENTUM | {'train.r1': 1.0, 'train.r2': 1.0}
RELATIVISTIC = PENALTIES | {'train.loss': 'relativistic'}

# Recipes that sample from the raw weights of 'average', with these batch-norm statistics.
UNAVERAGED = {'classic': 'stored', 'population statistics': 'population'}
RECIPES: dict[str, dict[str, Any]] = {
  'classic': AVERAGE,
  'population statistics': AVERAGE,
  'average, stored statistics': {'train.ema_half_life': 20_000},
  'average': AVERAGE,
  'average, translation': AVERAGE | TRANSLATION,
  'average, translation, D 4e-4': AVERAGE | TRANSLATION | D_4,
  'average, classes': AVERAGE | CLASSES,
  'average, classes, D 4e-4': AVERAGE | CLASSES | D_4,
  'average, classes, translation': AVERAGE | CLASSES | TRANSLATION,
  'average, classes by norm, translation': AVERAGE | BY_NORM | TRANSLATION,
  'average, classes, translation, D 3e-4': AVERAGE | CLASSES | TRANSLATION | D_3,
  'average, classes, translation, D 4e-4': AVERAGE | CLASSES | TRANSLATION | D_4,
  'average, classes, relativistic, R1, R2': AVERAGE | CLASSES | RELATIVISTIC,  # configs/modern.py
  'average, classes, relativistic, R1, R2, rates': AVERAGE | CLASSES | RELATIVISTIC | RATES,
  'average, classes, relativistic, R1, R2, falling rates': AVERAGE | CLASSES | RELATIVISTIC | FALLING,
  'average, hinge': AVERAGE | {'train.loss': 'hinge'},
  'packing': {'discriminator.packing': 2},
  'augment': AUGMENT,
  'hinge': {'train.loss': 'hinge'},
  'least squares': {'train.loss': 'least_squares'},
  'spectral norm': SPECTRAL,
  'spectral norm, hinge': SPECTRAL | {'train.loss': 'hinge'},
  'relativistic, R1, R2': RELATIVISTIC,
  'rates': RATES,
  'flip': {'data.flip': True},
  'least squares, rates': RATES | {'train.loss': 'least_squares'},
  'augment, rates': AUGMENT | RATES,
  'packing, rates': RATES | {'discriminator.packing': 2},
  'average, augment': AVERAGE | AUGMENT,
  'average, rates': AVERAGE | RATES,
  'average, augment, rates': AVERAGE | AUGMENT | RATES,
  'average, spectral norm, hinge': AVERAGE | SPECTRAL | {'train.loss': 'hinge'},
  'average, relativistic, R1, R2': AVERAGE | RELATIVISTIC,
}

# Changes of `configs/image_folder.py`.
SLOWER = {'generator_optimizer.learning_rate': 2e-4, 'discriminator_optimizer.learning_rate': 2e-4}
TRANSPOSED = {'generator.upsample': 'transposed'}
NORMAL = {'discriminator.initializer': 'normal'}
CLASSIC = {
  'train.loss': 'non_saturating',
  'train.r1': 0.0,
  'train.r2': 0.0,
  'train.ema_half_life': 0,
  'train.ema_decay': 0.999,
  'sample.statistics': 'stored',
  'discriminator.norm': (False, True, True, True),
  'generator_optimizer.b1': 0.5,
  'generator_optimizer.b2': 0.999,
  'discriminator_optimizer.b1': 0.5,
  'discriminator_optimizer.b2': 0.999,
}
RECIPES_64: dict[str, dict[str, Any]] = {
  'classic loss, transposed, D normal, 2e-4': CLASSIC | TRANSPOSED | NORMAL | SLOWER,
  'transposed, D normal, 2e-4': TRANSPOSED | NORMAL | SLOWER,
  'transposed, D normal': TRANSPOSED | NORMAL,
  'transposed': TRANSPOSED,
  'transposed, G he': TRANSPOSED | {'generator.initializer': 'he'},
  'bilinear': {'generator.upsample': 'bilinear'},
  'filtered': {},  # configs/image_folder.py
  'filtered, gamma 10, 2e-4': SLOWER | {'train.r1': 10.0, 'train.r2': 10.0},
  'filtered, falling rates': FALLING,
}


def data_keys(data: str) -> dict[str, Any]:
  """Returns the keys of a data set of `DATA`, or of folder:PATH."""
  return DATA[data] if data in DATA else {'data.source': f'folder:{_folder(data)}'}


def _folder(data: str) -> Path:
  """Returns the path of folder:PATH, absolute since trainings run in the root of the repository."""
  return Path(data.removeprefix('folder:')).expanduser().resolve()


def name_of(data: str, recipe: str, seed: int) -> str:
  """Returns the folder name of a run."""
  recipe = 'average' if recipe in UNAVERAGED else recipe
  data = data if data in DATA else _folder(data).name
  return f'{data}/{recipe.replace(", ", "_").replace(" ", "-")}/{seed}'


def train(
  workdir: Path,
  keys: dict[str, Any],
  seed: int,
  steps: int,
  flags: Sequence[str] = (),
  preset: str = 'cifar10_32',
) -> None:
  """Trains a run up to `steps`, with additional flags; a finished run takes a few seconds."""
  keys = COMMON | keys | {'train.num_steps': steps, 'seed': seed}
  command = [sys.executable, 'main.py', f'--config=configs/{preset}.py', f'--workdir={workdir}']
  command += [*flags, *(f'--config.{key}={value}' for key, value in keys.items())]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  print(
    f'{workdir}: {(done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]}',
    flush=True,
  )


def score_unaveraged(workdir: Path, statistics: str) -> None:
  """Scores the raw weights of a run's checkpoints, and caches the scores in unaveraged-STATISTICS.json."""
  from dcgan_jax.evaluation import evaluate
  from dcgan_jax.records import checkpoints
  from dcgan_jax.runs import experiment
  from dcgan_jax.runs.sampling import Sampler

  path = workdir / f'unaveraged-{statistics}.json'
  found = json.loads(path.read_text()) if path.exists() else {}
  for step in checkpoints.steps(workdir / 'checkpoints'):
    if str(step) in found or step % COMMON['eval.every_steps']:
      continue
    run = experiment.open_run(workdir, str(step))
    sampler = Sampler(run.experiment.gan, run.state.generator.variables, step)
    images = sampler.sample(COMMON['eval.num'], 0, statistics)
    found[str(step)] = evaluate.score_images(workdir, images)['scores']
    path.write_text(json.dumps(found))


def score_against_all(workdir: Path, whole: Path, keys: Mapping[str, Any] = MappingProxyType({})) -> None:
  """Scores the checkpoints of a run on few images against all images, and caches the scores in whole.json.

  Args:
    workdir: Workdir of the run.
    whole: Workdir with the settings of a run on all images, written if missing.
    keys: Changes of `configs/cifar10_32.py` for all images.
  """
  from benchmarks import processes
  from dcgan_jax import settings
  from dcgan_jax.evaluation import evaluate
  from dcgan_jax.records import checkpoints
  from dcgan_jax.records import workdir as workdirs
  from dcgan_jax.runs import sampling

  whole.mkdir(parents=True, exist_ok=True)
  config = processes.load_config('configs/cifar10_32.py')
  config.update_from_flattened_dict(dict(keys))
  workdirs.write_settings(whole, settings.check(config))
  path = workdir / 'whole.json'
  found = json.loads(path.read_text()) if path.exists() else {}
  for step in checkpoints.steps(workdir / 'checkpoints'):
    if str(step) not in found:
      images = sampling.open_sampler(workdir, step).sample(COMMON['eval.num'])
      found[str(step)] = evaluate.score_images(whole, images)['scores']
      path.write_text(json.dumps(found))


def read(workdir: Path, recipe: str, scores: Sequence[str] = SCORES) -> tuple[Curves, float]:
  """Returns the scores of a recipe by step, and the median seconds per step of its run."""
  try:
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  except OSError:
    return {}, np.nan
  speeds = [row['images_per_second'] for row in rows if 'images_per_second' in row]
  found = {row['step']: row for row in rows if DISTANCE in row}
  if recipe in UNAVERAGED:
    kept = workdir / f'unaveraged-{UNAVERAGED[recipe]}.json'
    found = {int(step): row for step, row in json.loads(kept.read_text()).items()} if kept.exists() else {}
  if (kept := workdir / 'whole.json').exists():
    found = {int(step): row for step, row in json.loads(kept.read_text()).items()}
  curves = {step: {name: row[name] for name in scores} for step, row in found.items()}
  return curves, COMMON['train.batch_size'] / float(np.median(speeds)) if speeds else np.nan


def table(folder: Path, data: str, recipes: list[str], seeds: list[int], steps: int) -> list[str]:
  """Returns the lines of a table: scores after `steps` steps, and the best distance up to then."""
  lines = [
    f'| {data}, {steps:,} steps | seeds | distance | best | precision | recall | coverage | s / step |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for recipe in recipes:
    runs = [read(folder / name_of(data, recipe, seed), recipe) for seed in seeds]
    runs = [(curves, pace) for curves, pace in runs if steps in curves]
    if not runs:
      continue
    last = {name: [curves[steps][name] for curves, _ in runs] for name in SCORES}
    best = [min(row[DISTANCE] for step, row in curves.items() if step <= steps) for curves, _ in runs]
    cells = [
      f'{np.mean(values):.{digits}f} ± {np.std(values, ddof=len(runs) > 1):.{digits}f}'
      for values, digits in ((last[DISTANCE], 1), (best, 1), *((last[name], 2) for name in SCORES[1:]))
    ]
    pace = np.mean([pace for _, pace in runs])
    lines.append(f'| {recipe} | {len(runs)} | {" | ".join(cells)} | {pace:.3f} |')
  return lines


def plot(
  path: Path, folder: Path, data: list[str], recipes: list[str], seeds: list[int], score: str = DISTANCE
) -> None:
  """Plots a score over steps, with a panel per data set and the range over seeds."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator, NullFormatter

  figure = Figure(figsize=(5 * len(data), 4), layout='constrained')
  panels = figure.subplots(1, len(data), squeeze=False)[0]
  lines = {}
  for panel, kind in zip(panels, data):
    for i, recipe in enumerate(recipes):
      curves = [read(folder / name_of(kind, recipe, seed), recipe, [score])[0] for seed in seeds]
      curves = [curve for curve in curves if curve]
      if not curves:
        continue
      steps = sorted(set.intersection(*(set(curve) for curve in curves)))
      values = np.array([[curve[step][score] for step in steps] for curve in curves])
      (lines[recipe],) = panel.plot(steps, values.mean(0), color=f'C{i}')
      panel.fill_between(steps, values.min(0), values.max(0), color=f'C{i}', alpha=0.2, linewidth=0)
    panel.set(title=kind, xlabel='step', ylabel=score.replace('_', ' '), yscale='log')
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter('{x:g}')
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.spines[['top', 'right']].set_visible(False)
  figure.legend(lines.values(), lines.keys(), loc='outside lower center', ncols=3, frameon=False, fontsize=8)
  figure.savefig(path, dpi=110)


def main() -> None:
  """Trains missing runs, prints the tables and draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', default='cifar10', help=f'with commas: {", ".join(DATA)}, folder:PATH')
  parser.add_argument('--image_size', type=int, default=32, choices=(32, 64))
  parser.add_argument('--recipes', help='with semicolons; by default all')
  parser.add_argument('--seeds', default='0', help='with commas')
  parser.add_argument('--steps', type=int, default=3000)
  parser.add_argument('--folder', type=Path, default=Path('runs/ablation'))
  parser.add_argument('--only_show', action='store_true', help='do not train')
  parser.add_argument('--out', type=Path, help='a .png for the figure')
  arguments = parser.parse_args()
  preset, common, known = (
    ('image_folder', COMMON_64, RECIPES_64) if arguments.image_size == 64 else ('cifar10_32', {}, RECIPES)
  )
  data, recipes = arguments.data.split(','), (arguments.recipes or ';'.join(known)).split(';')
  if unknown := [recipe for recipe in recipes if recipe not in known]:
    parser.error(f'--recipes: no {unknown[0]!r} at this size; choose of {"; ".join(known)}')
  for name in data:
    if name not in DATA and not (name.startswith('folder:') and _folder(name).is_dir()):
      parser.error(
        f'--data: no {name!r}; choose of {", ".join(DATA)}, or folder:PATH of a folder that exists'
      )
  if arguments.image_size == 64 and 'cifar10_1000' in data:
    parser.error('--data: cifar10_1000 is scored against all images at 32x32 only')
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  folder = Path(os.path.abspath(arguments.folder))
  if not arguments.only_show:
    for seed in seeds:
      for kind in data:
        for recipe in recipes:
          workdir = folder / name_of(kind, recipe, seed)
          keys = common | data_keys(kind) | known[recipe]
          train(workdir, keys, seed, arguments.steps, preset=preset)
          if recipe in UNAVERAGED:
            score_unaveraged(workdir, UNAVERAGED[recipe])
          if kind == 'cifar10_1000':
            score_against_all(workdir, folder / 'cifar10_whole')
  for kind in data:
    print('\n'.join(table(folder, kind, recipes, seeds, arguments.steps)), end='\n\n')
  if arguments.out:
    plot(arguments.out, folder, data, recipes, seeds)


if __name__ == '__main__':
  main()
