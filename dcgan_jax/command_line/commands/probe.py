"""Tests the features of the discriminator with a linear classifier (paper, section 5).

python main.py --mode=probe --workdir=runs/mnist
python main.py --mode=probe --workdir=runs/svhn_authors --data=tfds:cifar10 --num=20000
"""

from absl import flags

from dcgan_jax.command_line import shared
from dcgan_jax.records import workdir


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into, 'Folder of the run.')
  shared.define_checkpoint(into)
  shared.define_num(into, None, 'Number of training images, and of test images; by default all.')
  flags.DEFINE_string(
    'data', None, 'Labelled images, tfds:NAME or folder:PATH; by default those of the run.', flag_values=into
  )


def run(values: flags.FlagValues) -> None:
  """Probes the discriminator."""
  folder = shared.folder(values)
  workdir.require_run(folder)
  shared.check_run(folder)
  from dcgan_jax.trained.analysis import probe

  probe.run(folder, values.num, values.checkpoint, values.data)
