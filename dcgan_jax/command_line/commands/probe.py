"""Tests what the discriminator has learned by a linear classifier of its activations (paper, section 5).

python main.py --mode=probe --workdir=runs/mnist
python main.py --mode=probe --workdir=runs/svhn --data=tfds:cifar10 --num=20000
"""

from absl import flags

from dcgan_jax.command_line import shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(into, None, 'How many images to use, and how many of the test split; by default all.')
  flags.DEFINE_string(
    'data', None, "tfds:NAME or folder:PATH of labelled images, instead of the run's own.", flag_values=into
  )


def run(values: flags.FlagValues) -> None:
  """Probes."""
  folder = shared.folder(values)
  shared.check_run(folder)
  from dcgan_jax.trained.analysis import probe

  probe.run(folder, values.num, values.checkpoint, values.data)
