import errno
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import environment, gan_of
from orbax.checkpoint import v1 as ocp

from dcgan_jax import files
from dcgan_jax.core import train_state
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, journal
from dcgan_jax.records.checkpoints import quiet, stamp


@functools.cache  # so that all tests trace it once
def _create(networks, ema=True, penalties=()):
  gan = gan_of(networks, optax.adam(1e-3))
  return lambda: train_state.create(gan, 0, ema, penalties)


def _assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope='module')
def saved(tiny, tmp_path_factory):
  """A folder with the last two of three checkpoints, and the last state."""
  folder = tmp_path_factory.mktemp('checkpoints')
  now = jax.jit(_create(tiny))()
  saver = checkpoints.Saver(folder, keep=2)
  for step in (5, 10, 15):
    now = jax.tree.map(lambda x: x + x if x.dtype == jnp.float32 else x, now).replace(step=jnp.int32(step))
    saver.save(now)
  saver.close()
  return folder, now


@pytest.mark.slow
def test_bit_for_bit_and_only_the_last(tiny, saved):
  folder, last = saved
  assert checkpoints.steps(folder) == [10, 15]
  restored = checkpoints.restore(folder, 15, _create(tiny))
  assert jax.tree.structure(restored) == jax.tree.structure(last)
  jax.tree.map(np.testing.assert_array_equal, restored, last)
  assert checkpoints.restore(folder, 10, _create(tiny)).step == 10


def test_a_save_is_of_its_moment(tiny, tmp_path):
  """Donates the state's buffers, as the next step does, while the disk is still being written."""
  now = jax.jit(_create(tiny))()
  want = jax.tree.map(np.array, now)
  saver = checkpoints.Saver(tmp_path, keep=1)
  overwrite = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
  saver.save(now)
  now = jax.block_until_ready(overwrite(now))
  saver.close()
  restored = checkpoints.restore(tmp_path, 0, _create(tiny))
  jax.tree.map(np.testing.assert_array_equal, restored, want)


def test_unfinished_checkpoints_do_not_count(saved):
  folder, _ = saved
  (folder / '20.orbax-checkpoint-tmp').mkdir()
  assert checkpoints.steps(folder) == [10, 15]
  assert checkpoints.steps(folder / 'missing') == []


def test_other_networks_are_refused_in_one_line(tiny, saved):
  folder, _ = saved
  wider = tiny[0].clone(widths=(8, 7)), tiny[1]
  plain, normed = (tiny[1].clone(norm=(first, first)) for first in (False, True))
  for networks, text in (
    (wider, r'norm1/mean has shape \(6,\) in the checkpoint and \(7,\) by the config'),
    ((tiny[0], plain), r'norm2/mean has shape \(8,\) in the checkpoint and none by the config'),
    ((tiny[0], normed), r'norm1/mean has shape none in the checkpoint and \(6,\) by the config'),
  ):
    with pytest.raises(InputError, match=text) as error:
      checkpoints.restore(folder, 15, _create(networks))
    assert '\n' not in str(error.value) and not isinstance(error.value, checkpoints.DamagedError)


def test_arrays_that_a_checkpoint_lacks_have_their_defaults(tiny, saved, tmp_path, anchored, capsys):
  """Restores a state without a moving average, memory or Adam's averages into one that has them."""
  _, last = saved
  (tmp_path / 'checkpoints').mkdir()
  saver = checkpoints.Saver(tmp_path / 'checkpoints', keep=1)
  empty = optax.sgd(1.0).init(())
  g, d = last.generator.replace(opt_state=empty), last.discriminator.replace(opt_state=empty)
  saver.save(last.replace(generator=g, discriminator=d, ema=None))
  saver.close()
  create = _create(tiny, penalties=(anchored,))
  _, state = checkpoints.restore_any(tmp_path / 'checkpoints', 'last', create, set_aside=True)
  assert jax.tree.structure(state) == jax.tree.structure(jax.eval_shape(create))
  said = capsys.readouterr().out
  parts = 'discriminator/memory, discriminator/opt_state, ema, generator/opt_state'
  found = re.fullmatch(r'/.*/checkpoints/15: has no (.*) \(default values are used\)\n', said)
  assert found and ', '.join(sorted(found[1].split(', '))) == parts
  for network in ('generator', 'discriminator'):
    _assert_equal(getattr(state, network).variables, getattr(last, network).variables)
    _assert_equal(getattr(state, network).opt_state, getattr(jax.jit(create)(), network).opt_state)
  assert state.discriminator.memory == {anchored: {'real': 0.0, 'fake': 0.0}} and state.step == 15
  _assert_equal(state.ema, last.generator.variables)
  buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state) if x.nbytes]
  assert len({*buffers}) == len(buffers)  # The next step donates them.
  assert not (tmp_path / 'damaged').exists()


