"""Finds the latents of given images, and scores how anomalous each image is to the generator.

python main.py --mode=project --workdir=runs/fashion32 --images=pictures --out=project
python main.py --mode=project --workdir=runs/fashion32 --images=tfds:fashion_mnist --num=16
python main.py --mode=sample --workdir=runs/fashion32 --latents=project/z.npy
"""

from absl import flags

from dcgan_jax.command_line import processes, shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_images(into, 'Images to find latents of')
  shared.define_num(into, 64, 'Maximum number of images.')
  shared.define_seed(into)
  flags.DEFINE_string(
    'class',
    None,
    'Classes of the images, comma-separated, if the run has data.classes; by default all are tried.',
    flag_values=into,
  )
  flags.DEFINE_integer(
    'steps', 200, 'Steps of gradient descent.', lower_bound=1, upper_bound=100_000, flag_values=into
  )
  flags.DEFINE_integer(
    'starts',
    4,
    'Restarts per image; the best result counts.',
    lower_bound=1,
    upper_bound=64,
    flag_values=into,
  )
  flags.DEFINE_string('out', 'project', 'Folder for the results.', flag_values=into)
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Projects the images."""
  folder, images = shared.folder(values), shared.required(values, 'project', 'images')

  def project() -> None:
    shared.check_run(folder)
    from dcgan_jax.trained.analysis import project
    from dcgan_jax.trained.analysis.inversion import Search

    search = Search(values.steps, values.starts)
    chosen = (images, values.num, values.seed, values['class'].value, search)
    project.run(folder, values.checkpoint, values.out, *chosen)

  processes.run_together(values, project)
