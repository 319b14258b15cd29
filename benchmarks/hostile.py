"""Runs each mode in workdirs with hostile content, and with pipes instead of files.

python benchmarks/hostile.py                    # all
python benchmarks/hostile.py --share=0.1        # a tenth, drawn from a seed
python benchmarks/hostile.py --index=17         # one again, with its output

Each must succeed or fail with one line that says what is wrong, within 20 seconds beyond the usual time of
the mode and 1 GiB of memory, with nothing written through a link. The status is 1 if anything failed.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import faults, forks, fuzz_inputs

Place = Callable[[Path], object]  # writes something to a workdir, beside `PRECIOUS`

PRECIOUS = 'precious'
# Arguments of the modes; {out} is a folder for results.
MODES = {
  'train': [],
  'sample': ['--num=4', '--out={out}/x.png'],
  'walk': ['--points=0,1', '--out={out}/x.png'],
  'evaluate': ['--num=10'],
  'report': [],
  'summary': [],
  'verify': [],
  'film': ['--seconds=0.5', '--out={out}/x.gif'],
  'probe': ['--num=40'],
  'project': ['--images={out}/../images', '--num=1', '--steps=2', '--starts=1', '--out={out}/p'],
  'export': ['--out={out}/x.safetensors'],
}
WRITTEN = (
  'config.json', 'classes.json', 'metrics.jsonl', 'rollbacks.json', 'versions.json', 'evaluation.json',
  'evaluation.png', 'init_from.json', 'tracker.json', 'probe.json', 'features.png', 'losses.png',
  'scores.png', 'samples.gif', 'report.html', 'classifier.npz', 'samples/step_00000010.png',
  'samples/step_00000040.png',
)  # fmt: skip
NOTES = ('.lock', '.owner.json')
FOLDERS = ('samples', 'checkpoints', 'statistics', 'damaged', 'left', 'tensorboard', 'checkpoints/20')
ROW = {'step': 2, 'loss_d': 1.0, 'loss_g': 1.0, 'd_real': 0.5, 'd_fake': 0.5, 'images_per_second': 9.0}


def link(name: str, target: str = PRECIOUS) -> Place:
  """Returns a function that creates a link to a precious file."""
  return lambda folder: _clear(folder / name).symlink_to(folder.parent / target)


def pipe(name: str) -> Place:
  """Returns a function that creates a pipe without reader or writer."""
  return lambda folder: os.mkfifo(_clear(folder / name))


def put_folder(name: str) -> Place:
  """Returns a function that creates a folder."""
  return lambda folder: (_clear(folder / name) / 'inside').mkdir(parents=True)


def put(name: str, *content: bytes) -> Place:
  """Returns a function that writes a file, or several numbered ones if the name has a '*'."""

  def place(folder: Path) -> None:
    for i, each in enumerate(content):
      _clear(folder / name.replace('*', f'{i:08d}')).write_bytes(each)

  return place


def rows(*changes: dict[str, object], times: int = 1) -> Place:
  """Returns a function that appends rows of metrics with odd values."""

  def place(folder: Path) -> None:
    with _clear(folder / 'metrics.jsonl').open('w') as file:
      for i in range(times):
        file.writelines(json.dumps(ROW | {'step': 2 * i + 2} | change) + '\n' for change in changes)

  return place


def _clear(path: Path) -> Path:
  """Removes a path, creates its parent folder, and returns the path."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  path.unlink(missing_ok=True)
  path.parent.mkdir(parents=True, exist_ok=True)
  return path


