"""Does to runs what machines and users do to them, and checks that nothing is lost.

python benchmarks/faults.py                     # all faults, at least 200 of them, an hour or two
python benchmarks/faults.py --share=0.05 --faults=killed,damaged

Each fault befalls a small run on the digits, in processes of its own. Then the run is started again, and its
last state must be bit-equal to that of a run that nothing has befallen; where the fault is one that nothing
can mend, one line must say what is wrong. A traceback in any output counts as a loss. The faults `full`,
`slow` and `read_only` mount small disks, for which the user must be root; `slow` throttles its disk by a
control group (version 1). The status is 1 if anything was lost.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
STEPS = 120
KEYS = {
  'data.image_size': 8,
  'generator.widths': (8, 6),
  'discriminator.widths': (6, 8),
  'discriminator.dropout': 0.2,
  'latent.size': 10,
  'train.batch_size': 16,
  'train.num_steps': STEPS,
  'log.every_steps': 2,
  'log.tensorboard': True,
  'sample.every_steps': 20,
  'sample.num': 16,
  'checkpoint.every_steps': 10,
  'checkpoint.keep': 2,
}
# Time jumps by an hour, back and forth, every second.
CLOCK = """
import time
_now = time.time
time.time = lambda: _now() + 3600 * (int(_now()) % 3 - 1)
"""


class LostError(Exception):
  """Something was lost, or nobody said why."""


@dataclass
class Run:
  """A run that is about to suffer.

  Attributes:
    folder: its workdir.
    random: draws moments, files and bytes.
    cache: folder of what is kept between starts.
    duration: seconds that a start takes if nothing befalls it.
    keys: of its config, beyond KEYS.
    environment: variables beyond the user's.
    said: on standard output, by the process that ended last.
  """

  folder: Path
  random: np.random.Generator
  cache: Path
  duration: float
  keys: dict[str, Any] = field(default_factory=dict)
  environment: dict[str, str] = field(default_factory=dict)
  said: str = ''

  def start(self, *arguments: str) -> subprocess.Popen[str]:
    """Starts training, or another mode by its arguments."""
    command = [sys.executable, 'main.py', f'--workdir={self.folder}']
    if not any(argument.startswith('--mode=') for argument in arguments):
      command += ['--config=configs/digits.py']
      command += [f'--config.{key}={value}' for key, value in (KEYS | self.keys).items()]
    command += arguments
    environment = os.environ | {'DCGAN_JAX_CACHE': str(self.cache)} | self.environment
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)

  def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end of a process; returns its status and what it said on standard error."""
    out, err = process.communicate(timeout=300)
    self.said = out
    if 'Traceback' in out + err:
      raise LostError(f'a traceback: {err[-600:]}')
    return process.returncode, err

  def finish(self, *arguments: str) -> str:
    """Runs to the end, which must succeed; returns what was said on standard error."""
    status, err = self.end(self.start(*arguments))
    if status:
      raise LostError(f'status {status}: {err.strip()[-300:]}')
    return err

  def refuse(self, *arguments: str, saying: str = '') -> None:
    """Starts what must be refused in one line that has some words in it."""
    status, err = self.end(self.start(*arguments))
    if not status or err.strip().count('\n') or saying not in err:
      raise LostError(f'status {status}, {saying!r} expected: {err.strip()[-300:]}')

  def let(self, process: subprocess.Popen[str], seconds: float) -> None:
    """Lets a process work for some time, or to its end if that comes first."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(seconds)

  def wait_for(self, process: subprocess.Popen[str], pattern: str) -> bool:
    """Waits until files of a pattern are in the workdir; returns False if the process ends before."""
    while process.poll() is None:
      if any(self.folder.glob(pattern)):
        return True
      time.sleep(0.001)
    return False

  def kill(self, process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal, reads what the process has said, and looks whether that is so."""
    process.send_signal(number)
    status, _ = self.end(process)
    if status not in (0, -number, 128 + number):
      raise LostError(f'status {status} after {number.name}')
    self.check_what_was_said()

  def check_what_was_said(self) -> None:
    """Looks for what the process has said to be on disk, and for what must be there before a checkpoint."""
    logged = [int(step) for step in re.findall(r'^step (\d+)/', self.said, re.MULTILINE)]
    saved = [int(step) for step in re.findall(r'  saved (\d+),', self.said)]
    checkpoints = [int(path.name) for path in self.folder.glob('checkpoints/*') if path.name.isdigit()]
    if saved and max(checkpoints, default=0) < saved[-1]:
      raise LostError(f'step {saved[-1]} was said to be saved')
    rows = self.folder / 'metrics.jsonl'
    found = re.findall(r'^{"step": (\d+),.*}$', rows.read_text(), re.MULTILINE) if rows.exists() else []
    least = max([*logged, *checkpoints], default=0)
    if missing := set(range(2, least + 1, 2)) - set(map(int, found)):
      raise LostError(f'rows of steps {sorted(missing)}, though step {least} was logged or saved')
    drawn = [f'step_{step:08d}.png' for step in range(0, max(checkpoints, default=-1) + 1, 20)]
    if unseen := [name for name in drawn if not (self.folder / 'samples' / name).exists()]:
      raise LostError(f'{unseen}, though a later step was saved')

  def start_until(self, pattern: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts training, and returns when files of a pattern are in the workdir."""
    process = self.start(*arguments)
    self.wait_for(process, pattern)
    return process

  def half(self) -> None:
    """Trains the first half."""
    self.finish(f'--config.train.num_steps={STEPS // 2}')


def killed(run: Run) -> None:
  """Kills the run three times, at moments drawn from all of its time."""
  for _ in range(3):
    process = run.start()
    run.let(process, run.random.uniform(0.5, run.duration))
    run.kill(process)


def killed_in_a_save(run: Run) -> None:
  """Kills the run while Orbax writes in the background."""
  for _ in range(2):
    process = run.start()
    if run.wait_for(process, 'checkpoints/*.orbax-checkpoint-tmp*'):
      time.sleep(run.random.uniform(0, 0.03))
    run.kill(process)


def killed_at_the_gif(run: Run) -> None:
  """Kills the run while the GIF is written; the next start draws it."""
  process = run.start()
  run.wait_for(process, 'samples.gif.*.part')
  run.kill(process)
  run.finish()
  if not (run.folder / 'samples.gif').exists():
    raise LostError('the GIF')


def killed_in_preparation(run: Run) -> None:
  """Kills the run before its first step, with nothing in the cache."""
  shutil.rmtree(run.cache, ignore_errors=True)
  process = run.start()
  run.let(process, run.random.uniform(0.1, run.duration / 2))
  run.kill(process)


def terminated(run: Run) -> None:
  """Sends SIGTERM at a moment drawn from all of its time."""
  process = run.start()
  run.let(process, run.random.uniform(0.5, run.duration))
  run.kill(process, signal.SIGTERM)


def interrupted_twice(run: Run) -> None:
  """Presses Ctrl-C twice, the second time while the run is saving, most likely."""
  process = run.start()
  run.wait_for(process, 'metrics.jsonl')
  time.sleep(run.random.uniform(0, 1))
  process.send_signal(signal.SIGINT)
  time.sleep(run.random.uniform(0, 0.3))
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=300)  # What Python says of a KeyboardInterrupt is no loss.


def full(run: Run) -> None:
  """Fills the disk during the run, which goes on, says so, and ends with a status; then makes room."""
  with mounted(run.folder, 'size=2m'):
    process = run.start()
    run.wait_for(process, 'checkpoints/*')
    time.sleep(run.random.uniform(0, 1))
    filler = run.folder / 'filler'
    subprocess.run(['dd', 'if=/dev/zero', f'of={filler}', 'bs=4k'], capture_output=True, check=False)
    status, err = run.end(process)
    if status and 'could not be saved' not in err:
      raise LostError(f'status {status}: {err[-300:]}')
    filler.unlink()
    run.finish()
    copy = run.folder.with_name(run.folder.name + '-copy')
    shutil.copytree(run.folder, copy)
  run.folder.rmdir()
  copy.rename(run.folder)


def slow(run: Run) -> None:
  """Trains on a disk that takes half a megabyte in a second, and kills the run there, three times."""
  with throttled(run.folder, 2**20):
    for _ in range(3):
      process = run.start()
      run.let(process, run.random.uniform(2, 2 * run.duration))
      run.kill(process)
    run.finish()
    copy = run.folder.with_name(run.folder.name + '-copy')
    shutil.copytree(run.folder, copy)
  run.folder.rmdir()
  copy.rename(run.folder)


def read_only(run: Run) -> None:
  """Reads from a workdir that cannot be written, and trains there, which is refused."""
  with mounted(run.folder, 'size=20m'):
    run.half()
    subprocess.run(['mount', '-o', 'remount,ro', run.folder], check=True)
    out = run.folder.with_name('out.png')
    run.finish('--mode=sample', f'--out={out}')
    run.finish('--mode=walk', '--points=0,1', f'--out={out}')
    run.finish('--mode=sample', f'--out={out}', '--statistics=population')
    run.refuse(saying='cannot be written')
    subprocess.run(['mount', '-o', 'remount,rw', run.folder], check=True)
    copy = run.folder.with_name(run.folder.name + '-copy')
    shutil.copytree(run.folder, copy)
  run.folder.rmdir()
  copy.rename(run.folder)


def damaged(run: Run) -> None:
  """Damages one file of the last checkpoint, in one of four ways, and samples before it trains on."""
  run.half()
  files = sorted(p for p in (run.folder / f'checkpoints/{STEPS // 2}').rglob('*') if p.is_file())
  damage(files[run.random.integers(len(files))], run.random)
  if run.random.integers(2):
    run.finish('--mode=sample', f'--out={run.folder.with_name("out.png")}')


def bit_flipped(run: Run) -> None:
  """Flips a bit in the numbers of the last checkpoint."""
  run.half()
  files = [p for p in (run.folder / f'checkpoints/{STEPS // 2}').rglob('*') if p.is_file()]
  flip(max(files, key=lambda p: p.stat().st_size), run.random)


def half_a_line(run: Run) -> None:
  """Cuts the last line of the metrics."""
  run.half()
  path = run.folder / 'metrics.jsonl'
  path.write_bytes(path.read_bytes()[: -int(run.random.integers(1, 200))])


def another_config(run: Run) -> None:
  """Starts another config there, which is refused; before anything is trained it is not."""
  run.kill(run.start_until('config.json', '--config.train.batch_size=32'))
  run.half()
  run.refuse('--config.train.batch_size=32', saying='train.batch_size was 16 and is 32')


def two_starters(run: Run) -> None:
  """Starts a second process, which is told of the first."""
  process = run.start_until('checkpoints/*')
  if process.poll() is None:
    run.refuse(saying=f'process {process.pid} of')
  run.end(process)


def clock_jumps(run: Run) -> None:
  """Lets the clock jump back and forth by an hour, and kills the run."""
  patch = run.folder.with_name('clock')
  patch.mkdir(exist_ok=True)
  (patch / 'sitecustomize.py').write_text(CLOCK)
  run.environment['PYTHONPATH'] = str(patch)
  process = run.start_until('checkpoints/*')
  time.sleep(run.random.uniform(0, 1))
  run.kill(process)


def vanished_data(run: Run) -> None:
  """Takes the folder of images away for a start, which is refused."""
  run.half()
  source = Path(run.keys['data.source'].removeprefix('folder:'))
  away = source.with_name('away')
  source.rename(away)
  run.refuse(saying=str(source))
  away.rename(source)


def corrupt_cache(run: Run) -> None:
  """Damages every file in the cache, or puts a file in its place."""
  run.half()
  for path in sorted(run.cache.rglob('*')):
    if path.is_file():
      damage(path, run.random)
  if run.random.integers(2):
    shutil.rmtree(run.cache)
    run.cache.touch()


def damage(path: Path, random: np.random.Generator) -> None:
  """Cuts a file, empties it, removes it, or flips a bit of it."""
  ways: list[Callable[[], Any]] = [
    lambda: os.truncate(path, path.stat().st_size // 2),
    lambda: os.truncate(path, 0),
    path.unlink,
    lambda: flip(path, random),
  ]
  ways[random.integers(len(ways))]()


def flip(path: Path, random: np.random.Generator) -> None:
  """Flips a bit of a file, if it has any."""
  content = bytearray(path.read_bytes())
  if content:
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
  """Mounts a small disk as a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder], check=True)
  try:
    yield
  finally:
    subprocess.run(['umount', folder], check=True)


