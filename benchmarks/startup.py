"""Times starts: to the first step, with an empty and a full cache; to the help; to an error.

python benchmarks/startup.py --config=configs/digits.py --rounds=3

The last line is a JSON object of median seconds. With the config `digits`, the status is 1 if one exceeds its
bound.
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

ROOT = Path(__file__).parents[1]
BOUNDS = {  # seconds
  'first start': 15.0,
  'second start': 5.0,
  '--help': 0.5,
  '--mode=sample --help': 0.5,
  'config error': 0.5,
}


def seconds_until(wanted: str, arguments: list[str], cache: str) -> float:
  """Returns the seconds from the start of `python main.py` to the first line that starts with `wanted`.

  The process is then killed.
  """
  environment = os.environ | {'DCGAN_JAX_CACHE': cache}
  start = time.perf_counter()
  command = [sys.executable, 'main.py', *arguments]
  with subprocess.Popen(
    command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
  ) as process:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
      seen.append(line)
      if line.startswith(wanted):
        seconds = time.perf_counter() - start
        process.kill()
        return seconds
  raise SystemExit(f'{command} never printed {wanted!r}:\n{"".join(seen)}')


def main() -> int:
  """Times all starts in turn; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/digits.py')
  parser.add_argument('--rounds', type=int, default=3)
  arguments = parser.parse_args()
  times: dict[str, list[float]] = {name: [] for name in BOUNDS}
  for _ in range(arguments.rounds):
    with tempfile.TemporaryDirectory() as folder:
      train = [f'--config={arguments.config}', f'--workdir={folder}/run', '--config.log.every_steps=1']
      times['first start'].append(seconds_until('step 1/', train, f'{folder}/cache'))
      times['second start'].append(seconds_until('step 1/', train, f'{folder}/cache'))
      for asking in ('--help', '--mode=sample --help'):
        times[asking].append(seconds_until('python main.py', asking.split(), folder))
      wrong = [f'--config={arguments.config}', '--config.train.batch_size=0']
      times['config error'].append(seconds_until('error:', wrong, folder))
  medians = {name: statistics.median(values) for name, values in times.items()}
  for name, values in times.items():
    print(f'{name:22}{medians[name]:8.2f} s   {min(values):.2f} to {max(values):.2f}')
  print(json.dumps(medians))
  late = arguments.config.endswith('digits.py') and any(medians[name] > BOUNDS[name] for name in BOUNDS)
  return int(late)


if __name__ == '__main__':
  sys.exit(main())
