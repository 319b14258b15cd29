"""Walks through the latent space: interpolation, arithmetic and turns, as in the paper (section 6).

python main.py --mode=walk --workdir=runs/mnist --out=walk.gif
python main.py --mode=walk --workdir=runs/mnist --out=walk.mp4 --seconds=20 --size=1080
python main.py --mode=walk --workdir=runs/mnist --sheet --num=100
python main.py --mode=walk --workdir=runs/mnist --plus=3,8,21 --minus=4,9,33 --plus2=1,2,5
python main.py --mode=walk --workdir=runs/mnist_conditional --class=3,8 --out=classes.gif
python main.py --mode=walk --workdir=runs/fashion --turn_from=t-shirt/top --turn_to=pullover --points=dress
python main.py --mode=walk --workdir=runs/cifar10_32 --directions=sefa
python main.py --mode=walk --workdir=runs/cifar10_32 --direction=3 --out=direction.mp4
python main.py --mode=walk --workdir=runs/mnist --latents=project/z.npy --points=3,0,7
"""

from absl import flags

from dcgan_jax.command_line import processes, shared

NAMED = {
  'points': 'Images of a closed walk: their numbers, by default 0 to 8; or a class, as NAME, or class:NAME '
  'if the name is a number, for the images that a classifier is surest of. --plus, --minus, --plus2, '
  '--turn_from and --turn_to take the same. With --turn_to: images to turn, by default the first 8.',
  'plus': 'Images, three in the paper: show mean(plus) - mean(minus) + mean(plus2).',
  'minus': 'Images to subtract; with --plus.',
  'plus2': 'Images to add; with --plus.',
  'turn_from': 'Images, four in the paper: add fractions of mean(turn_to) - mean(turn_from).',
  'turn_to': 'Images to turn to; with --turn_from.',
}


def define_flags(into: flags.FlagValues) -> None:
  """Declares the flags of this mode."""
  shared.define_workdir(into)
  shared.define_checkpoint(into)
  shared.define_num(
    into,
    None,
    'Number of images on the sheet, by default 64; of directions, by default 8; or of images to search for '
    'exemplars of a class, by default 1,000.',
  )
  shared.define_seed(into)
  flags.DEFINE_string(
    'out',
    None,
    'A .png or, for a walk, a turn or a direction, a looping .gif, .webp or .mp4; by default walk.png, '
    'sheet.png and so on.',
    flag_values=into,
  )
  flags.DEFINE_bool('sheet', False, 'Only show the images of the seed, with their numbers.', flag_values=into)
  flags.DEFINE_enum(
    'path',
    None,
    ['spherical', 'linear'],
    'Interpolation between images; by default spherical, and linear if z is uniform.',
    flag_values=into,
  )
  flags.DEFINE_string(
    'class',
    None,
    'Classes to walk between, comma-separated, or all; needs a run with data.classes.',
    flag_values=into,
  )
  flags.DEFINE_enum(
    'directions',
    None,
    ['sefa', 'ganspace'],
    'Show the directions of greatest change, found without labels from the weights (sefa) or the activations '
    '(ganspace) of the first layer.',
    flag_values=into,
  )
  flags.DEFINE_integer(
    'direction',
    None,
    'Number of the direction to move images along, 1 for the strongest; by default one of sefa.',
    lower_bound=1,
    flag_values=into,
  )
  flags.DEFINE_string(
    'latents',
    None,
    'An .npy of latents [N, z_size], as written by --mode=project; image i is that of row i.',
    flag_values=into,
  )
  for name, help in NAMED.items():
    flags.DEFINE_string(name, None, help, flag_values=into)
  shared.define_pace(into, 'by default 1 second from point to point, or 4 for a turn or a direction')
  processes.define_flags(into)


def run(values: flags.FlagValues) -> None:
  """Draws the walk."""
  folder = shared.folder(values)
  pace = shared.asked_pace(values, values.out)

  def walk() -> None:
    shared.check_run(folder)
    from dcgan_jax.trained.walks import walk
    from dcgan_jax.trained.walks.request import Request

    named = {name: values[name].value for name in NAMED}
    found = (values.directions, values.direction, values.latents)
    wanted = Request(values.sheet, values.path, values['class'].value, named, pace, *found)
    walk.run(folder, values.num, values.seed, values.checkpoint, values.out, wanted)

  processes.run_together(values, walk)
