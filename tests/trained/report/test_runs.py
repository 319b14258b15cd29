"""What is read of a workdir, also of a damaged one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from dcgan_jax.errors import InputError
from dcgan_jax.trained.report import runs
from dcgan_jax.trained.report.runs import Share

DISTANCE = 'classifier_frechet_distance'
WRITTEN = (
  'config.json',
  'evaluation.json',
  'classes.json',
  'versions.json',
  'metrics.jsonl',
)


def _write_metrics(folder, rows, end='\n'):
  folder.mkdir(exist_ok=True)
  (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)) + end)


def test_a_workdir_is_read_without_jax():
  code = 'import sys; from dcgan_jax.trained.report import page, runs, views; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(InputError, match='no run here'):
    runs.read(tmp_path)


def test_a_run_that_was_killed(tmp_path):
  rows = [{'step': 50 * i, 'loss_d': 1.0, 'loss_g': 2.0} for i in range(1, 4)]
  _write_metrics(tmp_path, rows, end='\n{"step": 200, "loss')
  run = runs.read(tmp_path)
  assert run.rows == rows and run.step == 150 and run.best is None and run.events == []
  assert run.notes == [f'workdir={tmp_path}: no run here (no config.json); train one there first']


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('config.json', '{"seed": '),
    ('config.json', '[]'),
    ('evaluation.json', '{}'),
    ('evaluation.json', '{"images": 1, "against": 2, "protocol": "", "scores": {"fid": "NaN"}}'),
    ('evaluation.json', '"text"'),
    ('classes.json', '{"names": 3}'),
    ('versions.json', '[1]'),
    ('versions.json', '{"jax": 1}'),
    ('metrics.jsonl', None),
    *((name, 'pipe') for name in WRITTEN),
  ],
)
def test_what_is_damaged_is_a_note(untrained, tmp_path, name, content):
  for each in ('config.json', 'metrics.jsonl'):
    (tmp_path / each).write_text((untrained / 'config.json').read_text() if each == 'config.json' else '')
  if content is None:
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
  elif content == 'pipe':
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
  else:
    (tmp_path / name).write_text(content)
  run = runs.read(tmp_path)
  assert len(run.notes) == 1 and run.notes[0].startswith(str(tmp_path / name)) and '\n' not in run.notes[0]


def test_the_best_step_is_by_the_last_protocol(tmp_path):
  scores = [(10, 5.0, 'old'), (20, 9.0, 'new'), (30, 7.0, 'new'), (40, float('nan'), 'new'), (50, 8.0, 'new')]
  _write_metrics(tmp_path, [{'step': s, DISTANCE: d, 'coverage': 0.5, 'protocol': p} for s, d, p in scores])
  run = runs.read(tmp_path)
  assert run.best['step'] == 30 and [row['step'] for row in run.scored] == [20, 30, 50]
  assert run.protocol.endswith('new') and 'None' not in run.protocol


def test_warnings_are_at_the_steps_at_which_they_are_new():
  scored = [
    {'step': 100 * i, DISTANCE: d, 'coverage': c}
    for i, (d, c) in enumerate([(9, 0.6), (5, 0.8), (20, 0.7), (21, 0.7), (6, 0.8), (30, 0.1)], 1)
  ]
  events = runs.warnings_of(scored, DISTANCE)
  assert [(e.step, e.text[:9]) for e in events] == [
    (300, 'frechet d'),
    (600, 'mode coll'),
    (600, 'frechet d'),
  ]
  won = [{'step': i, 'd_real': 0.99, 'd_fake': 0.01} for i in range(1, 40)]
  assert [event.step for event in runs.warnings_of(won, None)] == [10]


def test_an_evaluation_is_read(tmp_path):
  _write_metrics(tmp_path, [{'step': 1, 'loss_d': 1.0}])
  classes = {
    'names': ['a', 'b'],
    'generated': [0.9, 0.1],
    'data': [0.5, 0.5],
    'missing': [],
    'divergence': 0.3,
  }
  content = {'images': 'step 1', 'num': 9, 'against': '9 images', 'about': 'x', 'protocol': 'y'}
  content |= {'scores': {DISTANCE: 2.5}, 'classes': classes, 'asked': {'agreements': [0.75, None]}}
  (tmp_path / 'evaluation.json').write_text(json.dumps(content))
  (found,) = runs.read(tmp_path).evaluations
  assert found.scores == {DISTANCE: 2.5} and found.protocol == 'y'
  assert found.classes == [Share('a', 0.9, 0.5, 0.75), Share('b', 0.1, 0.5, None)]


def test_names_tell_runs_apart():
  assert runs.names([Path('/x/a'), Path('/x/b')]) == ['a', 'b']
  assert runs.names([Path('/x/0/run'), Path('/y/1/run')]) == ['0/run', '1/run']
  assert runs.names([Path('/x/run')]) == ['run']


def test_templates_ask_for_nothing():
  """Finds no address in them that a browser would go to, beside the name space that it knows."""
  for path in (ROOT / 'dcgan_jax/trained/report/templates').iterdir():
    assert '//' not in path.read_text().replace('// ', ''), path
