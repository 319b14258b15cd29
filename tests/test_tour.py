"""The notebook examples/tour.ipynb: its committed outputs, and whether it runs."""

import base64
import io
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, environment
from PIL import Image

TOUR = ROOT / 'examples' / 'tour.ipynb'
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=500, resources={'metadata': {'path': '.'}}).execute()
nbformat.write(notebook, 'done.ipynb')
"""


def _cells(path, kind='code'):
  return [cell for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == kind]


def _printed(cells):
  """Returns the text output and the pictures of code cells."""
  outputs = [output for cell in cells for output in cell['outputs']]
  assert not [output for output in outputs if output['output_type'] == 'error']
  text = ''.join(''.join(output.get('text', '')) for output in outputs)
  drawn = [output['data']['image/png'] for output in outputs if 'image/png' in output.get('data', {})]
  return text, [Image.open(io.BytesIO(base64.b64decode(''.join(picture)))) for picture in drawn]


def test_it_is_committed_with_the_outputs_of_a_whole_run():
  assert TOUR.stat().st_size < 400_000
  cells = _cells(TOUR)
  assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
  text, pictures = _printed(cells)
  assert 'runs/tour: trained to step 2900' in text and 'uint8 (40, 16, 16, 1)' in text
  assert len(pictures) == 6 and all(len(pictures[i].convert('L').getcolors()) > 20 for i in (0, 1, 3, 4, 5))
  lines = [line for line in text.splitlines() if line.startswith(('real', 'generated', 'noise'))]
  distances = [float(line.split('distance ')[1].split()[0]) for line in lines]
  assert distances == sorted(distances) and len(distances) == 3


def test_it_names_no_folder_of_the_machine_that_ran_it():
  assert not [word for word in ('/home', '/tmp', '/root', '/work', 'Traceback') if word in TOUR.read_text()]


@pytest.mark.nightly(50)
def test_it_runs(tmp_path):
  pytest.importorskip('nbclient')
  pytest.importorskip('ipykernel')
  env = environment(optimized=True) | {
    'TOUR_STEPS': '20',
    'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    'JUPYTER_PLATFORM_DIRS': '1',
  }
  command = [sys.executable, '-c', EXECUTE, str(TOUR)]
  done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-3000:]
  text, pictures = _printed(_cells(tmp_path / 'done.ipynb'))
  assert 'runs/tour: trained to step 20' in text and len(pictures) == 6
  assert 'README.md config.json grid.png model.safetensors' in text