def places() -> dict[str, list[tuple[str, Place]]]:
  """Returns the hostile contents of workdirs with descriptions, by kind."""
  bomb, wide = fuzz_inputs.bomb(9000, 9000), fuzz_inputs.bomb(20_000, 20_000)
  numbers = {name: rows({'loss_d': value}, {'step': 4}) for name, value in (
    ('1e308', 1e308), ('-1e308', -1e308), ('NaN', float('nan')), ('infinity', float('inf')), ('text', 'x'),
    ('1e-320', 1e-320),
  )}  # fmt: skip
  return {
    'links': [(f'{name}{end}', link(name + end)) for name in WRITTEN for end in ('', '.part')]
    + [(name, link(name)) for name in NOTES]
    + [(f'{name} to nothing', link(name, 'nothing')) for name in (*NOTES, 'metrics.jsonl', 'config.json')],
    'pipes': [(name, pipe(name)) for name in (*WRITTEN, *NOTES, *FOLDERS)]
    + [(name, pipe(name)) for name in ('config.json.part', 'checkpoints/20/notes')],
    'folders for files': [(name, put_folder(name)) for name in (*WRITTEN, *NOTES, 'report.html.part')],
    'files for folders': [(name, put(name, b'x')) for name in FOLDERS],
    'metrics': [
      *numbers.items(),
      ('a million rows', rows({}, times=1_000_000)),
      ('steps of 10**18', rows({'step': 10**18})),
      ('a line of 100 MB', put('metrics.jsonl', b'[' * 10**8)),
    ],
    'pictures': [
      ('EPS', put('samples/step_00000010.png', fuzz_inputs.EPS)),
      ('8 bombs', put('samples/step_*.png', *[bomb] * 8)),
      ('8 large bombs', put('samples/step_*.png', *[wide] * 8)),
      ('an animation', put('samples/step_00000010.png', b'GIF89a' + bytes(40))),
      ('a link to /dev/zero', link('samples/step_00000010.png', '/dev/zero')),
    ],
  }  # fmt: skip


# Flags with a pipe, {pipe}, as their path; {out} as above.
FLAGS = [
  ['--mode=evaluate', '--images={pipe}'],
  ['--mode=evaluate', '--features=inception', '--weights={pipe}'],
  ['--mode=project', '--images={pipe}', '--out={out}/p'],
  ['--mode=probe', '--data=folder:{pipe}'],
  ['--mode=sample', '--latents={pipe}', '--out={out}/x.png'],
  ['--mode=walk', '--latents={pipe}', '--points=0,1', '--out={out}/x.png'],
  ['--mode=sample', '--out={pipe}.png'],
  ['--mode=sample', '--flagfile={pipe}'],
  ['--mode=summary', '--config={pipe}'],
  ['--mode=report', '--out={pipe}.html'],
  ['--mode=film', '--out={pipe}.gif'],
  ['--mode=export', '--out={pipe}.safetensors'],
  ['--mode=import', '--format=pytorch', '--source={pipe}'],
  ['--mode=import', '--format=newmu', '--source={pipe}'],
  ['--init_from={pipe}'],
  *(
    [f'--config.data.source={kind}:{{pipe}}']
    for kind in ('folder', 'npy', 'npz', 'stacked:folder', 'hf', 'tfds')
  ),
]


@dataclass(frozen=True)
class Task:
  """A run of a mode in a hostile workdir or with hostile flags."""

  kind: str
  words: str
  place: int  # index in `places()[kind]` or FLAGS
  mode: str
  root: Path
  shared: Path
  usual: dict[str, str]
  duration: float
  index: int
  shows: bool = False

  def __str__(self) -> str:
    return f'{self.kind}: {self.words}, --mode={self.mode}'


