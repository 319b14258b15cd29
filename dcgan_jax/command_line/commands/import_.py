"""Imports weights trained elsewhere, as a run at step 0 that works with every mode.

python main.py --mode=import --format=pytorch --source=netG.pth,netD.pth --workdir=runs/theirs
python main.py --mode=import --format=newmu --source=FOLDER --workdir=runs/svhn_authors
"""

from absl import flags

from dcgan_jax.command_line import shared

PRESETS = {'pytorch': 'cifar10', 'newmu': 'svhn'}  # config of the most common model of each format


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_config(into)
  shared.define_workdir(into, 'Folder of the new run; by default runs/NAME for configs/NAME.py.')
  flags.DEFINE_enum(
    'format',
    None,
    list(PRESETS),
    'Format of the weights: a PyTorch DCGAN, or newmu for those of the authors of the paper.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'source',
    None,
    "PATH of a generator's file, or PATH,PATH with its discriminator's; for newmu a folder.",
    flag_values=into,
  )


def run(values: flags.FlagValues) -> None:
  """Imports the weights."""
  name = PRESETS[shared.required(values, 'import', 'format')]
  chosen = shared.preset(name) if values.config is None else shared.chosen_settings(values)
  folder, source = shared.folder(values), shared.required(values, 'import', 'source')
  from dcgan_jax.trained.interop import importing

  importing.run(chosen, folder, values.format, source)
