"""The examples of docs/library.md, run as they are."""

import os
import re
import subprocess
import sys

import pages
import pytest
from conftest import ROOT, environment

PAGE = ROOT / 'docs' / 'library.md'


def _run(page, folder):
  """Runs a page in a new folder and process, as a reader would; returns the finished process."""
  env = environment(optimized=True)
  env['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  return subprocess.run(
    [sys.executable, ROOT / 'tests' / 'pages.py', page],
    cwd=folder,
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.nightly(50)
def test_the_examples_print_what_the_page_shows(tmp_path):
  done = _run(PAGE, tmp_path)
  assert done.returncode == 0, done.stdout + done.stderr
  assert {path.name for path in tmp_path.iterdir()} == {'digits.npz', 'grid.png', 'runs', 'walk.gif'}


def test_an_example_that_prints_something_else_is_found(tmp_path):
  (tmp_path / 'page.md').write_text('Text\n\n```python\n>>> 1 + 1\n2\n>>> 1 + 1\n3\n```\n')
  done = _run('page.md', tmp_path)
  assert done.returncode == 1 and 'line 6' in done.stdout and 'Expected:\n    3\nGot:\n    2' in done.stdout


def test_the_page_has_the_ten_calls_of_its_table():
  text = PAGE.read_text()
  anchors = re.findall(r'^\| \[.*\]\(#(.*?)\)', text, re.MULTILINE)
  titles = [title.lower().replace(' ', '-') for title in re.findall(r'^## (.*)$', text, re.MULTILINE)]
  assert sorted(anchors) == sorted(titles) and len(anchors) == 10
  assert len(pages.BLOCK.findall(text)) == 10 and len(pages.examples(text)) > 50


def test_importing_the_package_imports_no_jax():
  code = 'import sys, dcgan_jax; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0
