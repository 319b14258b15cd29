"""Exports a trained network to other programs, browsers or the Hugging Face Hub.

python main.py --mode=export --format=onnx --workdir=runs/mnist --out=mnist.onnx
python main.py --mode=export --format=pytorch --workdir=runs/cifar10 --out=FOLDER
python main.py --mode=export --format=safetensors --workdir=runs/mnist --network=discriminator
python main.py --mode=export --format=web --workdir=runs/mnist --out=FOLDER
python main.py --mode=export --format=hub --workdir=runs/mnist --out=FOLDER --license=cc-by-sa-3.0
python main.py --mode=export --format=hub --workdir=runs/mnist --out=FOLDER --dtype=float16
"""

from absl import flags

from dcgan_jax.command_line import shared
from dcgan_jax.errors import InputError


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  flags.DEFINE_enum(
    'format',
    None,
    ['onnx', 'stablehlo', 'safetensors', 'pytorch', 'web', 'hub'],
    "Target: ONNX runtimes, JAX alone, this project's modules, PyTorch's DCGAN example; web is a page that "
    'runs the generator, hub a folder with a model card for the Hugging Face Hub.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'out',
    None,
    'A file .onnx, .stablehlo, .safetensors or .pth; for pytorch also a folder for netG.pth and netD.pth; '
    'for web and hub a folder. By default generator.onnx and the like, or explorer.',
    flag_values=into,
  )
  flags.DEFINE_enum(
    'network',
    None,
    ['generator', 'discriminator'],
    'Network to export; by default the generator, and both if --out is a folder, as for hub.',
    flag_values=into,
  )
  flags.DEFINE_enum(
    'statistics',
    None,
    ['stored', 'population'],
    'Batch-norm statistics of G: stored (from training) or population (of 10,000 latents); by default the '
    "run's sample.statistics.",
    flag_values=into,
  )
  flags.DEFINE_enum(
    'dtype',
    'float32',
    ['float32', 'float16'],
    'For hub: dtype of the kernels in the file, float16 for half the size.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'license',
    None,
    'For hub: licence of the data, for the model card; a name such as cc-by-4.0, or any words.',
    flag_values=into,
  )


def run(values: flags.FlagValues) -> None:
  """Exports the network."""
  folder, file_format = shared.folder(values), shared.required(values, 'export', 'format')
  if values.license is not None and file_format != 'hub':
    raise InputError(f'license={values.license}: belongs in a model card; format={file_format} writes none')
  if values.dtype != 'float32' and file_format != 'hub':
    raise InputError(f'dtype={values.dtype}: is for format=hub; format={file_format} chooses its own')
  shared.check_run(folder)
  if file_format == 'web':
    if values.network == 'discriminator':
      raise InputError('network=discriminator: draws nothing; format=web takes the generator')
    from dcgan_jax.trained.explorer import folder as page

    return page.run(folder, values.checkpoint, values.out, values.statistics)
  if file_format == 'hub':
    out = shared.required(values, 'export', 'out')
    if values.network == 'discriminator':
      raise InputError('network=discriminator: draws nothing; format=hub takes both, or the generator')
    from dcgan_jax.trained.hub import writing

    chosen = (values.statistics, values.license, values.network, values.dtype)
    return writing.run(folder, values.checkpoint, out, *chosen)
  from dcgan_jax.trained.interop import exporting

  exporting.run(folder, values.checkpoint, file_format, values.out, values.network, values.statistics)
