"""Trains DCGANs and uses them.

python main.py --config=configs/digits.py
python main.py --mode=sample --workdir=runs/digits --num=64 --out=digits.png
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dcgan_jax.commands import cluster, validation, workdir
from dcgan_jax.errors import InputError

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'train, summary, import: a file of configs/; --config.KEY=VALUE changes one of its keys.'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; default runs/NAME for configs/NAME.py.')
ALLOW_CHANGE = flags.DEFINE_bool(
  'allow_config_change', False, 'train: go on with a run that was started with other hyper-parameters.'
)
PROFILE = flags.DEFINE_bool('profile', False, 'train: write a trace of ten steps to WORKDIR/profile.')
NUM = flags.DEFINE_integer(
  'num',
  None,
  'sample, evaluate, probe, forget: number of images; default 64, 10,000, all, 2,000. walk: on the sheet, '
  'default 64, or among which the exemplars of a class are sought, default 1,000.',
  lower_bound=1,
)
SEED = flags.DEFINE_integer(
  'seed', 0, 'sample, walk, evaluate, forget: of the latents.', lower_bound=0, upper_bound=2**32 - 1
)
OUT = flags.DEFINE_string(
  'out',
  None,
  'sample: a .png for a grid, an .npz for an array, or a folder; default samples.png. walk: a .png, or a '
  '.gif for a loop; default walk.png, sheet.png, arithmetic.png or turn.png.',
)
LATENTS = flags.DEFINE_string('latents', None, 'sample: .npy of latents [N, z_size], instead of random ones.')
STATISTICS = flags.DEFINE_enum(
  'statistics', 'stored', ['stored', 'batch'], 'sample: batch-norm statistics, of training or of the samples.'
)
CHECKPOINT = flags.DEFINE_string(
  'checkpoint', 'last', 'sample, walk, evaluate, probe, forget: last, best (by score) or a step.'
)
SHEET = flags.DEFINE_bool('sheet', False, 'walk: only show the images of the seed, with their numbers.')
POINTS = flags.DEFINE_string(
  'points',
  None,
  'walk: the images to walk through, and back to the first: their numbers, default 0,1,2,3,4,5,6,7,8; or a '
  'class, by its name, or by class:NAME where that is a number, for those a classifier is surest of. The '
  'flags below take the same. With --turn_to: the images to turn, default the first 8.',
)
PATH = flags.DEFINE_enum(
  'path', None, ['spherical', 'linear'], 'walk: between images; default spherical, linear if z is uniform.'
)
PLUS = flags.DEFINE_string(
  'plus', None, 'walk: some images, three in the paper: show mean(plus) - mean(minus) + mean(plus2).'
)
MINUS = flags.DEFINE_string('minus', None, 'walk: with --plus.')
PLUS2 = flags.DEFINE_string('plus2', None, 'walk: with --plus.')
TURN_FROM = flags.DEFINE_string(
  'turn_from', None, 'walk: some images, four in the paper: add parts of mean(turn_to) - mean(turn_from).'
)
TURN_TO = flags.DEFINE_string('turn_to', None, 'walk: with --turn_from.')
FEATURES = flags.DEFINE_enum(
  'features',
  'classifier',
  ['classifier', 'inception'],
  'evaluate: of a small network that learns the classes of the data first, or of Inception-v3, for FID.',
)
WEIGHTS = flags.DEFINE_string('weights', None, 'evaluate: file of Inception-v3; default that in the cache.')
DOWNLOAD = flags.DEFINE_bool('download', False, 'evaluate: get that file, 96 MB, from its public release.')
RESIZER = flags.DEFINE_enum(
  'resizer', 'tf1', ['tf1', 'pytorch'], 'evaluate: for Inception-v3, as torch-fidelity or as pytorch-fid.'
)
IMAGES = flags.DEFINE_string('images', None, 'evaluate: a folder or an .npz, instead of generated images.')
FORMAT = flags.DEFINE_enum(
  'format', None, ['pytorch', 'newmu'], "import: of the weights, a PyTorch DCGAN's or the paper's authors'."
)
SOURCE = flags.DEFINE_string(
  'source', None, "import: PATH of a generator's file or PATH,PATH with its discriminator's; newmu: a folder."
)
DATA = flags.DEFINE_string(
  'data', None, "probe: tfds:NAME or folder:PATH of labelled images, instead of the run's own."
)
CLASS = flags.DEFINE_string('class', None, 'forget: name of the class.')
DROP = flags.DEFINE_integer(
  'drop', None, "forget: number of maps; default all of positive weight, the paper's choice.", lower_bound=1
)
LAYER = flags.DEFINE_integer(
  'layer', None, "forget: hidden layer of G, 0 the dense one; default the last but one, the paper's."
)
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', None, 'Join the other processes of the run that the cluster knows; default: by environment.'
)
COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, where no cluster tells it.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'With --coordinator: how many there are.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'With --coordinator: which one this is, from 0.')

MODES: dict[str, Callable[[], None]] = {
  'train': lambda: _run_together('train', _config(), _workdir(), ALLOW_CHANGE.value, PROFILE.value),
  'summary': lambda: _run('summary', _config()),
  'sample': lambda: _run_together(
    'sample',
    _workdir(),
    NUM.value or 64,
    SEED.value,
    OUT.value or 'samples.png',
    LATENTS.value,
    STATISTICS.value,
    CHECKPOINT.value,
  ),
  'evaluate': lambda: _run_together(
    'evaluate',
    _workdir(),
    NUM.value or 10_000,
    SEED.value,
    CHECKPOINT.value,
    FEATURES.value,
    WEIGHTS.value,
    DOWNLOAD.value,
    RESIZER.value,
    IMAGES.value,
  ),
  'walk': lambda: _run_together(
    'walk',
    _workdir(),
    NUM.value,
    SEED.value,
    CHECKPOINT.value,
    OUT.value,
    SHEET.value,
    PATH.value,
    {flag.name: flag.value for flag in (POINTS, PLUS, MINUS, PLUS2, TURN_FROM, TURN_TO)},
  ),
  'probe': lambda: _run('probe', _workdir(), NUM.value, CHECKPOINT.value, DATA.value),
  'forget': lambda: _run(
    'forget',
    _workdir(),
    NUM.value or 2000,
    SEED.value,
    CHECKPOINT.value,
    CLASS.value,
    LAYER.value,
    DROP.value,
  ),
  'import': lambda: _run(
    'import_weights', _import_config(), _workdir(), FORMAT.value, _required('source', SOURCE.value)
  ),
}
MODE = flags.DEFINE_enum('mode', 'train', list(MODES), 'What to do.')


def _run(verb: str, *arguments: Any) -> None:
  """Imports a verb when its arguments are known to be good: an error need not wait for JAX."""
  importlib.import_module(f'dcgan_jax.commands.{verb}').run(*arguments)


def _run_together(verb: str, *arguments: Any) -> None:
  """The same in each process of the run, where there are several."""
  processes = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  if not cluster.is_one_of_many(DISTRIBUTED.value, *processes):
    return _run(verb, *arguments)
  distributed = importlib.import_module('dcgan_jax.distributed')
  distributed.initialize(*processes)
  try:
    with distributed.leaving_when_others_do():
      _run(verb, *arguments)
  except InputError as error:  # maybe of this process alone
    distributed.leave(f'error: {error}', status=2)


def _config() -> ConfigDict:
  """The config of the command line or, without one, that of the run in the workdir; checked."""
  if CONFIG.value is None and WORKDIR.value is not None:
    return workdir.read_config(_workdir())
  if CONFIG.value is None:
    raise InputError(f'--config is missing: {_known_configs()}')
  validation.check(CONFIG.value)
  return CONFIG.value


def _import_config() -> ConfigDict:
  """The config of the command line or, without one, that of the most common model of the format."""
  defaults = {'pytorch': 'cifar10', 'newmu': 'svhn'}
  name = defaults[_required('format', FORMAT.value)]
  if CONFIG.value is not None:
    return _config()
  return importlib.import_module(f'configs.{name}').get_config().lock()


def _required(flag: str, value: str | None) -> str:
  if not value:
    raise InputError(f'--{flag} is missing: --mode={MODE.value} takes {flags.FLAGS[flag].help}')
  return value


def _known_configs() -> str:
  names = sorted(p.stem for p in Path(__file__).parent.glob('configs/*.py'))
  names = [name for name in names if name not in ('base', '__init__')]
  return f'choose --config=configs/NAME.py, NAME one of {", ".join(names)}'


def _workdir() -> Path:
  if WORKDIR.value:
    return Path(WORKDIR.value).expanduser()
  if CONFIG.value is None:
    raise InputError('--workdir is missing: give the folder of a run, e.g. --workdir=runs/digits')
  return Path('runs') / Path(_config_path()).stem


def _config_path() -> str:
  return config_flags.get_config_filename(flags.FLAGS['config'])


def _parse(argv: list[str]) -> None:
  """Parses flags and config; whatever is wrong with them becomes an InputError of one line."""
  for argument in argv[1:]:
    if override := re.match(r'--?(?:no)?config\.([^=]+)', argument):
      validation.check_key(override[1])
  try:
    rest = flags.FLAGS(argv)
  except Exception as error:  # absl's, or what ml_collections and the value's type make of it
    if wrong := re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL):
      validation.refuse(wrong[1], wrong[2])
    raise InputError(_one_line(error)) from error
  if len(rest) > 1:
    raise InputError(f'{rest[1]}: unexpected; every argument is a --flag=value')
  if CONFIG.value is not None:
    if not Path(_config_path()).is_file():
      raise InputError(f'--config={_config_path()}: no such file; {_known_configs()}')
    try:
      CONFIG.value.lock()  # an error in the file comes up when its config is first touched
    except Exception as error:
      raise InputError(f'--config={_config_path()}: {_one_line(error)}') from error


def _one_line(error: BaseException) -> str:
  text = str(error).strip()
  text = text.splitlines()[-1] if 'Traceback' in text else ' '.join(text.split())
  return text if isinstance(error, flags.Error) else f'{type(error).__name__}: {text}'


def main(argv: list[str]) -> int:
  """Returns the exit status."""
  if any(re.fullmatch('--?(help|helpshort|helpfull)', a) for a in argv):
    print(__doc__ + flags.FLAGS.main_module_help())
    return 0
  try:
    _parse(argv)
    MODES[MODE.value]()
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130
  return 0


def _ask_for_huge_pages() -> None:
  """Linux: memory in pages of 2 MiB, which takes a tenth off a train step on CPU.

  XLA's buffers are new to the process in every step, and small pages are mapped one by one: 0.44 s for a step
  of `cifar10_32` become 0.39 s. glibc reads this setting only when a process starts, so this one starts
  itself again, under the same number. A user's own GLIBC_TUNABLES are left alone.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)


if __name__ == '__main__':
  _ask_for_huge_pages()
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  sys.exit(main(sys.argv))