def test_arrays_that_only_a_checkpoint_has_are_left_out(tiny, tmp_path, anchored, capsys):
  full = jax.jit(_create(tiny, penalties=(anchored,)))()
  (tmp_path / 'checkpoints').mkdir()
  saver = checkpoints.Saver(tmp_path / 'checkpoints', keep=1)
  saver.save(full)
  saver.close()
  _, state = checkpoints.restore_any(
    tmp_path / 'checkpoints', 'last', _create(tiny, ema=False), set_aside=True
  )
  said = capsys.readouterr().out
  assert said.count('\n') == 1 and said.endswith('/checkpoints/0: has discriminator/memory, ema (left out)\n')
  discriminator = full.discriminator.replace(memory={})
  _assert_equal(state, full.replace(ema=None, discriminator=discriminator))
  assert not (tmp_path / 'damaged').exists()
  # With all of them, it has nothing to say.
  restored = checkpoints.restore(tmp_path / 'checkpoints', 0, _create(tiny, penalties=(anchored,)))
  _assert_equal(restored, full)
  assert not capsys.readouterr().out


def test_damage_to_an_array_that_is_left_out_is_damage(tiny, broken, monkeypatch):
  folder, _ = broken
  sums = stamp.checksums

  def flipped(arrays):
    return sums(arrays) | {'ema/params/dense/kernel': 1}

  monkeypatch.setattr(stamp, 'checksums', flipped)
  text = 'is damaged: the numbers of ema/params/dense/kernel are not those that were saved'
  with pytest.raises(checkpoints.DamagedError, match=text):
    checkpoints.restore(folder, 15, _create(tiny, ema=False))


def test_checkpoints_are_found(saved, tmp_path):
  folder, _ = saved
  assert checkpoints.candidates(folder, 'last')[0] == 15 and checkpoints.candidates(folder, '10')[0] == 10
  for which, text in (
    ('7', r'no checkpoint of step 7; there are \[10, 15\]'),
    ('first', 'checkpoint=first: choose last, best or the number of a step'),
    ('best', 'has a score'),
  ):
    with pytest.raises(InputError, match=text):
      checkpoints.candidates(folder, which)
  with pytest.raises(InputError, match='no checkpoint yet'):
    checkpoints.candidates(tmp_path / 'missing', 'last')


def test_the_best_is_kept_beside_the_last(tiny, tmp_path):
  """Keeps it over a restart, too, and until a better one comes."""
  now = jax.jit(_create(tiny))()

  def save(**scores):
    saver = checkpoints.Saver(tmp_path, keep=2)
    for step, score in scores.items():
      saver.save(now.replace(step=jnp.int32(step[1:])), score and checkpoints.Score(score))
    saver.close()

  save(_1=3.0, _2=1.0, _3=None, _4=2.0)
  save(_5=None, _6=1.5)
  assert checkpoints.steps(tmp_path) == [2, 5, 6]
  assert checkpoints.candidates(tmp_path, 'best')[0] == 2 and checkpoints.candidates(tmp_path, 'last')[0] == 6
  save(_7=0.5, _8=None)
  assert checkpoints.steps(tmp_path) == [7, 8] and checkpoints.candidates(tmp_path, 'best')[0] == 7
  assert checkpoints.best(tmp_path) == [(7, (0.5, ''))]


