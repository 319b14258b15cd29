"""Films of training from the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, draw_sample, environment
from PIL import Image, ImageSequence

from dcgan_jax.media.pace import Pace
from dcgan_jax.trained import films as training

# A program that is started in the background of a shell ignores Ctrl-C, and so do those that it starts.
INTERRUPTIBLE = """
import signal, sys, main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main.main())
"""


@pytest.mark.slow
def test_as_a_user_asks_for_it(trained, tmp_path, printed_by):
  folder, _ = trained
  printed = printed_by(
    '--mode=film', f'--workdir={folder}', f'--out={tmp_path}/x.webp', '--seconds=2', '--fps=10'
  )
  assert printed == f'film of steps 0 to 24 of {folder}, 4 pictures in 20 frames, in {tmp_path}/x.webp\n'
  with Image.open(tmp_path / 'x.webp') as film:
    assert max(film.size) == 512
    times = [frame.load() and frame.info['duration'] for frame in ImageSequence.Iterator(film)]
    assert sum(times) == 2000  # Frames that are equal are joined.


def test_flags_reach_the_library(call_main, monkeypatch):
  called = []
  monkeypatch.setattr(training, 'run', lambda *arguments: called.append(arguments))
  assert call_main('--mode=film', '--workdir=w') == (0, '', '')
  assert call_main('--mode=film', '--workdir=w', '--out=x.gif', '--seconds=3', '--fps=4', '--size=64')[0] == 0
  assert called == [(Path('w'), 'film.webp', Pace()), (Path('w'), 'x.gif', Pace(3.0, 4, 64))]


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ([], '--workdir is missing'),
    (['--workdir=/nonexistent'], 'workdir=/nonexistent: a film takes two or more pictures of training'),
    (['--workdir=/nonexistent', '--out=x.png'], 'out=x.png: must end in .mp4, .webp or .gif'),
    (['--workdir=/nonexistent', '--out='], 'out: is empty'),
    (['--workdir=/nonexistent', '--size=63'], 'size=63: must be an even number'),
    (['--workdir=/nonexistent', '--checkpoint=3'], 'is not a flag of --mode=film'),
  ],
)
def test_bad_input_is_one_line(refused, flags, text):
  assert text in refused('--mode=film', *flags)


def _pictures(folder, count, side):
  """Draws frames that are slow to encode."""
  noise = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
  for step, image in enumerate(noise):
    draw_sample(folder, step, image)


@pytest.mark.slow
def test_ctrl_c_leaves_no_part_and_no_encoder(tmp_path):
  _pictures(tmp_path / 'run', 3, 64)
  flags = ['--mode=film', f'--workdir={tmp_path}/run', f'--out={tmp_path}/x.mp4']
  process = subprocess.Popen(
    [sys.executable, '-c', INTERRUPTIBLE, *flags, '--seconds=600', '--size=1024'],
    cwd=ROOT,
    env=environment(),
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  deadline = time.monotonic() + 60
  # The file is there before the encoder is told to write it.
  while not any(_processes_of(part := path) for path in tmp_path.glob('x.mp4.*.part')):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.05)
  os.killpg(process.pid, signal.SIGINT)
  _, error = process.communicate(timeout=60)
  assert (process.returncode, error) == (130, 'interrupted\n')
  assert not _processes_of(part) and [path.name for path in tmp_path.iterdir()] == ['run']


def _processes_of(part):
  """Returns the processes whose command line names a file."""
  found = []
  for path in Path('/proc').glob('[0-9]*/cmdline'):
    try:
      found += [path] if str(part).encode() in path.read_bytes() else []
    except OSError:  # It has ended.
      continue
  return found


@pytest.mark.slow
def test_an_encoder_without_room_is_one_line(tmp_path):
  """Limits files of the process, and so of the encoder, to 100 kB."""
  _pictures(tmp_path / 'run', 3, 64)
  arguments = ['--mode=film', f'--workdir={tmp_path}/run', f'--out={tmp_path}/x.mp4', '--seconds=20']
  command = ['bash', '-c', 'ulimit -f 100; exec "$@"', '', sys.executable, 'main.py', *arguments]
  done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
  assert done.returncode == 2 and done.stderr.startswith(f'error: out={tmp_path}/x.mp4: the encoder failed: ')
  assert done.stderr.count('\n') == 1 and [path.name for path in tmp_path.iterdir()] == ['run']


@pytest.mark.slow
def test_it_needs_no_jax(tmp_path):
  _pictures(tmp_path / 'run', 2, 32)
  code = 'import sys, main; print(main.main(), "jax" in sys.modules)'
  arguments = ['--mode=film', f'--workdir={tmp_path}/run', f'--out={tmp_path}/x.gif', '--seconds=1']
  done = subprocess.run(
    [sys.executable, '-c', code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.splitlines()[-1] == '0 False'