@contextlib.contextmanager
def throttled(folder: Path, bytes_per_second: int) -> Iterator[None]:
  """Mounts a disk as a folder that this process and its children can write to only so fast."""
  folder.mkdir(parents=True, exist_ok=True)
  image, group = folder.with_name('disk'), Path('/sys/fs/cgroup/blkio/dcgan_jax_faults')
  with image.open('wb') as file:
    file.truncate(2**28)
  subprocess.run(['mkfs.ext2', '-q', '-F', image], check=True)
  loop = subprocess.check_output(['losetup', '--find', '--show', image], text=True).strip()
  # Only what a process writes itself is throttled, so nothing may be left to the kernel's own threads.
  subprocess.run(['mount', '-o', 'sync', loop, folder], check=True)
  number = Path('/sys/block', Path(loop).name, 'dev').read_text().strip()
  group.mkdir(exist_ok=True)
  (group / 'blkio.throttle.write_bps_device').write_text(f'{number} {bytes_per_second}')
  (group / 'cgroup.procs').write_text(str(os.getpid()))
  try:
    yield
  finally:
    (group.parent / 'cgroup.procs').write_text(str(os.getpid()))
    (group / 'blkio.throttle.write_bps_device').write_text(f'{number} 0')
    subprocess.run(['umount', folder], check=True)
    subprocess.run(['losetup', '-d', loop], check=True)
    image.unlink()


