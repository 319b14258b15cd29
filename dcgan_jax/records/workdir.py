"""The workdir, which is the folder of a run: its layout, settings, classes and origin.

config.json           the settings
classifier.npz        network for its scores, see `evaluation.learned`
classes.json          names of the classes and number of images of each, if the networks are conditional
init_from.json        checkpoint that the networks were initialised from, and what was taken
metrics.jsonl         rows of metrics
tensorboard/          the same as events
tracker.json          id of the run at the service `log.tracker`, whose own files are in wandb/
losses.png            plot of the losses
scores.png            plot of the scores
samples/step_N.png    grids of samples, always of the same latents
samples.gif           the same over training
evaluation.json .png  results of `--mode=evaluate`
neighbours.png        samples beside the nearest real images, also of `--mode=evaluate`
probe.json            results of `--mode=probe`; features.png
forget_CLASS.json     results of `--mode=forget`; .png
checkpoints/N/        training states
damaged/N/            checkpoints that could not be restored
rollbacks.json left/  of runs trained with the retired `train.on_collapse=rollback`
.lock .owner.json     lock and name of the process that trains here
versions.json         versions and devices of the last training
report.html           report of the run
statistics/N-*.npz    population statistics of a checkpoint's generator
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcgan_jax import files, settings
from dcgan_jax.errors import InputError
from dcgan_jax.records import hub
from dcgan_jax.settings import Settings

NO_CONFIG = (
  'has checkpoints and no config.json; copy it back from a backup, or train there with the --config of the '
  'run and --allow_config_change, which writes it anew if the checkpoints fit'
)


class Origin(NamedTuple):
  """Checkpoint of another run to initialise the networks from.

  Attributes:
    folder: Workdir of the other run.
    checkpoint: 'last', 'best' or the number of a step.
  """

  folder: Path
  checkpoint: str

  def __str__(self) -> str:
    return f'{self.folder}:{self.checkpoint}'


def samples(workdir: Path) -> list[Path]:
  """Returns the paths of a run's grids of samples, in the order of their steps."""
  return sorted((workdir / 'samples').glob('step_*.png'))


def samples_after(workdir: Path, step: int) -> list[Path]:
  """Returns the paths of a run's grids of samples of later steps than this one."""
  numbered = ((path.stem.removeprefix('step_'), path) for path in samples(workdir))
  return [path for number, path in numbered if number.isascii() and number.isdigit() and int(number) > step]


def sample(workdir: Path, step: int) -> Path:
  """Returns the path of a step's grid of samples."""
  return workdir / 'samples' / f'step_{step:08d}.png'


def check_unchanged(workdir: Path, chosen: Settings, allow_change: bool) -> None:
  """Refuses to resume a run with other hyper-parameters, unless nothing is trained there yet.

  Raises:
    InputError: The settings differ, or nothing could be saved there.
  """
  files.check_utf8(workdir)
  require_run(workdir)
  if files.exists(workdir) and not workdir.is_dir():
    raise InputError(f'workdir={workdir}: is a file; choose a folder')
  path = workdir / 'config.json'
  if files.exists(path):
    differences = settings.differences(_read(path), chosen)
    if differences and not is_trained(workdir):
      print(f'{workdir}: nothing is trained here yet; its settings are replaced: {"; ".join(differences)}')
    elif differences and not allow_change:
      raise InputError(
        f'workdir={workdir}: holds a run with other settings: {"; ".join(differences)}; '
        'choose another --workdir, or continue with the new settings by --allow_config_change'
      )
  elif steps(workdir / 'checkpoints') and not allow_change:
    raise InputError(f'workdir={workdir}: {NO_CONFIG}; or choose another --workdir')
  if _has_damaged(workdir) and not steps(workdir / 'checkpoints'):
    raise InputError(
      f'workdir={workdir}: all its checkpoints are damaged, see {workdir / "damaged"}; choose another '
      '--workdir, or remove that folder to begin anew here'
    )


