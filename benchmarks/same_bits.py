"""Compares the training of two checkouts bit by bit, to show that a change preserves all results.

git worktree add ../before COMMIT
python benchmarks/same_bits.py --before=../before --steps=30

Each checkout trains `digits`, `mnist`, `svhn`, `image_folder` and `modern`, the last three with narrow
networks, and `svhn` and `image_folder` on a small generated folder of colour images. The final states are
compared array by array. `mnist` and `modern` need their data sets, from `TFDS_DATA_DIR` or by download. The
status is 1 if a difference is above --tolerance.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from PIL import Image
from sklearn import datasets

ROOT = Path(__file__).parents[1]
NARROW_SVHN = ['--config.generator.widths=(64,32,16)', '--config.discriminator.widths=(16,32,64)']
NARROW = ['--config.generator.widths=(64,32,16,8)', '--config.discriminator.widths=(8,16,32,64)']


def cases(folder: Path) -> dict[str, list[str]]:
  """Returns the flags of each run, by name."""
  source = f'--config.data.source=folder:{folder}'
  return {
    'digits': ['--config=configs/digits.py'],
    'mnist': ['--config=configs/mnist.py'],
    'svhn': ['--config=configs/svhn.py', source, '--config.eval.every_steps=0', *NARROW_SVHN],
    'image_folder': ['--config=configs/image_folder.py', source, *NARROW],
    'modern': ['--config=configs/modern.py', *NARROW_SVHN],
  }


def write_images(folder: Path) -> None:
  """Writes 200 digits as colour images, each of its own colour."""
  folder.mkdir()
  digits = datasets.load_digits().images[:200] / 16
  colours = np.random.default_rng(0).integers(64, 256, (200, 3))
  for i, (digit, colour) in enumerate(zip(digits, colours)):
    pixels = (digit[:, :, None] * colour).astype(np.uint8)
    Image.fromarray(pixels).resize((40, 40)).save(folder / f'{i:03d}.png')


def train(checkout: Path, workdir: Path, steps: int, flags: list[str]) -> dict[str, np.ndarray]:
  """Trains in a new process; returns the arrays of the final state, by path."""
  command = [sys.executable, 'main.py', *flags, f'--workdir={workdir}', f'--config.train.num_steps={steps}']
  command += ['--config.eval.every_steps=0', '--config.log.tensorboard=False']
  environment = os.environ | {'PYTHONPATH': str(checkout)}
  subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
  state = ocp.load((workdir / 'checkpoints' / str(steps)).absolute())
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf) for path, leaf in leaves}


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> tuple[float, str]:
  """Returns the largest absolute difference, and the name of its array."""
  if a.keys() != b.keys():
    raise SystemExit(f'the states have other arrays: {sorted(a.keys() ^ b.keys())}')
  differences = {name: float(np.abs(a[name].astype(np.float64) - b[name]).max(initial=0.0)) for name in a}
  name = max(differences, key=lambda key: differences[key])
  return differences[name], name


def main() -> int:
  """Compares the checkouts case by case; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--before', type=Path, required=True, help='a checkout of the commit to compare with')
  parser.add_argument('--steps', type=int, default=30)
  parser.add_argument('--tolerance', type=float, default=0.0, help='largest difference that is accepted')
  parser.add_argument('--cases', default='digits,mnist,svhn,image_folder,modern', help='with commas')
  arguments = parser.parse_args()
  worst = 0.0
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    write_images(folder / 'images')
    for case in arguments.cases.split(','):
      flags = cases(folder / 'images')[case]
      states = [
        train(checkout.absolute(), folder / f'{case}_{number}', arguments.steps, flags)
        for number, checkout in enumerate((arguments.before, ROOT))
      ]
      difference, where = largest_difference(*states)
      verdict = 'bit-equal' if difference == 0 else f'differs by {difference:.1e} at most, in {where}'
      print(f'{case}: {len(states[0])} arrays after {arguments.steps} steps: {verdict}', flush=True)
      worst = max(worst, difference)
  return int(worst > arguments.tolerance)


if __name__ == '__main__':
  sys.exit(main())
