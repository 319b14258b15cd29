"""Reports from the command line, and those written by training."""

import json
import shutil

import pytest
from conftest import TINY, assert_same_state, succeed


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
    (['--workdir={nine}'], 'names 9 runs; a page compares 8 at most'),
    (['--workdir={run}', '--out=page.pdf'], 'must be a file that ends in .html'),
    (['--workdir={run}', '--out='], 'out: is empty; give a path'),
    (['--workdir={run}', '--out=README.md/page.html'], 'is not a folder that you may write to'),
    (['--workdir={run}', '--checkpoint=best'], 'is not a flag of --mode=report'),
  ],
)
def test_bad_input_is_one_line(refused, untrained, tmp_path, arguments, text):
  paths = {'run': untrained, 'tmp': tmp_path, 'nine': ','.join(f'{tmp_path}/{i}' for i in range(9))}
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
