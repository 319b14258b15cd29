"""Writes a report: a single HTML file about one run, or comparing several.

python main.py --mode=report --workdir=runs/mnist
python main.py --mode=report --workdir=runs/a,runs/b,runs/c --out=compared.html
"""

import os

from absl import flags

from dcgan_jax import files
from dcgan_jax.command_line import shared
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into, 'Folder of the run, or of several, comma-separated.')
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
  folders = [files.named('workdir', part) for part in parts]
  for folder in folders:
    workdir.require_run(folder)
  from dcgan_jax.trained.report import page

  page.run(folders, values.out)
