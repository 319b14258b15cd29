"""Times a train step against PyTorch and plain Flax, in alternating processes.

python benchmarks/train_step.py --config=configs/cifar10.py --batch=64 --against=torch,flax --rounds=7

`ours` is the program that `python main.py` runs. `torch` stands for three contenders, eager with NCHW, eager
with channels_last and torch.compile; the fastest counts. The last line is a JSON object. The status is 1 if
ours takes more than --bound times as long as the fastest. For a GPU, see `gpu_step.py`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from ml_collections import ConfigDict

from benchmarks import processes
from dcgan_jax import settings

AGAINST = {'torch': ['torch:nchw', 'torch:channels_last', 'torch:compile'], 'flax': ['flax']}
ROWS = 10_000  # steps in the image order
BOUNDS = {
  'cifar10': 0.90,
  'cifar10_32': 0.80,
  'mnist': 0.90,
  'relativistic': 0.85,
}  # ours / PyTorch's best, on two CPU cores


def random_images(config: ConfigDict) -> np.ndarray:
  """Draws a batch, uint8 [B, H, W, C]."""
  shape = (config.train.batch_size, *settings.check(config).data.size, config.data.channels)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def ours(config: ConfigDict, together: int = 1) -> Callable[[], object]:
  """Returns a function that takes `together` steps on all devices, like `main.py`, and waits for them."""
  import jax

  from dcgan_jax.core.accumulation import Examples
  from dcgan_jax.data import cache
  from dcgan_jax.devices import placement, programs
  from dcgan_jax.runs import experiment
  from dcgan_jax.training import rounds

  cache.keep_compiled_programs()
  mesh, built = placement.mesh(), experiment.build(settings.check(config))
  images = random_images(config)
  rows = np.arange(len(images), dtype=np.int32)[None].repeat(ROWS, 0)
  window = placement.put_whole(mesh, placement.Window(rows, np.array(0, np.int32)))
  in_program = min(together, rounds.most_steps(built.settings))
  batches = placement.Batches(
    placement.put_data_set(mesh, Examples(images)), window, np.array(in_program, np.int32)
  )
  now = built.first_state(placement.replicated(mesh))
  run = rounds.TakeRound(built, mesh, None if in_program == 1 else programs.LONGEST_INNER)

  def take_steps() -> None:
    nonlocal now
    for _ in range(together // in_program):
      now, *metrics = run(now, batches)
    jax.block_until_ready((now, metrics))

  return take_steps


def run_flax(config: ConfigDict) -> None:
  """Times a step with Flax's own layers; see `flax_dcgan`."""
  import jax

  from benchmarks import flax_dcgan

  g, d = jax.jit(lambda: flax_dcgan.create(config))()
  images = jax.numpy.asarray(random_images(config))
  step = jax.jit(flax_dcgan.train_step, donate_argnums=(0, 1))
  key = jax.random.key(0)

  def step_once() -> None:
    nonlocal g, d, key
    key, z_key = jax.random.split(key)
    z = jax.random.normal(z_key, (len(images), config.latent.size))
    g, d, losses = step(g, d, z, images)
    jax.block_until_ready((g, d, losses))

  processes.report(processes.time_calls(step_once))


def pytorchs(config: ConfigDict, variant: str, together: int = 1) -> Callable[[], object]:
  """Returns a function that takes `together` steps in PyTorch and waits for them; see `torch_dcgan`."""
  import torch

  from benchmarks import torch_dcgan

  # On a GPU, torch.compile 2.11 fails with channels_last, because it expects gradients with other strides.
  nchw = variant == 'nchw' or (variant == 'compile' and torch_dcgan.DEVICE == 'cuda')
  memory_format = torch.contiguous_format if nchw else torch.channels_last
  step = torch_dcgan.TrainStep(config, memory_format, compiled=variant == 'compile')
  height, width = settings.check(config).data.size
  images = torch.randint(
    0, 256, (config.train.batch_size, config.data.channels, height, width), dtype=torch.uint8
  ).to(torch_dcgan.DEVICE)

  def take_steps() -> None:
    for _ in range(together):
      losses = step(images)
    losses['loss_g'].item()

  return take_steps


