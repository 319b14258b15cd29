"""Probes from the command line."""

import json
import shutil

import pytest

from dcgan_jax.trained.analysis import probe, svm


@pytest.mark.slow
def test_as_a_user_asks_for_it(untrained, tmp_path, monkeypatch, printed_by):
  monkeypatch.setattr(probe, 'DRAWS', 2)
  monkeypatch.setattr(probe, 'LABELS', 100)
  monkeypatch.setattr(svm, 'COSTS', (0.1,))
  folder = shutil.copytree(untrained, tmp_path / 'run')
  printed = printed_by('--mode=probe', f'--workdir={folder}')
  report = json.loads((folder / 'probe.json').read_text())
  assert set(report['accuracy']) == {'D, step 0', 'D, random', 'pixels'}
  assert report['images'] == {'train': 1079, 'validation': 359, 'test': 359}
  assert f'step 0 of {folder} on digits: right of 359 test images' in printed
  assert printed.endswith(f'{folder}/probe.json and {folder}/features.png\n')
  assert (folder / 'features.png').stat().st_size > 5000
