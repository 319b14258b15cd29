"""Probes from the command line."""

import json
import shutil

import pytest
from conftest import succeed


@pytest.mark.slow
def test_as_a_user_starts_it(untrained, tmp_path):
  folder = shutil.copytree(untrained, tmp_path / 'run')
  printed = succeed('--mode=probe', f'--workdir={folder}', optimized=True)
  report = json.loads((folder / 'probe.json').read_text())
  assert set(report['accuracy']) == {'D, step 0', 'D, random', 'pixels'}
  assert report['images'] == {'train': 1079, 'validation': 359, 'test': 359}
  assert f'step 0 of {folder} on digits: right of 359 test images' in printed
  assert printed.endswith(f'{folder}/probe.json and {folder}/features.png\n')
  assert (folder / 'features.png').stat().st_size > 5000