def direct_gflop(config: ConfigDict) -> float:
  """Returns the GFLOP of the convolutions of a step by definition, without fast algorithms.

  A multiply-add counts as 2 FLOP.
  """

  def layers(widths: tuple[int, ...], sizes: list[tuple[int, int]], kernel_size: int) -> list[float]:
    pairs = zip(widths, widths[1:], sizes)
    return [2e-9 * a * b * h * w * kernel_size**2 * config.train.batch_size for a, b, (h, w) in pairs]

  def sizes(strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the feature sizes of convolutions with these strides, starting at the image."""
    factors = np.cumprod(strides)
    return [(height // f, width // f) for f in factors]

  height, width = settings.check(config).data.size
  g, d = config.generator, config.discriminator
  in_g = layers((config.data.channels, *g.widths[::-1]), sizes(g.strides[::-1]), g.kernel_size)
  in_d = layers((config.data.channels, *d.widths), sizes(d.strides), d.kernel_size)
  # Forward passes of D. Two of them need kernel gradients, three need input gradients; only one of the three,
  # for G, reaches the image.
  forward = 2 if config.train.order == 'simultaneous' else 3
  return (forward + 2 + 3) * sum(in_d) - 2 * in_d[0] + 3 * sum(in_g)


def peak_gflops() -> float:
  """Measures the GFLOP/s of float32 matrix products in XLA on this machine."""
  import jax

  x = jax.numpy.ones((2048, 2048))
  product = jax.jit(lambda x: x @ x)
  return 2e-9 * 2048**3 / processes.time_calls(lambda: product(x).block_until_ready(), 2.0)


def run_contender(name: str, config: ConfigDict) -> None:
  """Times one contender and reports it."""
  kind, _, variant = name.partition(':')
  if kind == 'flax':
    run_flax(config)
  else:
    processes.report(processes.time_calls(pytorchs(config, variant) if kind == 'torch' else ours(config)))


def main() -> int:
  """Alternates the contenders, or runs one of them; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10.py')
  parser.add_argument('--batch', type=int, default=64, help='images a step')
  parser.add_argument('--against', default='torch', help='torch, flax or both with a comma')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--dtype', default='float32', help='of the computation: float32 or bfloat16')
  parser.add_argument(
    '--relativistic',
    action='store_true',
    help='relativistic loss, R1 and R2, no batch norm in D, Adam (0, .99)',
  )
  parser.add_argument('--bound', type=float, help='ours / the best of PyTorch must not be above it')
  parser.add_argument('--contender', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  config.train.batch_size, config.train.dtype = arguments.batch, arguments.dtype
  if arguments.relativistic:
    config.train.loss, config.train.r1, config.train.r2 = 'relativistic', 1.0, 1.0
    config.discriminator.norm = (False,) * len(config.discriminator.norm)
    for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
      optimizer.b1, optimizer.b2 = 0.0, 0.99
  if arguments.contender:
    run_contender(arguments.contender, config)
    return 0

  others = [name for key in arguments.against.split(',') for name in AGAINST[key]]
  if arguments.relativistic:  # torch.compile does not support second derivatives.
    others = [name for name in others if name != 'torch:compile']
  passed_on = [f'--{key}={getattr(arguments, key)}' for key in ('config', 'batch', 'dtype')]
  passed_on += ['--relativistic'] if arguments.relativistic else []
  results = processes.alternate(['ours', *others], passed_on, arguments.rounds)
  processes.print_table(results)
  gflop, peak = direct_gflop(config), peak_gflops()
  seconds = {name: processes.median(rows) for name, rows in results.items()}
  ratios = {name: processes.ratio(results['ours'], rows) for name, rows in results.items()}
  torches = [name for name in results if name.startswith('torch')]
  best = min(torches, key=lambda name: seconds[name]) if torches else None
  stem = 'relativistic' if arguments.relativistic else Path(arguments.config).stem
  bound = arguments.bound or BOUNDS.get(stem)
  if best:
    print(f'ours / {best}, the best of PyTorch: {ratios[best]:.3f} (bound {bound})')
  summary = {
    'config': arguments.config,
    'batch': arguments.batch,
    'dtype': arguments.dtype,
    'step_seconds': seconds,
    'images_per_second': {name: arguments.batch / s for name, s in seconds.items()},
    'ratio': ratios,
    'best_of_torch': best,
    'peak_memory_mib': {name: processes.median(rows, 'peak_memory_mib') for name, rows in results.items()},
    # The GFLOP are those by definition, so fast algorithms may exceed the peak.
    'direct_gflops': {name: gflop / s for name, s in seconds.items()},
    'matmul_peak_gflops': peak,
    'share_of_peak': {name: gflop / s / peak for name, s in seconds.items()},
  }
  print(json.dumps(summary))
  return int(best is not None and bound is not None and ratios[best] > bound)


if __name__ == '__main__':
  sys.exit(main())