def make_images(folder: Path) -> None:
  """Writes images, for the fault that takes them away."""
  folder.mkdir(parents=True)
  random = np.random.default_rng(0)
  for i in range(64):
    Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f'{i}.png')


# How often each befalls in a whole campaign. The first two are several faults in one.
COUNTS: dict[Callable[[Run], None], int] = {
  killed: 20,
  killed_in_a_save: 10,
  killed_at_the_gif: 6,
  killed_in_preparation: 10,
  terminated: 15,
  interrupted_twice: 8,
  full: 10,
  slow: 5,
  read_only: 4,
  damaged: 40,
  bit_flipped: 10,
  half_a_line: 8,
  another_config: 3,
  two_starters: 5,
  clock_jumps: 5,
  vanished_data: 3,
  corrupt_cache: 10,
}
FAULTS_IN_ONE: dict[Callable[..., Any], int] = {killed: 3, killed_in_a_save: 2, slow: 3}


def last_state(folder: Path) -> Any:
  """Returns the state of the last step of a run."""
  import jax

  from dcgan_jax import experiment
  from dcgan_jax.journal import checkpoints, workdir

  shapes = jax.eval_shape(experiment.build(workdir.read_settings(folder)).initial_state)
  return checkpoints.restore(folder / 'checkpoints', STEPS, shapes)


