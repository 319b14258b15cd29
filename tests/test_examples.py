import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, environment
from PIL import Image

MINIMAL = ROOT / 'examples' / 'minimal.py'


def test_the_example_fits_on_a_screen():
  assert len(MINIMAL.read_text().splitlines()) <= 60


@pytest.mark.nightly(20)
def test_the_example_prints_losses_and_draws(tmp_path):
  env = environment(optimized=True)
  env['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  # The example as it is, but for a shorter training.
  code = f'import runpy; example = runpy.run_path({str(MINIMAL)!r})["main"]; '
  code += 'example.__globals__["STEPS"] = 100; example()'
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  losses = re.findall(r'loss_d (\d+\.\d+) +loss_g (\d+\.\d+)', done.stdout)
  assert losses and all(0 < float(value) < 20 for pair in losses for value in pair)
  with Image.open(tmp_path / 'minimal.png') as picture:
    assert min(picture.size) > 100 and len(picture.convert('L').getcolors()) > 20
