"""Writes a trained network for other programs: ONNX, StableHLO, safetensors or PyTorch.

python main.py --mode=export --format=onnx --workdir=runs/mnist --out=mnist.onnx
python main.py --mode=export --format=pytorch --workdir=runs/cifar10 --out=FOLDER
python main.py --mode=export --format=safetensors --workdir=runs/mnist --network=discriminator
"""

from absl import flags

from dcgan_jax.command_line import shared


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  flags.DEFINE_enum(
    'format',
    None,
    ['onnx', 'stablehlo', 'safetensors', 'pytorch'],
    "for ONNX's runtimes, for JAX alone, for the modules of this project or for PyTorch's DCGAN example.",
    flag_values=into,
  )
  flags.DEFINE_string(
    'out',
    None,
    'A file, whose name ends in .onnx, .stablehlo, .safetensors or .pth; for pytorch also a folder, for '
    'netG.pth and netD.pth. By default generator.onnx and the like.',
    flag_values=into,
  )
  flags.DEFINE_enum(
    'network',
    None,
    ['generator', 'discriminator'],
    'Which one; by default the generator, and both if --out is a folder.',
    flag_values=into,
  )
  flags.DEFINE_enum(
    'statistics',
    None,
    ['stored', 'population'],
    "G's batch-norm statistics, of training or of 10,000 latents. By default the run says.",
    flag_values=into,
  )


def run(values: flags.FlagValues) -> None:
  """Exports."""
  folder, file_format = shared.folder(values), shared.required(values, 'export', 'format')
  from dcgan_jax.interop import exporting

  asked = exporting.Asked(file_format, values.out, values.network, values.statistics)
  exporting.run(folder, values.checkpoint, asked)