def test_scores_of_other_protocols_are_not_compared(tiny, tmp_path):
  now = jax.jit(_create(tiny))()
  saver = checkpoints.Saver(tmp_path, keep=1)
  for step, score in enumerate(((3.0, 'a'), (1.0, 'a'), (0.1, 'b'), (20.0, 'a'), (0.2, 'b'), (9.0, 'b')), 1):
    saver.save(now.replace(step=jnp.int32(step)), checkpoints.Score(*score))
  saver.close()
  assert checkpoints.steps(tmp_path) == [2, 3, 6]  # the best of each protocol, and the last
  assert checkpoints.candidates(tmp_path, 'best')[0] == 3  # by the protocol of the last score
  assert checkpoints.best(tmp_path, 'a') == [(2, (1.0, 'a'))] and checkpoints.best(tmp_path, 'c') == []


@pytest.fixture
def broken(saved, tmp_path):
  """A workdir with copies of two checkpoints, and a function that damages the largest file of one."""
  shutil.copytree(saved[0], tmp_path / 'checkpoints', ignore=shutil.ignore_patterns('*tmp*'))

  def damage(step, change, name=None):
    files = [p for p in (tmp_path / 'checkpoints' / str(step)).rglob(name or '*') if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    path.write_bytes(change(path.read_bytes())) if change else path.unlink()

  return tmp_path / 'checkpoints', damage


def _flip(content):
  """Changes a single bit in the middle of an array's numbers."""
  middle = len(content) // 2
  return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('change', 'name', 'text'),
  [
    (lambda content: content[: len(content) // 2], None, 'cannot be restored'),
    (_flip, None, 'are not those that were saved|cannot be restored'),
    (None, '_METADATA', 'cannot be restored'),
    (lambda content: content[:-9], '_METADATA', 'cannot be restored'),
    (None, 'manifest.ocdbt', 'cannot be restored'),
  ],
  ids=['truncated', 'a flipped bit', 'no metadata', 'truncated metadata', 'no manifest'],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(tiny, broken, capsys, change, name, text):
  folder, damage = broken
  damage(15, change, name)
  if name == 'manifest.ocdbt':
    (folder / '15' / 'state' / name).unlink(missing_ok=True)
  step, state = checkpoints.restore_any(folder, 'last', _create(tiny), set_aside=True)
  assert step == state.step == 10 and checkpoints.steps(folder) == [10]
  said = capsys.readouterr().err
  assert re.search(text, said) and said.count('\n') == 1 and 'step 10 is taken instead' in said
  assert (folder.parent / 'damaged' / '15').is_dir()


@pytest.mark.slow
def test_none_left_is_one_line(tiny, broken):
  folder, damage = broken
  for step in (10, 15):
    damage(step, None, '_METADATA')
  text = r'/10: is damaged .*; .* has no sound checkpoint for checkpoint=last; nothing was moved'
  with pytest.raises(InputError, match=text) as error:
    checkpoints.restore_any(folder, 'last', _create(tiny), set_aside=True)
  assert '\n' not in str(error.value)
  assert checkpoints.steps(folder) == [10, 15] and not (folder.parent / 'damaged').exists()


def test_a_step_that_is_asked_for_is_not_replaced_by_another(tiny, broken):
  folder, damage = broken
  damage(15, None, '_METADATA')
  with pytest.raises(InputError, match=r'; .* has no sound checkpoint for checkpoint=15'):
    checkpoints.restore_any(folder, '15', _create(tiny))


def test_readers_leave_a_damaged_checkpoint_to_the_one_who_trains(tiny, broken, capsys):
  folder, damage = broken
  damage(15, None, '_METADATA')
  step, _ = checkpoints.restore_any(folder, 'last', _create(tiny))
  assert step == 10 and checkpoints.steps(folder) == [10, 15] and not (folder.parent / 'damaged').exists()
  assert 'it stays where it is; step 10 is taken instead' in capsys.readouterr().err


def _of_tensorstore(status, number):
  """Returns an error as Orbax raises it for what TensorStore reports."""
  error = Exception('Encountered error while reading array index: ...')
  error.__cause__ = ValueError(f"{status}: Error reading x [os_error_code='{number}'] DATA_LOSS NOT_FOUND")
  return error


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (OSError(errno.EMFILE, 'Too many open files'), 'Too many open files'),
    (_of_tensorstore('RESOURCE_EXHAUSTED', errno.EMFILE), 'Too many open files'),
    (_of_tensorstore('PERMISSION_DENIED', errno.EACCES), 'Permission denied'),
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error'),
    (MemoryError('bad_alloc'), 'out of memory'),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes'), 'out of memory'),
    (RuntimeError("can't start new thread"), "can't start new thread"),
  ],
  ids=str,
)
def test_what_keeps_a_sound_checkpoint_from_being_read_is_no_damage(tiny, broken, monkeypatch, error, reason):
  folder, _ = broken
  load = ocp.load

  def fail(path, *arguments):
    if path.name == '15':
      raise error
    return load(path, *arguments)

  monkeypatch.setattr(ocp, 'load', fail)
  monkeypatch.setattr(quiet, 'STRAGGLERS', 0.0)
  with pytest.raises(InputError, match=re.escape(f'15: cannot be read ({reason})')) as refused:
    checkpoints.restore_any(folder, 'last', _create(tiny), set_aside=True)
  assert not isinstance(refused.value, checkpoints.DamagedError) and '\n' not in str(refused.value)
  assert checkpoints.steps(folder) == [10, 15] and not (folder.parent / 'damaged').exists()


@pytest.mark.parametrize('left', [0, 2, 4, 6, 8, 12])
def test_too_many_open_files_are_no_damage(tiny, broken, left):
  """Lets the operating system open only a few files more; the event loop of Orbax would abort the process."""
  resource = pytest.importorskip('resource')
  folder, _ = broken
  limits = resource.getrlimit(resource.RLIMIT_NOFILE)
  taken = {int(name) for name in os.listdir('/dev/fd')}
  free = [number for number in range(len(taken) + left + 1) if number not in taken]
  resource.setrlimit(resource.RLIMIT_NOFILE, (free[left], limits[1]))
  try:
    with pytest.raises(InputError, match=r'15: cannot be read \(Too many open files\)') as error:
      checkpoints.restore(folder, 15, _create(tiny))
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
  assert not isinstance(error.value, checkpoints.DamagedError)


def test_a_pipe_in_a_checkpoint_is_not_waited_for(tiny, broken):
  folder, _ = broken
  os.mkfifo(folder / '15' / 'notes')
  with pytest.raises(InputError, match=r'15: cannot be read \(is not a regular file\)') as error:
    checkpoints.restore(folder, 15, _create(tiny))
  assert not isinstance(error.value, checkpoints.DamagedError)


def test_a_damaged_checkpoint_is_moved_to_another_disk(tiny, broken, monkeypatch, capsys):
  """As where `checkpoints` is a link: renaming is then impossible."""
  folder, damage = broken
  damage(15, None)

  def refuse(*_, **__):
    raise OSError(errno.EXDEV, 'Invalid cross-device link')

  monkeypatch.setattr(os, 'rename', refuse)
  step, _ = checkpoints.restore_any(folder, 'last', _create(tiny), set_aside=True)
  assert (
    step == 10 and checkpoints.steps(folder) == [10] and checkpoints.steps(folder.parent / 'damaged') == [15]
  )
  assert 'it is kept as' in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_that_is_moved_and_linked_is_still_that_of_the_run(tiny, broken):
  """Saves on where the checkpoints went, also beside a damaged one that could not be moved away."""
  folder, _ = broken
  state, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(folder, keep=3, say=said.append, start=10)
  assert saver.saved == 10  # 15 is there, and was not taken.
  folder.rename(folder.with_name('elsewhere'))
  folder.symlink_to(folder.with_name('elsewhere'))
  saver.save(state.replace(step=jnp.int32(20)))
  saver.close()
  assert not said and saver.saved == 20 and checkpoints.steps(folder.with_name('elsewhere')) == [10, 15, 20]


@pytest.mark.skipif(sys.platform != 'linux', reason='needs setpriv')
@pytest.mark.slow
def test_a_folder_that_may_not_be_read_is_no_damage(broken, tmp_path):
  """Reads in a process without root's powers, in which mode 000 counts."""
  folder, _ = broken
  if not shutil.which('setpriv'):
    pytest.skip('needs setpriv')
  code = """
import pathlib, sys
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints
for folder in sys.argv[1:]:
  try:
    checkpoints.restore_any(pathlib.Path(folder), 'last', dict, set_aside=True)
  except InputError as error:
    print(type(error).__name__, error)
"""
  closed = {}  # what may not be read, and its mode
  for i, part in enumerate(('.', '15', '15/state', '15/state/d', '15/_CHECKPOINT_METADATA')):
    copy = shutil.copytree(folder, tmp_path / str(i) / 'checkpoints')
    closed[copy / part] = (copy / part).stat().st_mode
  copies = [tmp_path / str(i) / 'checkpoints' for i in range(len(closed))]
  command = ['setpriv', '--inh-caps=-all', '--bounding-set=-all', sys.executable, '-c', code, *copies]
  try:
    for path in closed:
      path.chmod(0)
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
  finally:
    for path, mode in closed.items():
      path.chmod(mode)
  lines = done.stdout.splitlines()
  assert len(lines) == len(copies), done
  for line, copy in zip(lines, copies):
    assert line.startswith('InputError ') and 'Permission denied' in line and str(copy) in line, line
    assert checkpoints.steps(copy) == [10, 15] and not (copy.parent / 'damaged').exists()


def test_a_score_that_may_not_be_read_is_not_lost(tmp_path, monkeypatch):
  (tmp_path / '1' / 'metrics').mkdir(parents=True)
  (tmp_path / '1' / 'metrics' / 'metrics').write_text('{"score": 2.0}')
  assert stamp.read_score(tmp_path / '1') == (2.0, '')

  def fail(path, most):
    raise OSError(errno.EMFILE, 'Too many open files')

  monkeypatch.setattr(files, 'read_bytes', fail)
  with pytest.raises(InputError, match='metrics: cannot be read: Too many open files'):
    checkpoints.best(tmp_path)


def test_checkpoints_do_not_depend_on_x64(tiny, saved, tmp_path):
  """Reads with JAX's 64 bits what was saved without them, and the other way around."""
  folder, last = saved
  with jax.enable_x64(True):
    assert stamp.dtypes_of(jax.eval_shape(_create(tiny))) == stamp.dtypes_of(last)
    assert (
      stamp.checksums(jax.device_get(last))
      == stamp.read(folder / '15', ocp.metadata(folder / '15').custom_metadata).checksums
    )
    jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(folder, 15, _create(tiny)), last)
    saver = checkpoints.Saver(tmp_path, keep=1)
    saver.save(jax.jit(_create(tiny))())
    saver.close()
  now = checkpoints.restore(tmp_path, 0, _create(tiny))
  jax.tree.map(np.testing.assert_array_equal, now, jax.jit(_create(tiny))())


