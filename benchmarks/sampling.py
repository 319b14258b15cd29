"""Times sampling from a generator with stored statistics against PyTorch in eval mode.

python benchmarks/sampling.py --config=configs/cifar10.py --num=10000 --rounds=3

Both return uint8 arrays, in batches of 64. The last line is a JSON object. The status is 1 if ours is slower.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from ml_collections import ConfigDict

from benchmarks import processes

TORCH = ['torch:nchw', 'torch:channels_last', 'torch:compile']


def run_ours(config: ConfigDict, num: int) -> None:
  """Times `Sampler.sample` of an untrained generator.

  For a trained one, `dcgan_jax.load(workdir)` returns such a sampler.
  """

  from dcgan_jax import settings
  from dcgan_jax.runs import experiment, sampling

  built = experiment.build(settings.check(config))
  variables = built.first_state().sampling_variables
  sampler = sampling.Sampler(built.gan, variables)
  sampler.sample(sampling.BATCH_SIZE)  # This compiles.
  processes.report(processes.time_calls(lambda: sampler.sample(num), 0.0, least=1, warm_up=0))


def run_torch(config: ConfigDict, variant: str, num: int) -> None:
  """Times the same in PyTorch; see `torch_dcgan`."""
  import torch

  from benchmarks import torch_dcgan

  memory_format = torch.contiguous_format if variant == 'nchw' else torch.channels_last
  net = torch_dcgan.generator(config).to(torch_dcgan.DEVICE, memory_format=memory_format).eval()
  generate = torch.compile(net, dynamic=False) if variant == 'compile' else net

  @torch.inference_mode()
  def sample(num: int) -> np.ndarray:
    parts = []
    for start in range(0, num, 64):
      images = generate(torch.randn(64, config.latent.size, 1, 1, device=torch_dcgan.DEVICE))[: num - start]
      pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
      parts.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)

  sample(64)
  processes.report(processes.time_calls(lambda: sample(num), 0.0, least=1, warm_up=0))


def main() -> int:
  """Alternates the contenders, or runs one of them; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/cifar10.py')
  parser.add_argument('--num', type=int, default=10000, help='images')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--contender', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  config = processes.load_config(arguments.config)
  if arguments.contender:
    kind, _, variant = arguments.contender.partition(':')
    run_torch(config, variant, arguments.num) if kind == 'torch' else run_ours(config, arguments.num)
    return 0
  passed_on = [f'--config={arguments.config}', f'--num={arguments.num}']
  results = processes.alternate(['ours', *TORCH], passed_on, arguments.rounds)
  processes.print_table(results)
  seconds = {name: processes.median(rows) for name, rows in results.items()}
  ratios = {name: processes.ratio(results['ours'], rows) for name, rows in results.items()}
  print(json.dumps({'config': arguments.config, 'num': arguments.num, 'seconds': seconds, 'ratio': ratios}))
  return int(max(ratios.values()) > 1)


if __name__ == '__main__':
  sys.exit(main())
