"""Times the input pipeline: decoding, reading from the cache, and waiting in training.

python benchmarks/input_pipeline.py --configs=configs/digits.py,configs/mnist.py --steps=10
python benchmarks/input_pipeline.py --large=203000 --steps=300

It trains for a few steps in each of three ways: with images on the device (resident), read from the cache
(mapped), and decoded in every epoch (streamed). With --large=N it trains tiny networks on a folder of N
colour images of 64x64, 300 of them different, and compares the images of some steps on the device. The last
line is a JSON object. The status is 1 if training waits for images more than 1 % of the time, or if images
differ.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import processes
from dcgan_jax import settings
from dcgan_jax.data import cache
from dcgan_jax.errors import InputError
from dcgan_jax.runs import experiment

BOUND = 0.01  # maximum share of time that training waits for images
DIFFERENT = 300  # different images in the large data set
MAIN = [sys.executable, 'main.py']
# Trains like main.py on a machine without room for the images on disk or in memory.
WITHOUT_ROOM = [
  sys.executable,
  '-c',
  'import main; from dcgan_jax.data import cache; '
  'cache.load_large = lambda *_: None; main.exits.leave(main.main())',
]
WAYS = {
  'resident': (MAIN, '--config.data.memory_limit=16384'),
  'mapped': (MAIN, '--config.data.memory_limit=0'),
  'streamed': (WITHOUT_ROOM, '--config.data.memory_limit=0'),
}
TINY = {
  'train.batch_size': 64,
  'generator.widths': (8, 8, 8, 8),
  'discriminator.widths': (8, 8, 8, 8),
  'sample.every_steps': 0,
  'checkpoint.every_steps': 10**6,
}


def seconds_to_images(path: str, cache_folder: str) -> tuple[float, int]:
  """Returns the seconds to load an open source into memory, and its number of images."""
  os.environ['DCGAN_JAX_CACHE'] = cache_folder
  config = processes.load_config(path)
  source = experiment.build(settings.check(config)).source  # imports tfds, which is not timed
  start = time.perf_counter()
  images = cache.load(source, config.data.source)
  images.sum(dtype='int64')  # reads mapped images
  return time.perf_counter() - start, len(images)


def memory(process: int) -> dict[str, float]:
  """Returns the resident memory of a process in MiB: its own, and that of mapped files."""
  with contextlib.suppress(OSError):
    lines = dict(line.split(':') for line in Path(f'/proc/{process}/status').read_text().splitlines())
    names = {'own_mib': 'RssAnon', 'files_mib': 'RssFile'}
    return {name: int(lines.get(key, '0').split()[0]) / 1024 for name, key in names.items()}
  return {'own_mib': 0, 'files_mib': 0}


def train(
  way: str, path: str, steps: int, keys: dict[str, Any], cache_folder: str, workdir: Path
) -> dict[str, float]:
  """Trains in one of `WAYS`.

  Returns:
    `input_wait`, the median share of time spent waiting for images, and `images_per_second`, both without the
    first steps; the total `seconds`; and the peak memory, `own_mib` and `files_mib`.
  """
  command, limit = WAYS[way]
  command = [*command, f'--config={path}', f'--workdir={workdir}', limit]
  keys = {'train.num_steps': steps, 'log.every_steps': max(1, steps // 5)} | keys
  command += [f'--config.{key}={value}' for key, value in keys.items()]
  environment = os.environ | {'DCGAN_JAX_CACHE': cache_folder} | processes.OUR_ENVIRONMENT
  start, most = time.perf_counter(), memory(0)
  with subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
    while process.poll() is None:
      time.sleep(0.1)
      most = {name: max(value, most[name]) for name, value in memory(process.pid).items()}
  if process.returncode:
    raise SystemExit(f'{path}: training on {way} images ended with status {process.returncode}')
  seconds = time.perf_counter() - start
  rows = [json.loads(row) for row in (workdir / 'metrics.jsonl').read_text().splitlines()[1:]]
  middle = {key: statistics.median(row[key] for row in rows) for key in ('input_wait', 'images_per_second')}
  return middle | {'seconds': seconds} | most


def make_large(folder: Path, count: int) -> None:
  """Creates a folder of PNG noise images, with many links to each of a few files."""
  rng = np.random.default_rng(0)
  folder.mkdir()
  for i in range(min(count, DIFFERENT)):
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)).save(folder / f'{i:07}.png')
  for i in range(DIFFERENT, count):
    os.link(folder / f'{i % DIFFERENT:07}.png', folder / f'{i:07}.png')


def resident_equals_mapped(source: str, cache_folder: str, steps: int = 20) -> bool:
  """Returns whether the images that are gathered on the device are those that are gathered on the host."""
  from dcgan_jax.devices import placement

  os.environ['DCGAN_JAX_CACHE'] = cache_folder
  mesh, feeds = placement.mesh(), []
  for limit in (16384, 0):
    config = processes.load_config('configs/base.py')
    config.data.source, config.data.memory_limit = source, limit
    feeds.append(experiment.build(settings.check(config)).feed().rounds(mesh, 0, lambda _: 1))

  def gathered(step: int) -> np.ndarray:
    """Returns the images of a step as gathered on the device, as rows."""
    examples, window, _ = next(resident).batches
    return np.asarray(examples.images[window.rows[step - int(window.first)]])

  with contextlib.closing(feeds[0]) as resident, contextlib.closing(feeds[1]) as mapped:
    images = (np.asarray(next(mapped).batches.examples.images) for _ in range(steps))
    return all(np.array_equal(gathered(i), rows.reshape(len(rows), -1)) for i, rows in enumerate(images))


def run_large(count: int, steps: int) -> int:
  """Trains tiny networks on a large data set in each way; returns the exit status."""
  results = {}
  with tempfile.TemporaryDirectory() as folder:
    make_large(Path(folder) / 'pictures', count)
    source = f'folder:{folder}/pictures'
    print(f'{count:,} images, {count * 64 * 64 * 3:,} bytes decoded', flush=True)
    print(f'{"way":28}{"seconds":>9}{"images/s":>10}{"wait":>9}{"own MiB":>10}{"files MiB":>11}', flush=True)
    # The first run decodes all images to the cache for the others.
    for name, way in (('decoded, then mapped', 'mapped'), *((way, way) for way in WAYS)):
      workdir = Path(folder) / name
      found = train(way, 'configs/base.py', steps, TINY | {'data.source': source}, folder, workdir)
      rate = f'{found["images_per_second"]:10,.0f}{found["input_wait"]:9.3%}'
      memories = f'{found["own_mib"]:10,.0f}{found["files_mib"]:11,.0f}'
      print(f'{name:28}{found["seconds"]:9.1f}{rate}{memories}', flush=True)
      results[name] = found
    equal = resident_equals_mapped(source, folder)
  print(f'resident and mapped images are {"equal" if equal else "DIFFERENT"}')
  print(json.dumps(results))
  return int(not equal or any(found['input_wait'] > BOUND for found in results.values()))


def run_configs(paths: list[str], steps: int) -> int:
  """Times the data of each config; returns the exit status."""
  results: dict[str, Any] = {}
  titles = ''.join(f'{"wait, " + way:>16}' for way in WAYS)
  print(f'{"config":28}{"images":>8}{"decoded s":>11}{"cached s":>10}{titles}', flush=True)
  for path in paths:
    with tempfile.TemporaryDirectory() as folder:
      decoded, count = seconds_to_images(path, folder)
      cached, _ = seconds_to_images(path, folder)
      waits = {way: train(way, path, steps, {}, folder, Path(folder) / way)['input_wait'] for way in WAYS}
    shown = ''.join(f'{wait:16.3%}' for wait in waits.values())
    print(f'{path:28}{count:8}{decoded:11.2f}{cached:10.2f}{shown}', flush=True)
    results[path] = {
      'images': count,
      'decoding_seconds': decoded,
      'cached_seconds': cached,
      'input_wait': waits,
    }
  print(json.dumps(results))
  return int(any(max(found['input_wait'].values()) > BOUND for found in results.values()))


def main() -> int:
  """Times the data of each config, or a large data set; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--configs', default='configs/digits.py', help='with commas')
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--large', type=int, default=0, help='images of a data set that is made for this')
  arguments = parser.parse_args()
  if arguments.large:
    return run_large(arguments.large, arguments.steps)
  return run_configs(arguments.configs.split(','), arguments.steps)


if __name__ == '__main__':
  try:
    sys.exit(main())
  except InputError as error:
    sys.exit(f'error: {error}')
