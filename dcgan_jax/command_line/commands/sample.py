"""Samples images from a trained generator: a grid, a folder of files or an array.

python main.py --mode=sample --workdir=runs/mnist --num=64 --seed=1 --out=grid.png
python main.py --mode=sample --workdir=runs/mnist --num=10000 --out=images.npz
python main.py --mode=sample --workdir=runs/mnist --latents=z.npy --checkpoint=best --out=pictures
python main.py --mode=sample --workdir=runs/mnist_conditional --class=3,8 --num=10 --out=rows.png
"""

from absl import flags

from dcgan_jax.command_line import processes, shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(into, None, 'Number of images, by default 64; with --class, per class, by default 8.')
  shared.define_seed(into)
  flags.DEFINE_string(
    'out',
    'samples.png',
    'A .png for a grid, an .npy or .npz for an array, or a folder for one .png per image.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'latents', None, 'An .npy of latents [N, z_size]; by default random ones.', flag_values=into
  )
  flags.DEFINE_string(
    'class',
    None,
    'A class, several, comma-separated, or all, each a row of the grid; needs a run with data.classes.',
    flag_values=into,
  )
  shared.define_statistics(into)
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Samples the images."""
  folder = shared.folder(values)

  def sample() -> None:
    shared.check_run(folder)
    from dcgan_jax.runs import sampling

    chosen = (values.num, values.seed, values.latents, values['class'].value, values.statistics)
    sampling.run(folder, values.checkpoint, values.out, *chosen)

  processes.run_together(values, sample)
