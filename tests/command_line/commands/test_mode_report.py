"""Reports from the command line, and those written by training."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import TINY, assert_same_state, succeed

from dcgan_jax.records import metrics


@pytest.mark.slow
def test_as_a_user_asks_for_it(trained, tmp_path, printed_by):
  folder, _ = trained
  out = tmp_path / 'new' / 'page.html'
  printed = printed_by('--mode=report', f'--workdir={folder}', f'--out={out}')
  assert printed.startswith(f'{out}: 0.') and printed.endswith(' MB; open it in a browser\n')
  html = out.read_text()
  for words in ('Over training', 'Latent walk', 'Loss', '--config=configs/digits.py', 'Step 24, the last'):
    assert words in html
  assert (
    json.loads((folder / 'versions.json').read_text())['devices'] == '1 cpu device' and '1 cpu device' in html
  )


@pytest.mark.slow
def test_training_writes_it_and_learns_the_same(trained, tmp_path):
  flags = [flag for flag in TINY if not flag.startswith('--config.log.report')]
  printed = succeed(*flags, f'--workdir={tmp_path}')
  assert printed.splitlines()[-1].startswith(f'{tmp_path}/report.html: 0.')
  assert 'Latent walk' in (tmp_path / 'report.html').read_text()
  assert_same_state(trained[0], tmp_path, 24)
  assert not (trained[0] / 'report.html').exists()


@pytest.mark.slow
def test_a_run_that_was_killed(trained, tmp_path, printed_by):
  folder = shutil.copytree(trained[0], tmp_path / 'run')
  for name in ('checkpoints/16', 'checkpoints/24', 'samples.gif'):
    shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
  metrics = (folder / 'metrics.jsonl').read_bytes()
  (folder / 'metrics.jsonl').write_bytes(metrics[: len(metrics) // 2])
  printed_by('--mode=report', f'--workdir={folder}')
  assert 'Generator of step 8.' in (folder / 'report.html').read_text()


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ([], '--workdir is missing'),
    (['--workdir={tmp}'], 'no run here (no config.json)'),
    (['--workdir={tmp}/none'], 'no run here (no config.json)'),
    (['--workdir={run},{run}'], 'names a run twice'),
    (['--workdir={run},{tmp}'], 'no run here'),
    (['--workdir={many}'], 'names 25 runs; a page compares 24 at most'),
    (['--workdir={nine}/*'], 'names 9 runs that are no seeds of each other; a page compares 8 at most'),
    (['--workdir={tmp}/a-*'], 'matches no folder of a run'),
    (['--workdir={nine}/0,{nine}/*'], 'names a run twice'),
    (['--workdir={run}', '--out=page.pdf'], 'must be a file that ends in .html'),
    (['--workdir={run}', '--out='], 'out: is empty; give a path'),
    (['--workdir={run}', '--out=README.md/page.html'], 'is not a folder that you may write to'),
    (['--workdir={run}', '--checkpoint=best'], 'is not a flag of --mode=report'),
  ],
)
def test_bad_input_is_one_line(refused, untrained, tmp_path, arguments, text):
  paths = {'run': untrained, 'tmp': tmp_path, 'nine': tmp_path / 'nine'}
  paths['many'] = ','.join(f'{tmp_path}/{i}' for i in range(25))
  for i in range(9):
    (tmp_path / 'nine' / str(i)).mkdir(parents=True)
    (tmp_path / 'nine' / str(i) / 'config.json').write_text('{')
  (tmp_path / 'a-0').mkdir()  # no run
  assert text in refused('--mode=report', *(argument.format(**paths) for argument in arguments))


def test_flags_reach_the_command(call_main, monkeypatch, tmp_path):
  from pathlib import Path

  from dcgan_jax.trained.report import page

  called = []
  monkeypatch.setattr(page, 'run', lambda *arguments: called.append(arguments))
  comma = tmp_path / 'a,b'
  comma.mkdir()
  for text in ('a,b', comma):
    assert call_main('--mode=report', f'--workdir={text}', '--out=x.html') == (0, '', '')
  assert called == [([Path('a'), Path('b')], 'x.html'), ([comma], 'x.html')]


def test_patterns_name_runs(call_main, monkeypatch, tmp_path):
  from dcgan_jax.trained.report import page

  called = []
  monkeypatch.setattr(page, 'run', lambda folders, out: called.append(folders))
  for name in ('a-0', 'a-1', 'a-[2]', 'b-0', 'c'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').touch()
  (tmp_path / 'a-page.html').touch()
  (tmp_path / 'a-empty').mkdir()
  for text, names in (('a-*,b-?', ['a-0', 'a-1', 'a-[2]', 'b-0']), ('a-[2],c', ['a-[2]', 'c'])):
    parts = ','.join(f'{tmp_path}/{part}' for part in text.split(','))
    assert call_main('--mode=report', f'--workdir={parts}') == (0, '', '')
    assert called.pop() == [tmp_path / name for name in names]


@pytest.mark.nightly(30)
@pytest.mark.usefixtures('digits_classifier', 'standard_promotion')
def test_recipes_trained_with_seeds(tmp_path, printed_by):
  flags = [*TINY, '--config.train.num_steps=16', '--config.eval.every_steps=8', '--config.eval.num=100']
  for name, own in {'a-0': [], 'a-1': ['--config.seed=1'], 'b-0': ['--config.train.augment=']}.items():
    succeed(*flags, *own, f'--workdir={tmp_path}/{name}')
  printed_by('--mode=evaluate', f'--workdir={tmp_path}/a-1', '--checkpoint=best', '--num=20')
  out = tmp_path / 'page.html'
  printed = printed_by('--mode=report', f'--workdir={tmp_path}/a-*,{tmp_path}/b-*', f'--out={out}')
  tables = [f'{tmp_path}/page_table.{suffix}' for suffix in ('md', 'csv', 'tex')]
  assert printed.startswith(f'{out}: 0.') and printed.splitlines()[1:] == tables
  with open(tables[1]) as file:
    read = [row for row in csv.DictReader(file) if row['score'] == 'classifier_frechet_distance']
  last, *others = [row for row in read if row['recipe'] == 'a']
  assert last['checkpoints'].startswith('last scored in training')
  assert others[-1]['checkpoints'] == 'best checkpoint in training, evaluated'
  assert others[-1]['seed 0'] == '' and others[-1]['seed 1'] == others[-1]['mean']
  scored = [
    [row for row in metrics.read(tmp_path / name / 'metrics.jsonl') if 'protocol' in row]
    for name in ('a-0', 'a-1')
  ]
  values = [rows[-1]['classifier_frechet_distance'] for rows in scored]
  np.testing.assert_array_equal([float(last['seed 0']), float(last['seed 1'])], values)
  np.testing.assert_allclose(
    [float(last['mean']), float(last['deviation'])], [np.mean(values), np.std(values, ddof=1)]
  )
  best = next(row for row in read if 'best' in row['checkpoints'])  # maybe the last one
  least = [min(row['classifier_frechet_distance'] for row in rows) for rows in scored]
  np.testing.assert_array_equal([float(best['seed 0']), float(best['seed 1'])], least)
  assert all(row['deviation'] == '' for row in read if row['recipe'] == 'b-0')