def is_equal(a: Any, b: Any) -> bool:
  """Returns whether two states agree in every bit."""
  import jax

  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def suffer(fault: Callable[[Run], None], run: Run, undisturbed: Any) -> str:
  """Lets a fault befall a run; returns what was lost, '' for nothing."""
  try:
    fault(run)
    run.finish()
    state = last_state(run.folder)
  except (LostError, subprocess.SubprocessError, OSError, ValueError) as error:
    return f'{type(error).__name__}: {error}'
  return '' if is_equal(state, undisturbed) else 'the last states differ'


def main() -> int:
  """Runs the campaign and prints its table; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--share', type=float, default=1.0, help='of the counts of a whole campaign')
  parser.add_argument('--faults', default=','.join(fault.__name__ for fault in COUNTS), help='with commas')
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  chosen = [fault for fault in COUNTS if fault.__name__ in arguments.faults.split(',')]
  lost = 0
  with tempfile.TemporaryDirectory(prefix='faults') as top:
    root, cache = Path(top), Path(top) / 'cache'
    make_images(root / 'images')
    folder_keys = {'data.source': f'folder:{root / "images"}'}
    undisturbed = {}
    for name, keys in (('digits', {}), ('folder', folder_keys)):
      start = time.perf_counter()
      Run(root / name, np.random.default_rng(0), cache, 0, keys).finish()
      duration = time.perf_counter() - start
      undisturbed[name] = last_state(root / name)
    print('| fault | times | bit-equal afterwards |\n|---|---|---|')
    for fault in chosen:
      count, failures = max(1, round(COUNTS[fault] * arguments.share)), []
      for i in range(count):
        of_folder = fault is vanished_data
        own = root / 'cache-of-it'
        shutil.copytree(cache, own)
        random = np.random.default_rng([arguments.seed, i])
        run = Run(root / 'run', random, own, duration, folder_keys if of_folder else {})
        problem = suffer(fault, run, undisturbed['folder' if of_folder else 'digits'])
        failures += [problem] if problem else []
        for path in (run.folder, own):
          shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
      times = count * FAULTS_IN_ONE.get(fault, 1)
      print(
        f'| {fault.__name__.replace("_", " ")} | {times} | {count - len(failures)} of {count} |', flush=True
      )
      for problem in failures:
        print(f'LOST: {fault.__name__}: {problem}', file=sys.stderr, flush=True)
      lost += len(failures)
  return int(lost > 0)


if __name__ == '__main__':
  sys.exit(main())
