"""Trains a DCGAN, and resumes where it was stopped.

python main.py --config=configs/digits.py
python main.py --config=configs/cifar10.py --config.train.num_steps=500 --workdir=runs/short
python main.py --config=configs/cifar10_32.py --init_from=runs/other --workdir=runs/further
"""

from absl import flags

from dcgan_jax.command_line import processes, shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_config(into)
  shared.define_workdir(into, 'Folder of the run; by default runs/NAME for configs/NAME.py.')
  flags.DEFINE_bool(
    'allow_config_change',
    False,
    'Resume a run that was started with other hyper-parameters.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'init_from',
    None,
    'WORKDIR, or WORKDIR:STEP, :best or :last: run to initialise the networks from, where they fit.',
    flag_values=into,
  )
  flags.DEFINE_bool('profile', False, 'Write a profile of ten steps to WORKDIR/profile.', flag_values=into)
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Trains, and writes the report."""
  chosen, folder, origin = shared.chosen_settings(values), shared.folder(values), shared.origin(values)

  def train() -> None:
    import jax

    from dcgan_jax.devices.processes import is_main
    from dcgan_jax.trained.report import page
    from dcgan_jax.training import loop

    loop.run(chosen, folder, values.allow_config_change, values.profile, origin)
    if chosen.log.report and is_main():
      # Several processes would all have to take part in generating images.
      page.write_after_training(folder, with_images=jax.process_count() == 1)

  processes.run_together(values, train)