def test_other_dtypes_are_refused_in_one_line(tiny, saved):
  def narrower():
    return jax.tree.map(lambda x: x.astype(jnp.float16), _create(tiny)())

  text = r'15: belongs to other networks: .* has dtype float32 in the checkpoint and float16 by the config'
  with pytest.raises(InputError, match=text):
    checkpoints.restore(saved[0], 15, narrower)


def test_checkpoints_without_a_stamp_are_accepted_and_newer_layouts_are_not(tiny, broken):
  folder, _ = broken
  path = folder / '15' / '_CHECKPOINT_METADATA'
  content = json.loads(path.read_text())
  content['custom_metadata']['layout'] = 2
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match='has state layout 2, and this version of dcgan_jax reads 1') as error:
    checkpoints.restore(folder, 15, _create(tiny))
  assert not isinstance(error.value, checkpoints.DamagedError)
  del content['custom_metadata']
  path.write_text(json.dumps(content))
  assert checkpoints.restore(folder, 15, _create(tiny)).step == 15


@pytest.mark.parametrize('dtype', ['float32', 'int32', 'uint8', 'bfloat16'])
def test_checksums_find_every_flipped_bit(dtype):
  """Flips each bit of a small array in turn, and turns the array around."""
  x = np.arange(5).astype(jnp.dtype(dtype))
  seen = [stamp.checksums([x]), stamp.checksums([x[::-1].copy()])]
  for bit in range(8 * x.nbytes):
    flipped = np.unpackbits(x.view(np.uint8))
    flipped[bit] ^= 1
    seen.append(stamp.checksums([np.packbits(flipped).view(x.dtype)]))
  assert len({one['0'] for one in seen}) == 2 + 8 * x.nbytes


