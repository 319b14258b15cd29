"""Measures distribution over devices and processes: deviations, communication and cost.

python benchmarks/distribution.py --config=configs/mnist.py --batch=64 --steps=50 --narrow=4

The same run is trained on 1, 2, 4 and 8 fake CPU devices and in two processes with 1 and 2 devices each, in
float32 and float64; a table shows the deviations of parameters and losses from one device. Then follow the
all-reduces of the compiled step, and the time of the step on one device relative to a plainly jitted one. The
last line is a JSON object.
"""

import argparse
import dataclasses
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from ml_collections import ConfigDict

from benchmarks import processes

if TYPE_CHECKING:  # The workers import JAX themselves.
  from dcgan_jax.runs.experiment import Experiment

# (processes, devices per process)
TOPOLOGIES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2))


def build(config: ConfigDict, dtype: str = 'float32') -> 'Experiment':
  """Returns the parts of a run that computes in a dtype, also float64, which no config allows."""
  from dcgan_jax import settings
  from dcgan_jax.runs import experiment

  checked = settings.check(config)
  return experiment.build(dataclasses.replace(checked, train=dataclasses.replace(checked.train, dtype=dtype)))


def run_steps(config: ConfigDict, dtype: str, steps: int, out: str) -> None:
  """Trains in a worker; process 0 writes parameters and losses to an .npz."""
  import jax

  from dcgan_jax.core.accumulation import Examples
  from dcgan_jax.data import cache
  from dcgan_jax.data.order import batch_indices
  from dcgan_jax.devices import placement
  from dcgan_jax.devices.processes import is_main
  from dcgan_jax.training.rounds import TakeRound

  if dtype == 'float64':
    jax.config.update('jax_enable_x64', True)
  mesh = placement.mesh()
  built = build(config, dtype)
  images = cache.load(built.source, config.data.source)

  def create_wide() -> Any:
    """Returns the initial state with all arrays in the dtype of the computation."""
    floating = jax.numpy.floating
    return jax.tree.map(
      lambda x: x.astype(dtype) if jax.numpy.issubdtype(x.dtype, floating) else x, built.initial_state()
    )

  state = jax.jit(create_wide, out_shardings=placement.replicated(mesh))()
  run = TakeRound(built, mesh)
  rows, losses = placement.own_rows(mesh, config.train.batch_size), []
  for step in range(steps):
    indices = batch_indices(config.seed, step, config.train.batch_size, len(images))[rows]
    state, _, metrics = run(state, placement.put_batch(mesh, Examples(images[indices])))
    losses.append([float(metrics[key]) for key in ('loss_d', 'loss_g')])
  parameters = jax.tree.leaves((state.generator.params, state.discriminator.params))
  if is_main():
    np.savez(out, losses=np.array(losses), parameters=np.concatenate([np.ravel(p) for p in parameters]))


