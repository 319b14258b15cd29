"""Trackers, by a stand-in with the interface that Weights & Biases and Trackio share."""

import json
import sys
import types

import numpy as np
import pytest
from conftest import TINY

from dcgan_jax.errors import InputError
from dcgan_jax.records import metrics, tracking


class StandIn(types.ModuleType):
  """A module that notes what it is told.

  Attributes:
    told: (what, how) of each call.
    fails: names of the calls that fail.
  """

  def __init__(self, name, fails=()):
    super().__init__(name)
    self.__spec__ = types.SimpleNamespace(name=name)
    self.told, self.fails = [], fails
    self.Settings = dict

  def _note(self, what, *arguments, **options):
    self.told.append((what, *arguments, options))
    if what in self.fails:
      raise ConnectionError(f'{what}: the service is away\nTraceback')

  def init(self, **options):
    self._note('init', **options)
    return types.SimpleNamespace(
      log=lambda *arguments, **more: self._note('log', *arguments, **more),
      finish=lambda: self._note('finish'),
      define_metric=lambda *arguments, **more: self._note('define_metric', *arguments, **more),
    )

  def Image(self, pixels):  # noqa: N802
    return 'image', pixels.shape, pixels.dtype.name


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'config.json').write_text('{"seed": 3}')
  return tmp_path


def _writer(folder, monkeypatch, kind, fails=(), step=0):
  service = StandIn(kind, fails)
  monkeypatch.setitem(sys.modules, kind, service)
  return metrics.MetricsWriter(folder, step, False, kind), service


def test_wandb_is_told_rows_scores_and_pictures(folder, monkeypatch):
  monkeypatch.delenv('WANDB_PROJECT', raising=False)
  writer, service = _writer(folder, monkeypatch, 'wandb')
  writer.write(4, {'loss_d': 0.5})
  writer.write(4, {'fid': 9.0, 'protocol': 'samples=10'})
  writer.add_image(4, np.zeros((6, 5, 1), np.uint8))
  writer.close()
  (_, opened), defined, *rows, (last, _) = service.told
  own = json.loads((folder / 'tracker.json').read_text())['id']
  assert opened['id'] == own and opened['config'] == {'seed': 3} and opened['project'] == 'dcgan_jax'
  assert opened['name'] == folder.name and opened['dir'] == folder and opened['resume'] == 'allow'
  assert defined == ('define_metric', '*', {'step_metric': 'train_step'})
  assert [row[1] for row in rows] == [
    {'train_step': 4, 'loss_d': 0.5},
    {'train_step': 4, 'fid': 9.0, 'protocol': 'samples=10'},
    {'train_step': 4, 'samples': ('image', (6, 5, 3), 'uint8')},
  ]
  assert last == 'finish'


def test_trackio_is_told_the_same_by_its_own_steps(folder, monkeypatch):
  monkeypatch.setenv('WANDB_PROJECT', 'ours')
  writer, service = _writer(folder, monkeypatch, 'trackio')
  writer.write(4, {'loss_d': 0.5})
  writer.close()
  (_, opened), row, _ = service.told
  own = json.loads((folder / 'tracker.json').read_text())['id']
  assert opened['name'] == f'{folder.name}-{own}' and opened['project'] == 'ours'
  assert row == ('log', {'loss_d': 0.5}, {'step': 4})


@pytest.mark.parametrize('kind, field', [('wandb', 'id'), ('trackio', 'name')])
def test_a_run_that_goes_on_is_the_same_run_there(kind, field, folder, monkeypatch):
  names = []
  for step in (0, 8):
    writer, service = _writer(folder, monkeypatch, kind, step=step)
    writer.close()
    names.append(service.told[0][1][field])
    assert service.told[0][1]['resume'] == 'allow'
  assert names[0] == names[1] and len(names[0]) >= 8


@pytest.mark.parametrize('fails', ['init', 'define_metric', 'log', 'finish'])
def test_a_service_that_fails_is_said_once_and_nothing_is_lost(fails, folder, monkeypatch, capsys):
  writer, service = _writer(folder, monkeypatch, 'wandb', (fails,))
  for step in (1, 2, 3):
    writer.write(step, {'loss_d': 0.5})
  writer.add_image(3, np.zeros((6, 5, 3), np.uint8))
  writer.close()
  said = capsys.readouterr().err
  assert said == f'log.tracker=wandb: {fails}: the service is away; training goes on without it\n'
  assert [call[0] for call in service.told].count(fails) == 1
  assert len(metrics.read(folder / 'metrics.jsonl')) == 3


def test_an_id_that_cannot_be_read_does_not_end_a_run(folder, monkeypatch, capsys):
  (folder / 'tracker.json').write_text('{')
  writer, service = _writer(folder, monkeypatch, 'wandb')
  writer.write(1, {'loss_d': 0.5})
  writer.close()
  assert 'tracker.json' in capsys.readouterr().err and not service.told


def test_a_package_that_is_missing_is_said_before_anything_is_written(refused, tmp_path, monkeypatch):
  monkeypatch.setattr(tracking.importlib.util, 'find_spec', lambda name: None)
  said = refused(*TINY, '--config.log.tracker=trackio', f'--workdir={tmp_path / "run"}')
  assert said == "error: log.tracker=trackio: needs the package trackio; pip install -e '.[trackio]'\n"
  assert not (tmp_path / 'run').exists()
  with pytest.raises(InputError, match='wandb'):
    tracking.check('wandb')
  tracking.check('none')