def steps(checkpoints: Path) -> list[int]:
  """Returns the steps of the finished checkpoints in a folder of checkpoints, in ascending order.

  Raises:
    InputError: The folder cannot be read.
  """
  files.check_utf8(checkpoints)
  return sorted(int(name) for name in files.listed(checkpoints) if name.isascii() and name.isdigit())


def is_trained(workdir: Path) -> bool:
  """Returns whether there are checkpoints, sound or damaged."""
  return bool(steps(workdir / 'checkpoints')) or _has_damaged(workdir)


def _has_damaged(workdir: Path) -> bool:
  """Returns whether damaged checkpoints were moved aside, as N, N-again or N-scores."""
  names = files.listed(workdir / 'damaged')
  return any(name.isascii() and name.partition('-')[0].isdigit() for name in names)


def write_settings(
  workdir: Path, chosen: Settings, classes: Sequence[str] = (), counts: Sequence[int] = ()
) -> None:
  """Creates the folder and writes config.json, and classes.json if there are classes; each is atomic.

  Args:
    workdir: The folder.
    chosen: The run's settings.
    classes: Class names; () if the networks are unconditional.
    counts: Number of training images of each class; () if unknown.

  Raises:
    InputError: The folder cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / 'config.json', dataclasses.asdict(chosen))
    if classes:
      write_json(workdir / 'classes.json', {'names': list(classes), 'counts': list(counts)})
    else:  # Earlier settings with classes may have been replaced before anything was trained.
      (workdir / 'classes.json').unlink(missing_ok=True)
  except OSError as error:
    raise InputError(
      f'workdir={workdir}: cannot be written: {error.strerror}; choose another --workdir'
    ) from error


class Place:
  """The workdir of a run in training, which others may remove, rename or empty.

  Attributes:
    workdir: Path of the folder when training started.
  """

  def __init__(self, workdir: Path):
    self.workdir = workdir
    self._was = self._look()

  def check(self) -> None:
    """Refuses to continue without the folder, which nothing may re-create in its old place.

    Raises:
      InputError: It was removed, renamed or emptied, or there is another one.
    """
    try:
      is_there = self._look() == self._was
    except (FileNotFoundError, NotADirectoryError):
      is_there = False
    except OSError:  # A fault that may pass; the next save shows whether it does.
      is_there = True
    if not is_there:
      raise InputError(
        f'workdir={self.workdir}: was removed, renamed or emptied while this run trained in it, so training '
        'ends; if it was renamed, continue what was saved in it with --workdir=ITS_NEW_NAME'
      )

  def _look(self) -> tuple[int, int, bool]:
    identity = files.identity(self.workdir)
    try:
      (self.workdir / 'config.json').stat()  # `exists` takes some faults that may pass for an answer.
    except FileNotFoundError:
      return *identity, False
    return *identity, True


def require_run(workdir: Path) -> None:
  """Refuses the folder of a trained generator where only a run will do.

  Raises:
    InputError: It is one.
  """
  if hub.is_ours(workdir):
    raise InputError(
      f'workdir={workdir}: is the folder of a trained generator, not of a run; --mode=sample, walk, project, '
      f'forget, evaluate, summary and export take it, and training starts from it with another --workdir and '
      f'--init_from={workdir}'
    )


def keeping(workdir: Path) -> Path | None:
  """Returns the folder if it keeps what is found out about its generator, as a run's does; None if not."""
  return None if hub.is_ours(workdir) else workdir


def read_networks(workdir: Path) -> tuple[str, ...]:
  """Returns the networks of a run, which has both, or in the folder of a trained generator."""
  return hub.read(workdir).networks if hub.is_ours(workdir) else hub.NETWORKS