def test_checksums_that_were_taken_with_the_copy_are_saved(tiny, tmp_path):
  copied = journal._copy(jax.jit(_create(tiny))())
  assert jax.device_get(copied.sums) == stamp.checksums(copied.state)
  saver = checkpoints.Saver(tmp_path / 'checkpoints', keep=1)
  saver.save(copied.state, None, copied.sums | {'step': jnp.uint32(7)})
  saver.close()
  with pytest.raises(checkpoints.DamagedError, match='step'):
    checkpoints.restore(tmp_path / 'checkpoints', 0, _create(tiny))


def test_checksums_do_not_depend_on_the_devices():
  x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
  mesh = placement.mesh()
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(placement.AXIS))
  assert mesh.size > 1 and stamp.checksums({'x': jax.device_put(x, split)}) == stamp.checksums({'x': x})
  total = 0
  for i, bits in enumerate(x.view(np.uint32).ravel().tolist()):
    mixed = bits ^ i * 0x9E3779B9 % 2**32
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B % 2**32
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 % 2**32
    total += mixed ^ mixed >> 16
  assert stamp.checksums({'x': x})['x'] == total % 2**32


def test_without_room_nothing_is_written_and_the_next_save_tries_again(tiny, tmp_path, monkeypatch):
  now, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(tmp_path, keep=3, say=said.append)
  saver.save(now.replace(step=jnp.int32(1)))
  saver.settle()
  full = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: full)
  saver.save(now.replace(step=jnp.int32(2)))
  assert re.search(
    r'step 2 could not be saved in .*: it needs 1\.\d MiB, which is 1\.\d MiB more than is free', said[0]
  )
  assert saver.problem and saver.saved == 1 and checkpoints.steps(tmp_path) == [1]
  monkeypatch.undo()
  saver.save(now.replace(step=jnp.int32(3)))
  saver.close()
  assert not saver.problem and saver.saved == 3 and checkpoints.steps(tmp_path) == [1, 3] and len(said) == 1


