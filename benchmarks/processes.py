"""Paired timings: contenders take turns in new processes, so that drift of the machine affects all alike."""

import json
import os
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

ROOT = Path(__file__).parents[1]
# main.py sets this itself; the other contenders run as their users would start them.
OUR_ENVIRONMENT = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'} if sys.platform == 'linux' else {}

Row = dict[str, Any]


def load_config(path: str) -> ConfigDict:
  """Returns the config of a file in `configs/`."""
  return runpy.run_path(str(ROOT / path))['get_config']()


def alternate(contenders: list[str], arguments: list[str], rounds: int) -> dict[str, list[Row]]:
  """Runs the calling script with `--contender=NAME` for each contender in turn, `rounds` times.

  Returns:
    The JSON objects in the last line of output of each round, by contender. One that fails is reported and
    left out.
  """
  results: dict[str, list[Row]] = {name: [] for name in contenders}
  for number in range(rounds):
    for name in list(results):
      environment = os.environ | (OUR_ENVIRONMENT if name == 'ours' else {})
      environment['PYTHONPATH'] = str(ROOT)
      command = [sys.executable, sys.argv[0], f'--contender={name}', *arguments]
      done = subprocess.run(command, env=environment, capture_output=True, text=True)
      if done.returncode:
        print(f'{name} failed: {(done.stderr.strip().splitlines() or ["?"])[-1][:200]}', flush=True)
        del results[name]
        continue
      results[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
      print(f'round {number + 1}: {name} {results[name][-1]["seconds"]:.4f} s', flush=True)
  return results


def time_calls(call: Callable[[], object], seconds: float = 4.0, least: int = 5, warm_up: int = 2) -> float:
  """Returns the median seconds of a call.

  Args:
    call: Function to time.
    seconds: Minimum total duration.
    least: Minimum number of timed calls.
    warm_up: Number of untimed calls before them.
  """
  for _ in range(warm_up):
    call()
  times: list[float] = []
  while len(times) < least or sum(times) < seconds:
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return statistics.median(times)


def report(seconds: float) -> None:
  """Prints the last line of a contender: its seconds and the peak memory of this process."""
  kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(json.dumps({'seconds': seconds, 'peak_memory_mib': round(kibibytes / 1024)}))


def median(rows: list[Row], key: str = 'seconds') -> float:
  """Returns the median of a value over rounds."""
  return statistics.median(row[key] for row in rows)


def ratio(ours: list[Row], theirs: list[Row]) -> float:
  """Returns the median ratio of our seconds to theirs over rounds."""
  return statistics.median(a['seconds'] / b['seconds'] for a, b in zip(ours, theirs))


def print_table(results: dict[str, list[Row]]) -> None:
  """Prints the seconds and the peak memory of each contender, and our seconds divided by its own."""
  print(f'\n{platform.machine()}, {os.cpu_count()} cores')
  print(f'{"contender":24}{"median s":>10}{"min":>10}{"max":>10}{"peak MiB":>10}{"ours / it":>11}')
  for name, rows in results.items():
    times = [row['seconds'] for row in rows]
    line = f'{name:24}{median(rows):10.4f}{min(times):10.4f}{max(times):10.4f}'
    print(line + f'{median(rows, "peak_memory_mib"):10.0f}{ratio(results["ours"], rows):11.3f}')
