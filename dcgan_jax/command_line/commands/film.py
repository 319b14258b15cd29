"""Makes a film of a run's training: its fixed latents, step by step.

python main.py --mode=film --workdir=runs/mnist --out=film.mp4
python main.py --mode=film --workdir=runs/mnist --out=film.webp --seconds=6 --size=480
"""

from absl import flags

from dcgan_jax.command_line import shared
from dcgan_jax.records import workdir


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into, 'Folder of the run, which may still be training.')
  flags.DEFINE_string(
    'out', 'film.webp', 'A .webp, a .gif or, with the extra `video`, an .mp4.', flag_values=into
  )
  shared.define_pace(into, 'by default 10')


def run(values: flags.FlagValues) -> None:
  """Makes the film."""
  folder = shared.folder(values)
  workdir.require_run(folder)
  pace = shared.asked_pace(values, values.out)
  from dcgan_jax.trained import films

  films.run(folder, values.out, pace)
