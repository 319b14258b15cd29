"""Every verb end to end, each in a process of its own, as a user starts it."""

import json
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY, assert_same_state, environment, state_of
from PIL import Image

import dcgan_jax
from dcgan_jax import checkpoints
from dcgan_jax.commands import sample, workdir
from dcgan_jax.errors import InputError


def _main(*arguments, devices=1):
  command = [sys.executable, 'main.py', *map(str, arguments)]
  return subprocess.run(
    command, cwd=ROOT, env=environment(devices), capture_output=True, text=True, check=False
  )


def _succeed(*arguments, **options):
  done = _main(*arguments, **options)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def _metrics(folder):
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in row.items() if k not in ('images_per_second', 'input_wait')} for row in rows]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir of an uninterrupted run, what it printed)."""
  folder = tmp_path_factory.mktemp('runs') / 'whole'
  return folder, _succeed(*TINY, f'--workdir={folder}')


def test_train_writes_everything(trained):
  folder, printed = trained
  assert 'step 24/24  loss_d' in printed and 'images/s' in printed and 'left' in printed
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == [4, 8, 12, 16, 20, 24]
  keys = {'loss_d', 'loss_g', 'd_real', 'd_fake', 'd_fake_after', 'grad_norm_d', 'grad_norm_g'}
  assert keys | {'step', 'images_per_second', 'input_wait'} == rows[0].keys()
  assert all(np.isfinite(list(row.values())).all() for row in rows)
  assert [p.name for p in workdir.samples(folder)] == [f'step_{s:08d}.png' for s in (0, 8, 16, 24)]
  with Image.open(folder / 'samples.gif') as gif:
    assert gif.n_frames >= 2  # frames that are alike are one
  assert (folder / 'losses.png').stat().st_size > 5000
  assert checkpoints.steps(folder / 'checkpoints') == [8, 16, 24]
  assert json.loads((folder / 'config.json').read_text())['train']['batch_size'] == 16


def test_done_is_done(trained):
  folder, _ = trained
  assert 'is trained to step 24' in _succeed(*TINY, f'--workdir={folder}')


def test_killed_and_started_again_is_bit_equal(trained, tmp_path):
  """SIGKILL at three moments: while starting, between checkpoints, right after a checkpoint."""
  whole, _ = trained
  folder = tmp_path / 'killed'
  command = [sys.executable, 'main.py', *TINY, f'--workdir={folder}']
  moments = [lambda: folder.exists(), lambda: _last_row(folder) >= 12, lambda: _last_row(folder) >= 20]
  for reached in moments:
    process = subprocess.Popen(
      command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not reached() and process.poll() is None:
      time.sleep(0.002)
    process.kill()
    process.wait()
  _succeed(*TINY, f'--workdir={folder}')
  assert_same_state(whole, folder, 24)
  assert _metrics(folder) == _metrics(whole)
  for a, b in zip(workdir.samples(whole), workdir.samples(folder), strict=True):
    assert a.name == b.name and a.read_bytes() == b.read_bytes()


def _last_row(folder):
  path = folder / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  try:
    return json.loads(lines[-1])['step'] if lines else 0
  except json.JSONDecodeError:
    return 0


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_saves_and_goes_on(trained, tmp_path, number, status):
  whole, _ = trained
  folder = tmp_path / 'stopped'
  arguments = [
    *TINY,
    '--config.log.every_steps=1',
    '--config.checkpoint.every_steps=1000',
    f'--workdir={folder}',
  ]
  command = [sys.executable, 'main.py', *arguments]
  process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
  for line in process.stdout:
    if line.startswith('step 3/'):
      process.send_signal(number)
      break
  rest = process.communicate()[0]
  assert process.returncode == status and f'{number.name}: saved step' in rest
  (step,) = checkpoints.steps(folder / 'checkpoints')
  assert 3 <= step < 24 and (folder / 'losses.png').exists() and (folder / 'samples.gif').exists()
  _succeed(*arguments)
  assert_same_state(whole, folder, 24)


def test_other_hyper_parameters_are_refused_and_nothing_is_lost(trained):
  folder, _ = trained
  before = (folder / 'config.json').read_text()
  done = _main(*TINY, f'--workdir={folder}', '--config.discriminator_optimizer.learning_rate=0.5')
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'discriminator_optimizer.learning_rate was 0.0001 and is 0.5' in done.stderr
  assert (folder / 'config.json').read_text() == before


def test_longer_and_with_changes_allowed(trained, tmp_path):
  folder, _ = trained
  copy = tmp_path / 'copy'
  subprocess.run(['cp', '-r', folder, copy], check=True)
  more = ['--config.train.num_steps=28', '--config.train.loss=hinge', '--allow_config_change']
  assert 'steps 24 to 28' in _succeed(*TINY, *more, f'--workdir={copy}')
  assert checkpoints.steps(copy / 'checkpoints')[-1] == 28


def test_several_steps_in_one_program_stopped_and_traced(trained, tmp_path):
  """Two blocks of 4 of 24 steps, a trace, then the rest: bit-equal to all at once, near single steps."""
  together = [*TINY, '--config.train.steps_per_dispatch=4']
  _succeed(*together, f'--workdir={tmp_path}/whole')
  stop = '--config.train.num_steps=8'
  _succeed(*together, f'--workdir={tmp_path}/parts', stop)
  printed = _succeed(
    *TINY, '--config.train.steps_per_dispatch=10', f'--workdir={tmp_path}/parts', '--profile'
  )
  assert 'trace of steps 20 to 24' in printed
  assert_same_state(tmp_path / 'whole', tmp_path / 'parts', 24)
  one, many = state_of(trained[0], 8), state_of(tmp_path / 'whole', 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one.generator, many.generator
  )


def test_profile(tmp_path):
  printed = _succeed(*TINY, f'--workdir={tmp_path}/run', '--profile')
  assert 'trace of steps 10 to 20' in printed
  assert list((tmp_path / 'run' / 'profile').rglob('*.xplane.pb'))


def test_two_devices_are_near_one(trained, tmp_path):
  """The command uses all devices unasked, and the run is the same up to the order of sums."""
  folder = tmp_path / 'two'
  assert 'on 2 cpu devices' in _succeed(*TINY, f'--workdir={folder}', devices=2)
  one, two = state_of(trained[0], 8), state_of(folder, 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one.generator, two.generator
  )
  done = _main(*TINY, f'--workdir={tmp_path}/three', '--config.train.batch_size=15', devices=2)
  assert done.returncode == 2 and 'train.batch_size=15: not divisible by the 2 devices' in done.stderr


def test_sample_grid_array_and_folder(trained, tmp_path):
  folder, _ = trained
  base = ['--mode=sample', f'--workdir={folder}', '--seed=3', '--num=70']
  assert '70 images of step 24' in _succeed(*base, f'--out={tmp_path}/x.npz')
  made = np.load(tmp_path / 'x.npz')['x']
  assert made.shape == (70, 8, 8, 1) and made.dtype == np.uint8 and made.std() > 1
  _succeed(*base, f'--out={tmp_path}/pictures')
  pictures = sorted((tmp_path / 'pictures').iterdir())
  assert len(pictures) == 70
  np.testing.assert_array_equal(np.asarray(Image.open(pictures[69])), made[69, :, :, 0])
  _succeed(*base[:-1], '--num=5', f'--out={tmp_path}/grid.png', '--checkpoint=16')
  with Image.open(tmp_path / 'grid.png') as grid:
    assert grid.size == (16 * (3 * 10 + 2), 16 * (2 * 10 + 2))  # enlarged to 512 pixels


def test_sample_from_python(trained, tmp_path):
  folder, _ = trained
  run = dcgan_jax.load(folder)
  made = run.sample(70, seed=3)
  assert made.shape == (70, 8, 8, 1) and run.step == 24
  np.testing.assert_array_equal(made[:3], run.sample(3, seed=3))
  z = np.random.default_rng(0).standard_normal((5, 10)).astype(np.float32)
  given = run.from_latents(z)
  np.testing.assert_array_equal(given[2:3], run.from_latents(z[2:3]))
  assert (run.from_latents(z, 'batch') != given).any()
  np.save(tmp_path / 'z.npy', z)
  sample.run(folder, 1, 0, str(tmp_path / 'z.npz'), str(tmp_path / 'z.npy'), 'stored', 'last')
  np.testing.assert_array_equal(np.load(tmp_path / 'z.npz')['x'], given)
  fixed = np.asarray(Image.open(workdir.sample(folder, 24)))  # the run's pictures are of its own seed
  factor = round(512 / 32)
  np.testing.assert_array_equal(
    fixed[2 * factor : 10 * factor : factor, 2 * factor : 10 * factor : factor], run.sample(1)[0, ..., 0]
  )


def test_sample_refuses_bad_latents(trained, tmp_path):
  folder, _ = trained
  np.save(tmp_path / 'shape.npy', np.zeros((4, 11)))
  np.save(tmp_path / 'nan.npy', np.full((4, 10), np.nan))
  np.save(tmp_path / 'objects.npy', np.array([{}], dtype=object))
  (tmp_path / 'text.npy').write_text('no array')
  for name, text in (
    ('shape', r'shape \(4, 11\); this generator takes \(N, 10\)'),
    ('nan', 'finite'),
    ('objects', 'cannot be read'),
    ('text', 'cannot be read'),
    ('missing', 'cannot be read'),
  ):
    with pytest.raises(InputError, match=text) as error:
      sample.run(folder, 1, 0, str(tmp_path / 'o.npz'), str(tmp_path / f'{name}.npy'), 'stored', 'last')
    assert '\n' not in str(error.value)


def test_summary_from_config_and_from_workdir(trained):
  printed = _succeed('--mode=summary', '--config=configs/mnist.py')
  assert (
    '2,330,944' in printed and '212,865' in printed and '(batch, 7, 7, 256)' not in printed.splitlines()[2]
  )
  printed = _succeed('--mode=summary', f'--workdir={trained[0]}', devices=2)
  assert 'Generator' in printed and '16 images on 2 cpu devices, 8 on each' in printed
  state, step = (float(re.search(rf'{name} +([\d.]+)', printed)[1]) for name in ('state', 'whole step'))
  assert 0 <= state < step < 100


BAD = [
  ([], '--config is missing'),
  (['--config=configs/nope.py'], 'no such file'),
  (['--config=configs/digits.py', '--config.train.batchsize=3'], 'did you mean batch_size'),
  (
    ['--config=configs/digits.py', '--config.train.batch_size=abc'],
    'train.batch_size=abc: must be a whole number',
  ),
  (['--config=configs/digits.py', '--config.train.batch_size=3.5'], 'whole number'),
  (['--config=configs/digits.py', '--config.data.image_size=big'], 'height and width'),
  (['--config=configs/digits.py', '--config.data.flip=maybe'], 'choose True or False'),
  (['--config=configs/digits.py', '--config.train=3'], 'set one of its keys'),
  (['--config=configs/digits.py', '--mode=trian'], 'train|summary|sample'),
  (['--config=configs/digits.py', '--nosuchflag=1'], 'nosuchflag'),
  (['--config=configs/digits.py', 'extra'], 'unexpected'),
  (['--config=configs/image_folder.py'], 'choose digits, tfds:NAME or folder:PATH'),
  (
    ['--config=configs/digits.py', '--config.data.source=folder:/nonexistent', '--workdir=/tmp/none'],
    'no such folder',
  ),
  (['--config=configs/digits.py', '--workdir=main.py'], 'is a file'),
  (['--config=configs/digits.py', '--num_processes=2'], 'is given without --coordinator, --process_id'),
  (['--mode=sample'], '--workdir is missing'),
  (['--mode=sample', '--workdir=/nonexistent'], 'no run here'),
  (['--mode=sample', '--workdir=/nonexistent', '--num=0'], 'positive'),
]


@pytest.mark.parametrize(('arguments', 'text'), BAD, ids=lambda x: x if isinstance(x, str) else None)
def test_bad_input_is_one_line(arguments, text):
  done = _main(*arguments)
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and text in done.stderr


def test_a_broken_config_file_is_one_line(tmp_path):
  for content in ('def get_config(:', 'def get_config(): return undefined', ''):
    (tmp_path / 'x.py').write_text(content)
    done = _main(f'--config={tmp_path}/x.py')
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'Traceback' not in done.stderr


def test_help_and_errors_do_not_import_jax():
  code = 'import sys, main; print(main.main({}), "jax" in sys.modules, "tensorflow" in sys.modules)'
  for arguments, status in ((['--help'], 0), ([*TINY, '--config.train.batch_size=0'], 2)):
    command = [sys.executable, '-c', code.format(['main.py', *arguments])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f'{status} False False'
