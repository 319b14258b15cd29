"""Scores a trained generator or given images against the data of a run.

python main.py --mode=evaluate --workdir=runs/mnist
python main.py --mode=evaluate --workdir=runs/cifar10 --features=inception --download
python main.py --mode=evaluate --workdir=runs/mnist --images=PATH
"""

from absl import flags

from dcgan_jax.command_line import processes, shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(into, 10_000, 'Number of images.')
  shared.define_seed(into)
  flags.DEFINE_enum(
    'features',
    'classifier',
    ['classifier', 'inception'],
    'Features of a small classifier, trained on the data first (on its rotations, if it has no classes), or '
    'of Inception-v3, for FID.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'weights', None, 'File of Inception-v3 weights; by default the one in the cache.', flag_values=into
  )
  flags.DEFINE_bool(
    'download', False, 'Download that file, 96 MB, from its public release.', flag_values=into
  )
  flags.DEFINE_enum(
    'resizer',
    'tf1',
    ['tf1', 'pytorch'],
    'Resizing for Inception-v3: tf1 as in torch-fidelity, pytorch as in pytorch-fid.',
    flag_values=into,
  )
  shared.define_statistics(into)
  flags.DEFINE_string(
    'data',
    None,
    "Real images to compare with, as data.source; by default the run's, or those a generator was trained on.",
    flag_values=into,
  )
  shared.define_images(into, 'Images to score instead of generated ones')
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Scores the generator or the images."""
  folder = shared.folder(values)

  def evaluate() -> None:
    shared.check_run(folder)
    from dcgan_jax.evaluation import evaluate, extractors

    chosen = extractors.Chosen(values.features, values.weights, values.download, values.resizer)
    images = (values.images, values.statistics, values.data)
    evaluate.run(folder, values.num, values.seed, values.checkpoint, chosen, *images)

  processes.run_together(values, evaluate)
