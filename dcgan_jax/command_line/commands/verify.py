"""Replays a run from one checkpoint to the next, and checks that every bit agrees.

python main.py --mode=verify --workdir=runs/digits
python main.py --mode=verify --workdir=runs/digits --checkpoint=2000
"""

from absl import flags

from dcgan_jax.command_line import shared
from dcgan_jax.records import workdir


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into, 'Folder of the run.')
  flags.DEFINE_string(
    'checkpoint', None, 'Step to start from; by default the last but one.', flag_values=into
  )


def run(values: flags.FlagValues) -> None:
  """Replays and compares."""
  folder = shared.folder(values)
  workdir.require_run(folder)
  shared.check_run(folder)
  from dcgan_jax.training import verification

  verification.run(folder, values.checkpoint)
