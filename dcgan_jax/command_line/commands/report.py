"""Writes a report: a single HTML file about one run, or comparing several, with tables of seeds beside it.

python main.py --mode=report --workdir=runs/mnist
python main.py --mode=report --workdir=runs/a,runs/b,runs/c --out=compared.html
python main.py --mode=report --workdir='runs/a-*,runs/b-*' --out=compared.html
"""

import glob
import os
from pathlib import Path

from absl import flags

from dcgan_jax import files
from dcgan_jax.command_line import shared
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into, 'Folder of the run, or of several: comma-separated, and with * for any name.')
  flags.DEFINE_string(
    'out',
    None,
    'An .html; by default report.html, in the workdir or, for several runs, in the current folder.',
    flag_values=into,
  )


def run(values: flags.FlagValues) -> None:
  """Writes the report."""
  text = shared.required(values, 'report', 'workdir')
  # A folder's own name may contain a comma.
  parts = [text] if os.path.isdir(text) else [part for part in text.split(',') if part.strip()]
  if not parts:
    raise InputError(f'--workdir={text}: names no folder; give some, e.g. --workdir=runs/digits')
  folders = [folder for part in parts for folder in _named(part)]
  for folder in folders:
    workdir.require_run(folder)
  from dcgan_jax.trained.report import page

  page.run(folders, values.out)


def _named(part: str) -> list[Path]:
  """Returns a folder, or the runs that a pattern matches.

  Raises:
    InputError: There can be no such folder, or no run matches.
  """
  path = files.named('workdir', part)
  if path.exists() or not glob.has_magic(part):
    return [path]
  found = sorted(Path(name) for name in glob.glob(str(path)))
  found = [folder for folder in found if (folder / 'config.json').is_file()]
  if not found:
    raise InputError(f'workdir={part}: matches no folder of a run (with config.json); train some there first')
  return found
