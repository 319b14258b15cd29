"""Times how images get to the train step: decoding, reading from the cache, and waiting in training.

python benchmarks/input_pipeline.py --configs=configs/digits.py,configs/mnist.py --steps=10

It trains for a few steps with the images in memory, and for as many with streamed ones. The last line is a
JSON object. The status is 1 if training waits for images more than one per cent of the time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import processes
from dcgan_jax import experiment, settings
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError

BOUND = 0.01  # share of the time that training may wait for images


def seconds_to_images(path: str, cache_folder: str) -> tuple[float, int]:
  """Returns the seconds from an open source to all of its images in memory, and how many images it has."""
  os.environ['DCGAN_JAX_CACHE'] = cache_folder
  config = processes.load_config(path)
  source = experiment.build(settings.check(config)).source  # This imports tfds, which is not timed.
  start = time.perf_counter()
  images = cache.load(source, config.data.source)
  images.sum(dtype='int64')  # This reads what is only mapped.
  return time.perf_counter() - start, len(images)


def input_wait(path: str, steps: int, more: list[str], cache_folder: str, workdir: str) -> float:
  """Trains; returns the median share of the time that training waited for images, without the first steps."""
  command = [sys.executable, 'main.py', f'--config={path}', f'--workdir={workdir}', *more]
  command += [f'--config.train.num_steps={steps}', f'--config.log.every_steps={max(1, steps // 5)}']
  environment = os.environ | {'DCGAN_JAX_CACHE': cache_folder}
  subprocess.run(command, cwd=processes.ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
  rows = (Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return statistics.median(json.loads(row)['input_wait'] for row in rows[1:])


def main() -> int:
  """Times the data of each config; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--configs', default='configs/digits.py', help='with commas')
  parser.add_argument('--steps', type=int, default=10)
  arguments = parser.parse_args()
  results = {}
  print(f'{"config":28}{"images":>8}{"decoded s":>11}{"cached s":>10}{"wait":>9}{"wait, streamed":>16}')
  for path in arguments.configs.split(','):
    with tempfile.TemporaryDirectory() as folder:
      decoded, count = seconds_to_images(path, folder)
      cached, _ = seconds_to_images(path, folder)
      wait = input_wait(path, arguments.steps, [], folder, f'{folder}/a')
      stream = ['--config.data.memory_limit=0']
      streamed = input_wait(path, arguments.steps, stream, folder, f'{folder}/b')
    print(f'{path:28}{count:8}{decoded:11.2f}{cached:10.2f}{wait:9.3%}{streamed:16.3%}', flush=True)
    results[path] = {
      'images': count,
      'decoding_seconds': decoded,
      'cached_seconds': cached,
      'input_wait': wait,
      'input_wait_streamed': streamed,
    }
  print(json.dumps(results))
  return int(any(max(r['input_wait'], r['input_wait_streamed']) > BOUND for r in results.values()))


if __name__ == '__main__':
  try:
    sys.exit(main())
  except InputError as error:
    sys.exit(f'error: {error}')
