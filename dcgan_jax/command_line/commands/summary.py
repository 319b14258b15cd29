"""Prints the layers of both networks and the memory of a train step, here or on another machine.

python main.py --mode=summary --config=configs/mnist.py
python main.py --mode=summary --config=configs/cifar10.py --target=v5e:2x4
"""

from absl import flags

from dcgan_jax.command_line import shared
from dcgan_jax.errors import InputError
from dcgan_jax.trained.targets import names


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_config(into)
  shared.define_workdir(into, 'Folder of a run or generator, whose config is used without --config.')
  flags.DEFINE_string(
    'target',
    None,
    'Machine to compile the train step for, without running it: cpu, h100, h100:8, v5e:2x4, v6e:4x4, '
    'v5p:2x2x1 ...; by default the devices of this machine.',
    flag_values=into,
  )
  shared.define_num(
    into, None, 'Size of the data set, for --target; by default that of the data on this machine.'
  )


def run(values: flags.FlagValues) -> None:
  """Prints the summary."""
  chosen = shared.chosen_settings(values)
  if values.target is None:
    if values.num is not None:
      raise InputError(f'--num={values.num}: is given without --target')
    from dcgan_jax.trained.analysis import summary

    return summary.run(chosen)
  target = names.parse(values.target)
  from dcgan_jax.trained.targets import report
  from dcgan_jax.training import rounds

  report.run(chosen, target, values.num, rounds.most_steps(chosen, target.platform))