def do(task: Task) -> tuple[Task, str, float]:
  """Runs a task; returns it, what was wrong and the peak MiB of the process."""
  run = faults.Run(task.root, np.random.default_rng(0), task.shared, task.usual, task.duration)
  run.begin_at_half()
  precious, out, problem = task.root / PRECIOUS, task.root / 'out', ''
  content = (run.folder / 'config.json').read_bytes()
  precious.write_bytes(content)
  out.mkdir()
  (task.root / 'images').symlink_to(task.shared / 'images')
  if task.kind == 'flags':
    for end in ('', '.png', '.html', '.gif', '.safetensors'):
      os.mkfifo(out / f'pipe{end}')
    arguments = FLAGS[task.place]
    if not arguments[0].startswith('--mode') or 'import' in arguments[0]:
      shutil.rmtree(run.folder)
  else:
    places()[task.kind][task.place][1](run.folder)
    arguments = [f'--mode={task.mode}', *MODES[task.mode]] if task.mode != 'train' else []
  try:
    run.end(run.start(*(argument.format(out=out, pipe=out / 'pipe') for argument in arguments)))
    if precious.read_bytes() != content:
      problem = 'written through the link'
    elif (task.root / 'nothing').exists():
      problem = 'made through the link'
  except (faults.LostError, OSError, ValueError) as error:
    problem = f'{type(error).__name__}: {error}'
  if task.shows:
    print(task, *run.processes[-1].said(), sep='\n', flush=True)
  shutil.rmtree(task.root)
  return task, problem, run.peak


def prepare(shared: Path, usual: dict[str, str], modes: Sequence[str]) -> dict[str, float]:
  """Trains the run and runs some modes on it; returns the duration of each."""
  faults.prepare(shared, usual)
  seconds = {}
  for mode in modes:
    run = faults.Run(shared / f'of {mode}', np.random.default_rng(0), shared, usual, 300)
    run.begin_at_half()
    (run.root / 'out').mkdir()
    (run.root / 'images').symlink_to(shared / 'images')
    command = [f'--mode={mode}', *MODES[mode]] if mode != 'train' else []
    # The few digits of these runs are too few for a probe, which says so in one line.
    run.end(run.start(*(argument.format(out=run.root / 'out') for argument in command)))
    seconds[mode] = run.processes[-1].age
    shutil.rmtree(shared / 'cache')
    run.cache.rename(shared / 'cache')
  return seconds


def main() -> int:
  """Runs the campaign and prints its table; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--share', type=float, default=1.0, help='of all')
  parser.add_argument('--kinds', default=','.join([*places(), 'flags']), help='with commas')
  parser.add_argument('--modes', default=','.join(MODES), help='with commas')
  parser.add_argument('--seed', type=int, default=0, help='of the share')
  parser.add_argument('--index', type=int, help='of one to be tried again')
  parser.add_argument('--jobs', type=int, default=2, help='how many processes at once')
  given = parser.parse_args()
  kinds, modes = given.kinds.split(','), given.modes.split(',')
  random = np.random.default_rng(given.seed)
  plan = [
    (kind, words, i, mode)
    for kind, all_of_it in places().items()
    for i, (words, _) in enumerate(all_of_it)
    for mode in MODES
  ]
  plan += [('flags', ' '.join(flags), i, 'train') for i, flags in enumerate(FLAGS)]
  # The index of a task does not depend on the selection.
  chosen = [
    (n, one)
    for n, one in enumerate(plan)
    if random.random() < given.share and one[0] in kinds and one[3] in modes and given.index in (None, n)
  ]
  failed = 0
  with tempfile.TemporaryDirectory(prefix='hostile') as top, forks.SERVER.Pool(given.jobs) as pool:
    shared, usual = Path(top) / 'shared', dict(os.environ)
    seconds = pool.apply(prepare, (shared, usual, modes))
    tasks = [
      Task(*one, Path(top, f'{n}'), shared, usual, seconds[one[3]], n, given.index is not None)
      for n, one in chosen
    ]
    print('| hostile | times | good | at most MiB |\n|---|---|---|---|', flush=True)
    for kind, together in itertools.groupby(pool.imap(do, tasks), lambda done: done[0].kind):
      problems, peaks = [], []
      for task, problem, peak in together:
        problems.append(problem)
        peaks.append(peak)
        if problem:
          print(f'FAILED: {task} --index={task.index}: {problem}', file=sys.stderr, flush=True)
      good = problems.count('')
      failed += len(problems) - good
      print(f'| {kind} | {len(problems)} | {good} of {len(problems)} | {max(peaks):.0f} |', flush=True)
    pool.close()
    pool.join()
  return int(failed > 0)


if __name__ == '__main__':
  sys.exit(main())
