"""Writes the page of one run or of several: a single HTML file that requests nothing else."""

import base64
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from dcgan_jax import files
from dcgan_jax.errors import InputError, printable
from dcgan_jax.evaluation import scores
from dcgan_jax.trained.report import charts, runs, scales, views

TEMPLATES = Path(__file__).parent / 'templates'
MOST_RUNS = 8  # compared runs, one for each colour


def run(folders: Sequence[Path], out: str | None) -> None:
  """Writes the page of a run, or one that compares several.

  Args:
    folders: The workdirs.
    out: Path ending in .html; None for report.html in the workdir, or here if there are several.

  Raises:
    InputError: in one line; there is no run in one of them, or the file cannot be written.
  """
  resolved = [folder.resolve() for folder in folders]
  if len(set(resolved)) < len(folders):
    raise InputError(f'workdir={",".join(map(str, folders))}: names a run twice')
  if len(folders) > MOST_RUNS:
    raise InputError(f'workdir: names {len(folders)} runs; a page compares {MOST_RUNS} at most')
  found = [runs.read(folder) for folder in folders]
  default = (folders[0] if len(folders) == 1 else Path()) / 'report.html'
  target = files.to_be_written('out', str(default) if out is None else out)
  if target.suffix != '.html' or target.is_dir():
    raise InputError(f'out={target}: must be a file that ends in .html')
  html, notes = render(found)
  with files.output('out', target):
    _write(target, html, notes)


def write_after_training(folder: Path, with_images: bool = True) -> None:
  """Writes report.html into a workdir; a failure is reported in one line.

  Args:
    folder: The workdir.
    with_images: Whether to make images with the generator, which takes all devices of all processes.
  """
  target = folder / 'report.html'
  try:
    _write(target, *render([runs.read(folder)], with_images))
  except Exception as error:  # Whatever it is, training has succeeded, and that must be the outcome.
    reason = printable(str(error))[:300] or type(error).__name__
    print(f'{target}: cannot be written: {reason}', file=sys.stderr, flush=True)


def render(found: Sequence[runs.Run], with_images: bool = True) -> tuple[str, list[str]]:
  """Returns the page of one run or of several, and a note for each damaged file."""
  import jinja2  # slow to import

  names = runs.names([one.folder for one in found])
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {'number': scales.number, 'label': scores.label}
  style, script = ((TEMPLATES / name).read_text(encoding='utf-8') for name in ('style.css', 'script.js'))
  shared = {
    'style': style,
    'script': script,
    'policy': policy(style, script),
    'made_with': views.made_with(),
    'trained_with': views.trained_with,
  }
  if len(found) == 1:
    shown = [views.view(found[0], names[0], with_images)]
    html = environment.get_template('run.html').render(view=shown[0], **shared)
  else:
    shown = views.views_to_compare(found, names)
    html = environment.get_template('runs.html').render(
      views=shown,
      names=names,
      charts=charts.of_several(found, names),
      differences=views.differing_settings(found),
      comparable=len({one.protocol for one in found if one.protocol}) < 2,
      **shared,
    )
  return html, [note for view in shown for note in view.notes]


def policy(style: str, script: str) -> str:
  """Returns a Content-Security-Policy: nothing is requested, and only this style and script are obeyed."""
  hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
  return (
    f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
    "base-uri 'none'; form-action 'none'"
  )


def _write(target: Path, html: str, notes: Sequence[str]) -> None:
  """Writes the page atomically, and prints its path."""
  with files.whole(target) as part:
    # Names of files may contain bytes that are not text.
    part.write_text(html, encoding='utf-8', errors='backslashreplace', newline='\n')
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  print(f'{target}: {target.stat().st_size / 1e6:.1f} MB; open it in a browser', flush=True)