def test_a_save_that_fails_on_its_way_leaves_no_trace(tiny, tmp_path):
  """Limits the size of files, so that the disk refuses an array as a full one does."""
  resource = pytest.importorskip('resource')
  now, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(tmp_path, keep=3, say=said.append)
  saver.save(now.replace(step=jnp.int32(1)))
  saver.settle()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
  try:
    saver.save(now.replace(step=jnp.int32(2)))
    saver.settle()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert 'step 2 could not be saved' in said[0] and 'the last checkpoint is of step 1' in said[0]
  assert '\n' not in said[0] and saver.problem in said[0] and saver.saved == 1
  assert [path.name for path in tmp_path.iterdir()] == ['1']
  saver.save(now.replace(step=jnp.int32(3)))
  saver.close()
  assert saver.saved == 3 and checkpoints.steps(tmp_path) == [1, 3] and not saver.problem and len(said) == 1


def _fail(*_, **__):
  raise PermissionError(errno.EACCES, 'Permission denied')


@pytest.mark.parametrize('owner, name', [(shutil, 'disk_usage'), (os, 'listdir'), (files, 'identity')])
def test_a_query_that_fails_is_a_failed_save(tiny, tmp_path, monkeypatch, owner, name):
  now, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(tmp_path, keep=3, say=said.append)
  with monkeypatch.context() as patch:
    patch.setattr(owner, name, _fail)
    saver.save(now.replace(step=jnp.int32(1)))
    saver.settle()
    assert 'Permission denied' in saver.standing() or name == 'identity'
  assert 'step 1 could not be saved' in said[0] and 'Permission denied; there is no checkpoint' in said[0]
  assert saver.problem and not saver.lacks_room
  saver.save(now.replace(step=jnp.int32(2)))
  saver.close()
  assert not saver.problem and checkpoints.steps(tmp_path) == [2] and len(said) == 1


