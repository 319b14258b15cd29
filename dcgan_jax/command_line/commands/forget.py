"""Drops the feature maps of the generator that draw a class, and shows the result (paper, section 6.3.1).

python main.py --mode=forget --workdir=runs/mnist --class=0
"""

from absl import flags

from dcgan_jax.command_line import shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(into, 2000, 'Number of samples.')
  shared.define_seed(into)
  flags.DEFINE_string('class', None, 'Name of the class.', flag_values=into)
  flags.DEFINE_integer(
    'drop',
    None,
    'Number of maps to drop; by default all of positive weight, as in the paper.',
    lower_bound=1,
    flag_values=into,
  )
  flags.DEFINE_integer(
    'layer',
    None,
    'Hidden layer of G, 0 for the dense one; by default the last but one, as in the paper.',
    flag_values=into,
  )
  shared.define_statistics(into)


def run(values: flags.FlagValues) -> None:
  """Drops the maps and draws the result."""
  folder, name = shared.folder(values), values['class'].value
  shared.check_run(folder)
  from dcgan_jax.trained.analysis import forget

  maps = (values.layer, values.drop)
  forget.run(folder, values.num, values.seed, values.checkpoint, name, *maps, values.statistics)