def train(topology: tuple[int, int], dtype: str, passed_on: list[str], out: Path) -> dict[str, np.ndarray]:
  """Returns the output of `run_steps` for a topology (processes, devices per process)."""
  count, devices = topology
  flags = f'--xla_force_host_platform_device_count={devices}'
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    coordinator = f'127.0.0.1:{free.getsockname()[1]}'
  command = [sys.executable, __file__, *passed_on, f'--dtype={dtype}', f'--out={out}']
  started = [
    subprocess.Popen(
      [*command, f'--join={coordinator},{count},{i}'],
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]
  for process in started:
    _, errors = process.communicate()
    if process.returncode:
      raise SystemExit(f'{topology}: {errors[-2000:]}')
  with np.load(out) as arrays:
    return dict(arrays)


def deviations(passed_on: list[str], figure: str | None) -> dict[str, Any]:
  """Trains all topologies, prints the table and draws all losses."""
  results: dict[str, Any] = {}
  curves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
  titles = (f'{dtype + ": parameters":>22}{"losses":>10}' for dtype in ('float32', 'float64'))
  print(f'{"processes x devices":20}', *titles, sep='')
  with tempfile.TemporaryDirectory() as folder:
    for topology in TOPOLOGIES:
      name, cells = f'{topology[0]} x {topology[1]}', []
      for dtype in ('float32', 'float64'):
        run = train(topology, dtype, passed_on, Path(folder) / 'run.npz')
        one = curves.setdefault((dtype, '1 x 1'), run)
        curves[dtype, name] = run
        cells += [float(np.abs(run[key] - one[key]).max()) for key in ('parameters', 'losses')]
      print(f'{name:20}{cells[0]:22.1e}{cells[1]:10.1e}{cells[2]:22.1e}{cells[3]:10.1e}', flush=True)
      results[name] = cells
  if figure:
    draw({name: run['losses'] for (dtype, name), run in curves.items() if dtype == 'float32'}, figure)
  return results


def draw(losses: dict[str, np.ndarray], path: str) -> None:
  """Draws the loss curves on top of each other, with later ones thinner."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 3.5), layout='constrained')
  axes = figure.subplots(1, 2)
  for i, (name, curve) in enumerate(losses.items()):
    for axis, column, title in zip(axes, curve.T, ('loss of D', 'loss of G')):
      axis.plot(column, label=name, linewidth=2 * (len(losses) - i), alpha=0.9)
      axis.set_title(title)
      axis.set_xlabel('step')
      axis.spines[['top', 'right']].set_visible(False)
  axes[0].legend(title='processes x devices', frameon=False)
  figure.savefig(path, dpi=110)


def collectives(config: ConfigDict) -> dict[str, Any]:
  """Counts the all-reduces of a compiled step and their bytes, and those of the parameters."""
  import jax

  from dcgan_jax.core.accumulation import Examples
  from dcgan_jax.devices import placement

  mesh, built = placement.mesh(), build(config)
  shape = (config.train.batch_size, *built.settings.data.size, config.data.channels)
  batches = placement.Batches(Examples(jax.ShapeDtypeStruct(shape, np.uint8)))
  state = built.shapes
  text = built.train_program(mesh).lower(state, batches).compile().as_text()
  operands = re.findall(r'= (\S.*?) all-reduce(?:-start)?\(', str(text))
  sizes = [
    sum(
      4 * int(np.prod([int(n) for n in dims.split(',') if n])) for dims in re.findall(r'f32\[([\d,]*)\]', o)
    )
    for o in operands
  ]
  networks = [
    4 * sum(x.size for x in jax.tree.leaves(n.params)) for n in (state.generator, state.discriminator)
  ]
  large = [size for size in sizes if size > 0.5 * min(networks)]
  return {
    'all_reduces': len(sizes),
    'of_gradients': len(large),
    'bytes': sum(sizes),
    'bytes_of_gradients': sum(large),
    'bytes_of_parameters': sum(networks),
  }


def cost(config: ConfigDict, rounds: int) -> float:
  """Returns the time of the step of `main.py` on one device divided by that of a plainly jitted one.

  Both take turns; the result is the median over pairs.
  """
  import jax

  from dcgan_jax.core import compiling
  from dcgan_jax.core.accumulation import Examples
  from dcgan_jax.devices import placement
  from dcgan_jax.training.rounds import TakeRound

  mesh, built = placement.mesh(), build(config)
  shape = (config.train.batch_size, *built.settings.data.size, config.data.channels)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  plain = compiling.jit(built.train_step(None), donate_argnums=0)
  ours = TakeRound(built, mesh)
  steps: dict[str, tuple[Callable[..., Any], Any]] = {
    'plain': (plain, jax.device_put(images)),
    'ours': (ours, placement.put_batch(mesh, Examples(images))),
  }
  states = {name: built.first_state() for name in steps}
  seconds: dict[str, list[float]] = {name: [] for name in steps}
  for i in range(rounds + 2):
    for name, (step, batch) in steps.items():
      start = time.perf_counter()
      states[name], *_ = jax.block_until_ready(step(states[name], batch))
      if i >= 2:
        seconds[name].append(time.perf_counter() - start)
  return statistics.median(b / a for a, b in zip(seconds['plain'], seconds['ours']))


def in_process(what: str, devices: int, passed_on: list[str]) -> Any:
  """Runs one part of this script in a new process with fake devices; returns the JSON that it prints."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  environment = os.environ | processes.OUR_ENVIRONMENT | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, __file__, *passed_on, f'--only={what}']
  done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
  return json.loads(done.stdout.splitlines()[-1])


def parse() -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/mnist.py')
  parser.add_argument('--batch', type=int, default=64, help='images a step, over all devices')
  parser.add_argument('--steps', type=int, default=50)
  parser.add_argument('--narrow', type=int, default=1, help='divide the widths of both networks')
  parser.add_argument('--figure', help='.png of the loss curves')
  parser.add_argument('--rounds', type=int, default=20, help='pairs of timed steps')
  parser.add_argument('--parts', default='deviations,collectives,cost', help='with commas')
  parser.add_argument('--only', choices=('collectives', 'cost'), help=argparse.SUPPRESS)
  parser.add_argument('--dtype', default='float32', help=argparse.SUPPRESS)
  parser.add_argument('--join', help=argparse.SUPPRESS)
  parser.add_argument('--out', help=argparse.SUPPRESS)
  return parser.parse_args()


def main() -> int:
  """Runs the parts or, in a worker, one of them; returns the exit status."""
  arguments = parse()
  config = processes.load_config(arguments.config)
  config.train.batch_size = arguments.batch
  for network in (config.generator, config.discriminator):
    network.widths = tuple(width // arguments.narrow for width in network.widths)
  if arguments.join:
    coordinator, count, number = arguments.join.split(',')
    if int(count) > 1:
      from dcgan_jax.devices.processes import initialize

      initialize(coordinator, int(count), int(number))
    run_steps(config, arguments.dtype, arguments.steps, arguments.out)
    return 0
  if arguments.only:
    print(
      json.dumps(collectives(config) if arguments.only == 'collectives' else cost(config, arguments.rounds))
    )
    return 0

  passed_on = [
    f'--{key}={getattr(arguments, key)}' for key in ('config', 'batch', 'steps', 'narrow', 'rounds')
  ]
  results: dict[str, Any] = {}
  for part in arguments.parts.split(','):
    if part == 'deviations':
      results[part] = deviations(passed_on, arguments.figure)
    else:
      results[part] = in_process(part, 2 if part == 'collectives' else 1, passed_on)
      print(part, json.dumps(results[part]), flush=True)
  print(json.dumps(results))
  return 0


if __name__ == '__main__':
  sys.exit(main())
