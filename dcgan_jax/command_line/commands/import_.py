"""Imports weights that others trained, as a run of step 0 on which every mode works.

python main.py --mode=import --format=pytorch --source=netG.pth,netD.pth --workdir=runs/theirs
python main.py --mode=import --format=newmu --source=FOLDER --workdir=runs/svhn_authors
"""

from absl import flags

from dcgan_jax.command_line import shared

PRESETS = {'pytorch': 'cifar10', 'newmu': 'svhn'}  # the config of the most common model of a format


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_config(into)
  shared.define_workdir(into, 'Folder of the new run; runs/NAME for configs/NAME.py if it is not given.')
  flags.DEFINE_enum(
    'format',
    None,
    list(PRESETS),
    "of the weights, a PyTorch DCGAN's or the paper's authors'.",
    flag_values=into,
  )
  flags.DEFINE_string(
    'source',
    None,
    "PATH of a generator's file or PATH,PATH with its discriminator's; newmu: a folder.",
    flag_values=into,
  )


def run(values: flags.FlagValues) -> None:
  """Imports."""
  name = PRESETS[shared.required(values, 'import', 'format')]
  chosen = shared.preset(name) if values.config is None else shared.chosen_settings(values)
  folder, source = shared.folder(values), shared.required(values, 'import', 'source')
  from dcgan_jax.trained.interop import importing

  importing.run(chosen, folder, values.format, source)