def test_a_folder_that_is_away_for_a_while(tiny, tmp_path, monkeypatch):
  """Renames it in the middle of a save, and back after one that cannot even be begun."""
  folder, away = tmp_path / 'checkpoints', tmp_path / 'away'
  now, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(folder, keep=9, say=said.append)
  saver.save(now.replace(step=jnp.int32(1)))
  saver.settle()
  saver.save(now.replace(step=jnp.int32(2)))
  folder.rename(away)
  saver.settle()
  assert 'step 2 could not be saved' in said[0] and saver.saved == 1
  saver.save(now.replace(step=jnp.int32(3)))
  assert 'step 3 could not be saved' in said[1] and 'No such file or directory' in saver.standing()
  assert not folder.exists()
  away.rename(folder)
  saver.save(now.replace(step=jnp.int32(4)))
  saver.close()
  assert not saver.problem and saver.saved == 4 and len(said) == 2
  assert {1, 4} <= {*checkpoints.steps(folder)} and checkpoints.restore(folder, 4, lambda: now).step == 4


def test_a_save_that_fails_in_a_removed_workdir_does_not_make_it_anew(tiny, tmp_path, monkeypatch):
  """Orbax creates missing folders first."""
  folder = tmp_path / 'run' / 'checkpoints'
  folder.parent.mkdir()
  saver = checkpoints.Saver(folder, keep=9, say=lambda line: None)

  def begin(*_, **__):
    shutil.rmtree(folder.parent)
    folder.mkdir(parents=True)
    _fail()

  monkeypatch.setattr(ocp.training.Checkpointer, 'save_async', begin)
  saver.save(jax.jit(_create(tiny))().replace(step=jnp.int32(1)))
  saver.close()
  assert not folder.parent.exists()


def test_a_folder_that_cannot_be_opened_again_is_tried_again(tiny, tmp_path, monkeypatch):
  now, said = jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(tmp_path, keep=9, say=said.append)
  with monkeypatch.context() as patch:
    patch.setattr(ocp.training.Checkpointer, 'save_async', _fail)
    patch.setattr(ocp.training, 'Checkpointer', _fail)
    for step in (1, 2):
      saver.save(now.replace(step=jnp.int32(step)))
      saver.settle()
  assert len(said) == 2 and 'step 2 could not be saved' in said[1]
  saver.save(now.replace(step=jnp.int32(3)))
  saver.close()
  assert checkpoints.steps(tmp_path) == [3] and not saver.problem


def test_a_saver_does_not_make_the_folder_of_a_run(tmp_path):
  with pytest.raises(InputError, match='cannot be written: No such file or directory'):
    checkpoints.Saver(tmp_path / 'gone' / 'checkpoints', keep=1)
  assert not (tmp_path / 'gone').exists()


def test_how_checkpoints_stand(tiny, tmp_path, monkeypatch):
  saver = checkpoints.Saver(tmp_path, keep=1)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=3 * 2**30))
  assert saver.standing() == 'not saved yet, 3.0 GiB free'
  saver.save(jax.jit(_create(tiny))().replace(step=jnp.int32(7)))
  saver.close()
  assert saver.standing() == 'saved 7, 3.0 GiB free'


@pytest.mark.slow
@pytest.mark.parametrize('content', [b'', b'{"sco', b'[1]', b'{}', b'{"score": "x"}', None])
def test_a_score_that_cannot_be_read_is_lost_and_nothing_else(tiny, tmp_path, content):
  folder, now, said = tmp_path / 'checkpoints', jax.jit(_create(tiny))(), []
  saver = checkpoints.Saver(folder, keep=3)
  saver.save(now.replace(step=jnp.int32(1)), checkpoints.Score(2.0, 'a'))
  saver.close()
  path = folder / '1' / 'metrics' / 'metrics'
  path.unlink() if content is None else path.write_bytes(content)
  saver = checkpoints.Saver(folder, keep=3, say=said.append)
  saver.save(now.replace(step=jnp.int32(2)), checkpoints.Score(3.0, 'a'))
  saver.close()
  assert checkpoints.steps(folder) == [1, 2] and checkpoints.best(folder) == [(2, (3.0, 'a'))]
  assert checkpoints.restore(folder, 1, _create(tiny)).step == 1
  assert len(said) == 1 and 'the score of step 1 is lost' in said[0] and (tmp_path / 'damaged').is_dir()
