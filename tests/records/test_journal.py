import contextlib
import dataclasses
import errno
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gan_of, lenient
from orbax.checkpoint import v1 as ocp

from configs import digits
from dcgan_jax import settings
from dcgan_jax.core import train_state
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.records import checkpoints, metrics, workdir
from dcgan_jax.records.journal import Journal
from dcgan_jax.records.schedule import Schedule

SCHEDULE = Schedule(start=0, num_steps=20, log_every=1, draw_every=1, score_every=0, save_every=5)
VALUES = {name: jnp.float32(0.5) for name in ('loss_d', 'loss_g', 'd_real', 'd_fake')}


@pytest.fixture
def state(tiny):
  gan = gan_of(tiny, lenient(train_state.make_optimizer(1e-3)))
  return jax.jit(lambda: train_state.create(gan, 0))()


def _open(folder, schedule=SCHEDULE, on_collapse='continue'):
  config = digits.get_config()
  config.log.tensorboard, config.train.on_collapse = False, on_collapse
  draw = lambda state: lambda: np.zeros((8, 8, 1), np.uint8)  # noqa: E731
  return contextlib.closing(Journal(folder, settings.check(config), schedule, draw, None, 'distance', {}))


def _record(log, state, steps):
  for step in steps:
    log.record(state.replace(step=jnp.int32(step)), step, VALUES, VALUES)
    log.wait(1)


def test_training_does_not_wait_for_the_disk_and_saves_do(state, tmp_path, monkeypatch):
  """Takes five steps while no picture can be written; the checkpoint comes after all of them."""
  there, gate = [], threading.Event()
  save, write = checkpoints.Saver.save, pictures.save_png

  def slow(*arguments):
    assert gate.wait(60)
    write(*arguments)

  def noting(saver, *arguments):
    there.append((len(workdir.samples(tmp_path)), len(metrics.read(tmp_path / 'metrics.jsonl'))))
    save(saver, *arguments)

  monkeypatch.setattr(pictures, 'save_png', slow)
  monkeypatch.setattr(checkpoints.Saver, 'save', noting)
  with _open(tmp_path) as log:
    _record(log, state, range(1, 6))
    log.wait(0)
    assert workdir.samples(tmp_path) == [] and not there
    gate.set()
    log.finish(state)
    assert there == [(5, 5)] and checkpoints.steps(tmp_path / 'checkpoints') == [5]


def test_pictures_after_the_first_step_are_dropped_as_rows_are(state, tmp_path):
  """Opens a run at step 2 that was killed at step 4; what was drawn since may be of settings replaced now."""
  with _open(tmp_path) as log:
    _record(log, state, range(1, 5))
    log.wait(0)
  with _open(tmp_path, dataclasses.replace(SCHEDULE, start=2)):
    assert [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == [1, 2]
    assert workdir.samples(tmp_path) == [workdir.sample(tmp_path, step) for step in (1, 2)]


def test_nothing_is_written_of_a_state_that_is_not_finite(state, tmp_path):
  broken = state.replace(ema=jnp.float32(np.nan))
  with _open(tmp_path) as log:
    _record(log, state, [1])
    _record(log, broken, range(2, 8))
    log.finish(broken)
  assert not log.healthy and [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == [1]
  assert checkpoints.steps(tmp_path / 'checkpoints') == []


def test_a_workdir_that_is_renamed_ends_the_run_and_is_not_made_anew(state, tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  with pytest.raises(InputError, match='was removed, renamed or emptied'), _open(folder) as log:
    _record(log, state, range(1, 7))
    log.wait(0)
    log._saves.drain()
    folder.rename(tmp_path / 'other')
    _record(log, state, range(7, 11))
    log.finish(state)
  assert not folder.exists() and checkpoints.steps(tmp_path / 'other' / 'checkpoints') == [5]


def test_a_workdir_removed_just_before_a_picture_is_written_is_not_made_anew(state, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  folder.mkdir()
  zoom = pictures.zoom

  def removing(picture):
    if folder.exists():
      folder.rename(tmp_path / 'other')
    return zoom(picture)

  monkeypatch.setattr(pictures, 'zoom', removing)  # after the check, before the file is created
  with pytest.raises(InputError, match='was removed, renamed or emptied'), _open(folder) as log:
    _record(log, state, [1])
    log.finish(state)
  assert not folder.exists()


def test_a_workdir_that_is_gone_when_all_is_saved_is_noticed(state, tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  with pytest.raises(InputError, match='was removed, renamed or emptied'), _open(folder) as log:
    _record(log, state, range(1, 6))
    log.wait(0)
    log._saves.drain()
    log._writer.background.drain()
    folder.rename(tmp_path / 'other')
    log.finish(state)
  assert not folder.exists()


@pytest.mark.parametrize(('number', 'remedy'), [(errno.ENOSPC, 'free some room'), (errno.EACCES, 'fix that')])
def test_room_is_asked_for_only_where_it_is_missing(state, tmp_path, monkeypatch, number, remedy):
  def fail(*_, **__):
    raise OSError(number, os.strerror(number))

  with _open(tmp_path) as log:
    monkeypatch.setattr(ocp.training.Checkpointer, 'save_async', fail)
    _record(log, state, [5])
    log.finish(state.replace(step=jnp.int32(5)))
    assert log.unsaved.endswith(f'; {remedy}, then run the same command again to continue'), log.unsaved


def test_errors_of_the_writer_reach_the_loop(state, tmp_path, monkeypatch):
  def fail(*_):
    raise ZeroDivisionError('in the thread')

  monkeypatch.setattr(pictures, 'zoom', fail)
  with pytest.raises(ZeroDivisionError, match='in the thread'), _open(tmp_path) as log:
    _record(log, state, range(1, 5))
    log.finish(state)


def test_a_collapse_that_was_seen_is_not_forgotten(state, tmp_path):
  """D wins for ten rows, and the rounds that were in flight by then have rows in which it has not."""
  won = VALUES | {'d_real': jnp.float32(1.0), 'd_fake': jnp.float32(0.0)}
  with _open(tmp_path, dataclasses.replace(SCHEDULE, draw_every=0, save_every=0), 'stop') as log:
    for step in range(1, 15):
      values = won if step <= 10 else VALUES
      log.record(state, step, values, values)
    log.wait(5)
    assert log.collapse == ''  # There are nine rows.
    log.wait(4)
    seen = log.collapse
    log.finish(state.replace(step=jnp.int32(14)))
  assert 'D has won' in seen and log.collapse == seen
  assert [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == [*range(1, 15)]
