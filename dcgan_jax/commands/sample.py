"""Makes images with a trained generator: a grid, a folder of files or an array.

python main.py --mode=sample --workdir=runs/mnist --num=64 --seed=1 --out=grid.png
python main.py --mode=sample --workdir=runs/mnist --num=10000 --out=images.npz
python main.py --mode=sample --workdir=runs/mnist --latents=z.npy --checkpoint=best --out=pictures
"""

from absl import flags

from dcgan_jax.command_line import processes, shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(into, 64, 'How many images.')
  shared.define_seed(into)
  flags.DEFINE_string(
    'out',
    'samples.png',
    'A .png for a grid, an .npz for an array, or a folder for one .png each.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'latents', None, 'An .npy of latents [N, z_size], instead of random ones.', flag_values=into
  )
  flags.DEFINE_enum(
    'statistics',
    'stored',
    ['stored', 'batch'],
    'Batch-norm statistics: those of training, or those of the samples.',
    flag_values=into,
  )
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Makes images."""
  folder = shared.folder(values)

  def sample() -> None:
    from dcgan_jax import sampling

    sampling.run(
      folder, values.num, values.seed, values.out, values.latents, values.statistics, values.checkpoint
    )

  processes.run_together(values, sample)
