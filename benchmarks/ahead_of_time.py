"""Compiles the train step of every preset for other machines ahead of time, and checks bounds.

pip install -e '.[aot]' && pip install -e '.[aotcuda]'   # the compilers, best in a separate environment
python benchmarks/ahead_of_time.py --presets=cifar10,celeba --targets=h100,v5e:2x4

Each preset and target runs in its own process, one after the other: 15 to 30 seconds for H100 on two cores,
two to six minutes for a TPU. Nothing is executed, so it prints bytes and counts, not times. The status is 1
if a bound is violated: on H100 every convolution calls cuDNN; no instruction allocates an array as large as
the data set; temporaries of `cifar10` on v5e take at most 300 MiB; there are at most `most_all_reduces`
all-reduces and no other communication.
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGETS = ['h100', 'h100:8', 'v5e:1x1', 'v5e:2x4', 'v6e:2x2']
# Sizes of data sets, which need not be on this machine; for folders, as many images as fit on a device.
IMAGES = {
  'celeba': 162_770,
  'cifar10': 50_000,
  'cifar10_32': 50_000,
  'fashion_mnist': 60_000,
  'mnist': 60_000,
  'mnist_conditional': 50_000,
  'mnist_dropout': 60_000,
  'modern': 50_000,
  'modern_64': 50_000,
  'svhn': 73_257,
}
MOST_TEMPORARIES = {('cifar10', 'v5e:1x1'): 300, ('cifar10', 'v5e:2x4'): 300}  # MiB per device
HEAD = (
  'preset',
  'target',
  'state',
  'data set',
  'temporaries',
  'whole step',
  'convolutions',
  'all-reduces',
  'their MiB',
  'branches',
  'GFLOP',
  'broken bounds',
)
MIB = 2**20


def presets() -> list[str]:
  """Returns the names of all configs with a data set."""
  names = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
  return [name for name in names if name not in ('__init__', 'base')]


def measure(preset: str, target: str) -> dict:
  """Compiles a preset for a target in this process; returns the report and the values to check."""
  from dcgan_jax import settings
  from dcgan_jax.runs import experiment
  from dcgan_jax.trained.targets import names, report, topology
  from dcgan_jax.training import rounds

  config = importlib.import_module(f'configs.{preset}').get_config()
  if preset.startswith('image_folder'):
    config.data.source = 'folder:images'  # a placeholder; no image is read
  chosen, machine = settings.check(config), names.parse(target)
  mesh, parts = topology.mesh(machine), experiment.build(chosen)
  images = report.find_images(parts, IMAGES.get(preset))
  steps = 1 if images.streamed else rounds.most_steps(chosen, machine.platform)
  made = dataclasses.asdict(report.measure(parts, machine, mesh, images, steps))
  return made | {'most_reduced': most_all_reduces(parts) if mesh.size > 1 else 0}


def most_all_reduces(parts: Any) -> int:
  """Returns the maximum number of all-reduces in a step: for gradients, metrics and batch-norm statistics.

  There is one per network for the gradients, and one for the metrics. A batch norm has one per forward pass
  and one per backward pass, or two if the variance is computed in two passes. Compilers may combine some, so
  this is the number in the source program.
  """
  from dcgan_jax.core.models import LEAST_EPSILON_OF_FAST_VARIANCE

  train, networks = parts.settings.train, (parts.settings.generator, parts.settings.discriminator)
  if not train.sync_norm:
    return 5
  norms = [sum(net.norm) + net.norm[at] * len(net.dense_widths) for net, at in zip(networks, (0, -1))]
  each = [1 + (net.norm_epsilon < LEAST_EPSILON_OF_FAST_VARIANCE) for net in networks]
  # G has one forward and backward pass. D sees real images, fakes, and fakes again in the update of G; if a
  # step is one of two branches, it also sees real images and fakes for the metrics of the other branch.
  passes = (2 + train.fresh_z, 8 if train.order == 'one_per_batch' else 6)
  return 3 + sum(n * times * size for n, times, size in zip(norms, passes, each))


def broken(preset: str, made: dict) -> list[str]:
  """Returns the bounds that a report violates, in words."""
  found, target = [], made['target']
  if target['platform'] == 'gpu':
    others = {kind: n for kind, n in made['convolutions'].items() if not kind.startswith('cuDNN')}
    found += [f'{n} convolutions {kind}' for kind, n in others.items()]
  found += [f'{copy["kind"]} of the data set, {copy["bytes"] / MIB:,.0f} MiB' for copy in made['copies']]
  most = MOST_TEMPORARIES.get((preset, target['name']))
  if most and made['temporaries'] > most * MIB:
    found.append(f'temporaries over {most} MiB')
  if reduced(made)['count'] > made['most_reduced']:
    found.append(f'over {made["most_reduced"]} all-reduces')
  found += [f'{each["kind"]}s' for each in made['collectives'] if each['kind'] != 'all-reduce']
  if made['total'] > target['memory'] * MIB:
    found.append('does not fit')
  return found


def reduced(made: dict) -> dict:
  """Returns the all-reduces of a report, with their bytes."""
  return next((it for it in made['collectives'] if it['kind'] == 'all-reduce'), {'count': 0, 'bytes': 0})


def row(preset: str, made: dict) -> tuple[str, ...]:
  """Returns the table cells of a report."""
  sizes = [f'{made[key] / MIB:,.1f}' for key in ('state', 'data', 'temporaries', 'total')]
  kinds = ', '.join(f'{n} {kind}' for kind, n in made['convolutions'].items())
  between = reduced(made)
  return (
    preset,
    made['target']['name'],
    *sizes,
    kinds,
    str(between['count']),
    f'{between["bytes"] / MIB:,.1f}',
    str(made['branches']),
    f'{made["flops"] / 1e9:,.1f}' if made['flops'] else 'unknown',
    '; '.join(broken(preset, made)) or 'none',
  )


def in_a_process(preset: str, target: str) -> dict | str:
  """Returns the result of `measure` in a new process, or the last line of its output if it fails."""
  command = [sys.executable, str(Path(__file__)), f'--presets={preset}', f'--targets={target}', '--json']
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'TF_CPP_MIN_LOG_LEVEL': '3'}
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
  if done.returncode == 0:
    return json.loads(done.stdout.splitlines()[-1])
  return (done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]


def main() -> int:
  """Compiles and prints a Markdown table; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--presets', default=','.join(presets()))
  parser.add_argument('--targets', default=','.join(TARGETS))
  parser.add_argument('--json', action='store_true', help='one preset and one target, in this process')
  arguments = parser.parse_args()
  names, targets = arguments.presets.split(','), arguments.targets.split(',')
  if arguments.json:
    print(json.dumps(measure(names[0], targets[0])))
    return 0
  print(f'| {" | ".join(HEAD)} |\n|{"---|" * len(HEAD)}', flush=True)
  status = 0
  for target in targets:
    for preset in names:
      made = in_a_process(preset, target)
      if isinstance(made, str):
        cells = (preset, target, *[''] * (len(HEAD) - 3), made.replace('|', '/'))
      else:
        cells = row(preset, made)
      status |= cells[-1] != 'none'
      print(f'| {" | ".join(cells)} |', flush=True)
  return int(status)


if __name__ == '__main__':
  sys.exit(main())
