"""Prints the layers of both networks, and the memory that a train step takes.

python main.py --mode=summary --config=configs/mnist.py
"""

from absl import flags

from dcgan_jax.command_line import shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_config(into)
  shared.define_workdir(into, 'Folder of a run, whose config is taken if --config is not given.')


def run(values: flags.FlagValues) -> None:
  """Prints."""
  chosen = shared.chosen_settings(values)
  from dcgan_jax.analysis import summary

  summary.run(chosen)
