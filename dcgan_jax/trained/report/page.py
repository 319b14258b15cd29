"""Writes the page of one run or of several: a single HTML file that requests nothing else.

Beside a page that compares recipes over seeds it writes their scores as tables.
"""

import base64
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcgan_jax import files
from dcgan_jax.errors import InputError, printable
from dcgan_jax.trained.report import charts, configs, groups, runs, scales, tables, views
from dcgan_jax.trained.report.groups import Group
from dcgan_jax.trained.report.runs import Run

TEMPLATES = Path(__file__).parent / 'templates'
MOST_RUNS = 24
MOST_GROUPS = 8  # recipes, or runs that are no seeds of each other: one for each colour


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
  grouped = groups.find(found)
  if len(grouped) > MOST_GROUPS:
    raise InputError(
      f'workdir: names {len(grouped)} runs that are no seeds of each other; a page compares {MOST_GROUPS} '
      'at most'
    )
  default = (folders[0] if len(folders) == 1 else Path()) / 'report.html'
  target = files.to_be_written('out', str(default) if out is None else out)
  if target.suffix != '.html' or target.is_dir():
    raise InputError(f'out={target}: must be a file that ends in .html')
  html, notes = render(found)
  with files.output('out', target):
    _write(target, html, notes)
    if over_seeds(grouped):
      _write_tables(target, grouped)


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


def render(found: Sequence[Run], with_images: bool = True) -> tuple[str, list[str]]:
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
  environment.filters |= {'number': scales.number, 'title_of': tables.title}
  style, script = ((TEMPLATES / name).read_text(encoding='utf-8') for name in ('style.css', 'script.js'))
  shared = {
    'style': style,
    'script': script,
    'policy': policy(style, script),
    'made_with': views.made_with(),
    'trained_with': views.trained_with(found, names),
  }
  if len(found) == 1:
    shown = [views.view(found[0], names[0], with_images)]
    html = environment.get_template('run.html').render(view=shown[0], **shared)
  else:
    shown = views.views_to_compare(found, names)
    grouped = groups.find(found)
    several = {
      'views': shown,
      'charts': charts.of_several(grouped),
      'differences': views.differing_settings(grouped),
    }
    if over_seeds(grouped):
      drawn = [(group, [shown[i] for i in group.indices if shown[i].grids]) for group in grouped]
      several |= {'shown': drawn} | _scored(grouped)
      html = environment.get_template('groups.html').render(**several, **shared)
    else:
      html = environment.get_template('runs.html').render(
        names=names, comparable=len({one.protocol for one in found if one.protocol}) < 2, **several, **shared
      )
  return html, [note for view in shown for note in view.notes]


def over_seeds(grouped: Sequence[Group]) -> bool:
  """Returns whether any runs are seeds of each other."""
  return any(len(group.runs) > 1 for group in grouped)


def _scored(grouped: Sequence[Group]) -> dict[str, Any]:
  """Returns what the page of recipes has in addition: their scores."""
  rows = groups.rows(grouped)
  return {
    'groups': grouped,
    'names': [group.name for group in grouped],
    'rows': rows,
    'columns': tables.columns(rows),
    'remarks': tables.remarks(rows),
    'comparable': tables.comparable(rows),
  }


def policy(style: str, script: str) -> str:
  """Returns a Content-Security-Policy: nothing is requested, and only this style and script are obeyed."""
  hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
  return (
    f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
    "base-uri 'none'; form-action 'none'"
  )


def _write_tables(target: Path, grouped: Sequence[Group]) -> None:
  """Writes the scores beside a page, and prints the paths."""
  rows = groups.rows(grouped)
  differences = configs.differences([group.recipe for group in grouped])
  written = tables.to_markdown(rows, differences), tables.to_csv(rows), tables.to_latex(rows, differences)
  for suffix, text in zip(('.md', '.csv', '.tex'), written):
    path = target.with_name(f'{target.stem}_table{suffix}')
    with files.whole(path) as part:
      part.write_text(text, encoding='utf-8', errors='backslashreplace', newline='\n')
    print(f'{path}', flush=True)


def _write(target: Path, html: str, notes: Sequence[str]) -> None:
  """Writes the page atomically, and prints its path."""
  with files.whole(target) as part:
    # Names of files may contain bytes that are not text.
    part.write_text(html, encoding='utf-8', errors='backslashreplace', newline='\n')
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  print(f'{target}: {target.stat().st_size / 1e6:.1f} MB; open it in a browser', flush=True)