def read_classes(workdir: Path) -> tuple[str, ...]:
  """Returns the class names of a run or a trained generator; () if it is unconditional.

  Raises:
    InputError: classes.json is broken.
  """
  if hub.is_ours(workdir):
    return hub.read(workdir).classes
  path = workdir / 'classes.json'
  if not path.exists():
    return ()
  content = files.read_json(path)
  names = content.get('names') if isinstance(content, dict) else None
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise InputError(
      f'{path}: has no list "names" of class names; copy the file from the original run or a backup'
    )
  return tuple(names)


def read_class_counts(workdir: Path) -> tuple[int, ...]:
  """Returns the number of training images of each class; () if there are no classes, or it is an old run's.

  Raises:
    InputError: classes.json is broken.
  """
  if hub.is_ours(workdir):
    return hub.read(workdir).counts
  names, path = read_classes(workdir), workdir / 'classes.json'
  return hub.checked_counts(path, files.read_json(path), names) if names else ()


def write_origin(workdir: Path, origin: Origin, content: dict[str, Any]) -> None:
  """Writes init_from.json, atomically.

  Args:
    workdir: Workdir of the new run.
    origin: Checkpoint that its networks are initialised from.
    content: Further entries.

  Raises:
    InputError: It cannot be written.
  """
  path = workdir / 'init_from.json'
  try:
    write_json(path, {'workdir': str(origin.folder.resolve()), 'checkpoint': origin.checkpoint} | content)
  except OSError as error:
    raise InputError(f'{path}: cannot be written: {error.strerror}; choose another --workdir') from error


def read_origin(workdir: Path) -> Origin | None:
  """Returns the checkpoint that a run's networks were initialised from; None for random initialisation.

  Raises:
    InputError: init_from.json is broken.
  """
  path = workdir / 'init_from.json'
  if not path.exists():
    return None
  try:
    content = files.read_json(path)
    return Origin(Path(content['workdir']), str(content['checkpoint']))
  except (KeyError, TypeError) as error:
    raise InputError(f'{path}: has no "workdir" and "checkpoint"; remove it') from error


def read_average_steps(workdir: Path) -> int:
  """Returns the age, in steps, that a run's moving average started with; 0 if it was new.

  Raises:
    InputError: init_from.json is broken.
  """
  path = workdir / 'init_from.json'
  if not path.exists():
    return 0
  content = files.read_json(path)
  steps = content.get('average_steps', 0) if isinstance(content, dict) else None
  if type(steps) is not int or not 0 <= steps < 2**31:
    raise InputError(
      f'{path}: average_steps={steps!r}: must be a whole number; copy the file again from the original'
    )
  return steps


def forget_origin(workdir: Path) -> None:
  """Removes a stale init_from.json."""
  with contextlib.suppress(OSError):
    (workdir / 'init_from.json').unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
  """Writes a JSON file, atomically."""
  with files.whole(path) as part:
    part.write_text(json.dumps(content, indent=2) + '\n')


@contextlib.contextmanager
def said_if_not_written(path: Path) -> Iterator[None]:
  """Says in one line if something cannot be written, and goes on."""
  try:
    yield
  except (OSError, InputError) as error:
    reason = getattr(error, 'strerror', None) or error
    print(f'{path}: cannot be written: {reason}', file=sys.stderr, flush=True)


def read_settings(workdir: Path) -> Settings:
  """Returns the settings of a run, or of a trained generator's training.

  Raises:
    InputError: There is neither in the folder, or its config is broken.
  """
  if hub.is_ours(workdir):
    return hub.read(workdir).settings
  path = workdir / 'config.json'
  if not files.exists(path):
    if steps(workdir / 'checkpoints'):
      raise InputError(f'workdir={workdir}: {NO_CONFIG}')
    raise InputError(f'workdir={workdir}: no run here (no config.json); train one there first')
  return _read(path)


def _read(path: Path) -> Settings:
  content = files.read_json(path)
  if not isinstance(content, dict):
    raise InputError(f'{path}: is not a config: {str(content)[:40]!r}')
  try:
    return settings.from_dict(content)
  except InputError as error:
    raise InputError(f'{path}: {error}') from error
