"""Reads the workdir of a run. Damaged files become notes, and the rest is read all the same.

Importing this module does not import JAX.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dcgan_jax import files, settings
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation.scores import DISTANCE
from dcgan_jax.records import collapse, metrics, versions, workdir
from dcgan_jax.settings import Settings

Row = Mapping[str, Any]
Found = TypeVar('Found')

EVALUATIONS = ('evaluation.json', 'evaluation_inception.json')


class Event(NamedTuple):
  """An event at a step of a run, in words."""

  step: int
  text: str


class Evaluation(NamedTuple):
  """The result of `--mode=evaluate`.

  Attributes:
    step: Step of the generator; None for images from elsewhere.
    checkpoint: How that was chosen: 'last', 'best', a step, or '' if it is unknown.
    images: Images that were scored and those that they were compared with, in words.
    about: Features, in words.
    protocol: Protocol; only scores with the same one can be compared.
    scores: Scores by name.
    classes: Shares of the classes; [] if they are not known.
    missing: Names of the classes with hardly any images.
  """

  step: int | None
  checkpoint: str
  images: str
  about: str
  protocol: str
  scores: dict[str, float]
  classes: list['Share']
  missing: list[str]


class Share(NamedTuple):
  """Share of a class.

  Attributes:
    name: Name of the class.
    generated: Its share in the generated images.
    data: Its share in the data.
    agreement: Share of it in the images that G was asked for it; None if G was not asked.
  """

  name: str
  generated: float
  data: float
  agreement: float | None


@dataclass(frozen=True)
class Run:
  """The content of a workdir.

  Attributes:
    folder: the workdir.
    settings: of the run; None if its config is damaged.
    rows: of metrics, in the order of their steps.
    pictures: of samples, by step.
    evaluations: of `--mode=evaluate`.
    classes: names of those that the networks are told.
    versions: versions and devices that it was trained with, {} if unknown.
    checkpoints: their steps.
    notes: a line for each thing that is damaged.
    origin: checkpoint that the networks were initialised from; '' for random initialisation.
  """

  folder: Path
  settings: Settings | None
  rows: Sequence[Row]
  pictures: dict[int, Path]
  evaluations: list[Evaluation]
  classes: tuple[str, ...]
  versions: dict[str, str]
  checkpoints: list[int]
  notes: list[str]
  origin: str = ''

  @property
  def step(self) -> int | None:
    """The last step that anything in the workdir is of; None if nothing is."""
    steps = [*self.pictures, *(row['step'] for row in self.rows[-1:]), *self.checkpoints]
    return max(steps, default=None)

  @property
  def distance(self) -> str | None:
    """Name of the score that ranks the checkpoints; None if the run was never scored."""
    scored = (name for row in reversed(self.rows) for name in DISTANCE.values() if name in row)
    return next(scored, None)

  @functools.cached_property
  def scored(self) -> list[Row]:
    """Rows of scores with the protocol of the last of them."""
    distance = self.distance
    found = metrics.comparable(self.rows, distance) if distance else []
    return [row for row in found if distance and math.isfinite(row[distance])]

  @functools.cached_property
  def best(self) -> Row | None:
    """Row with the best score; None if there is none."""
    distance = self.distance or ''
    return min(self.scored, key=lambda row: (row[distance], row['step']), default=None)

  @property
  def protocol(self) -> str:
    """Data and protocol of the scores shown; '' if there are none, or the protocol is unknown."""
    evaluated = [evaluation.protocol for evaluation in self.evaluations]
    how = str(self.best.get('protocol', '')) if self.best else ''.join(evaluated[:1])
    return self.with_data(how)

  def with_data(self, protocol: str) -> str:
    """Returns a protocol with the data before it; '' for none."""
    source = self.values.get('data.source')
    return f'{source}: {protocol}' if source and protocol else protocol

  @property
  def values(self) -> dict[str, Any]:
    """Settings by dotted key, {} if they are damaged."""
    return settings.flat(dataclasses.asdict(self.settings)) if self.settings else {}

  @property
  def recipe(self) -> dict[str, Any]:
    """Settings by dotted key, and `--init_from` if the run began with other networks."""
    return self.values | ({'--init_from': self.origin} if self.origin else {})

  @functools.cached_property
  def events(self) -> list[Event]:
    """Signs of collapse, at the steps at which training reported them."""
    return sorted(warnings_of(self.rows, self.distance, self.settings))


def read(folder: Path) -> Run:
  """Reads a workdir.

  Raises:
    InputError: There is no run in it.
  """
  named = ('config.json', 'metrics.jsonl', 'samples', 'checkpoints')
  if not any((folder / name).exists() for name in named):
    raise InputError(f'workdir={folder}: no run here (no config.json); train one there first')
  notes: list[str] = []

  def attempt(function: Callable[[], Found], otherwise: Found) -> Found:
    try:
      return function()
    except InputError as error:
      notes.append(str(error))
      return otherwise

  found = [attempt(lambda name=name: _evaluation(folder / name), None) for name in EVALUATIONS]  # type: ignore[misc]
  return Run(
    folder=folder,
    settings=attempt(lambda: workdir.read_settings(folder), None),
    rows=attempt(lambda: metrics.read(folder / 'metrics.jsonl'), []),
    pictures=_pictures(folder),
    evaluations=[evaluation for evaluation in found if evaluation],
    classes=attempt(lambda: workdir.read_classes(folder), ()),
    versions=attempt(lambda: versions.read(folder), {}),
    checkpoints=attempt(lambda: workdir.steps(folder / 'checkpoints'), []),
    notes=notes,
    origin=str(attempt(lambda: workdir.read_origin(folder), None) or ''),
  )


def names(folders: Sequence[Path]) -> list[str]:
  """Returns the shortest ends of the paths that differ: 'run', or 'a/run' and 'b/run'."""
  parts = [folder.resolve().parts for folder in folders]
  for count in range(1, max(map(len, parts)) + 1):
    ends = ['/'.join(path[-count:]) for path in parts]
    if len(set(ends)) == len(ends):
      return ends
  return [str(folder) for folder in folders]


def warnings_of(rows: Sequence[Row], distance: str | None, settings: Settings | None = None) -> list[Event]:
  """Returns each sign of collapse at the step at which training reports it.

  Args:
    rows: Rows of metrics.
    distance: Name of the score that ranks checkpoints; None if there are no scores.
    settings: The run's settings; None if they are damaged.
  """
  events: list[Event] = []
  watch, before = collapse.Watch(distance, settings=settings), collapse.Signs()
  for row in rows:
    signs = watch.add(row)
    events += [Event(row['step'], signs[name]) for name in sorted(signs.keys() - before.keys())]
    before = signs
  return events


def _pictures(folder: Path) -> dict[int, Path]:
  """Returns the pictures of samples by step."""
  numbered = ((path.stem.removeprefix('step_'), path) for path in workdir.samples(folder))
  return {int(number): path for number, path in numbered if number.isascii() and number.isdigit()}


def _evaluation(path: Path) -> Evaluation | None:
  """Reads a result of `--mode=evaluate`; None if there is none.

  Raises:
    InputError: The file is damaged.
  """
  if not path.exists():
    return None
  content = files.read_json(path)
  try:
    texts = [
      content['images'],
      content['against'],
      content.get('about', content['protocol']),
      content['protocol'],
    ]
    scores = {str(name): _number(value) for name, value in content['scores'].items()}
    classes = content.get('classes') or {'names': [], 'generated': [], 'data': [], 'missing': []}
    agreements = (content.get('asked') or {}).get('agreements') or [None] * len(classes['names'])
    shares = [
      Share(str(name), _number(made), _number(real), None if asked is None else _number(asked))
      for name, made, real, asked in zip(
        classes['names'], classes['generated'], classes['data'], agreements, strict=True
      )
    ]
    missing = [str(name) for name in classes['missing']]
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(f'{path}: is not what --mode=evaluate writes; evaluate the run again') from error
  images, against, about, protocol = map(str, texts)
  step = re.match(r'step (\d{1,18}) of ', images, re.ASCII)
  return Evaluation(
    step=int(step[1]) if step else None,
    checkpoint=str(content.get('checkpoint', '')),
    images=f'{content.get("num", "")} images, {images}, against {against}',
    about=about,
    protocol=protocol,
    scores=scores,
    classes=shares,
    missing=missing,
  )


def _number(value: Any) -> float:
  """Returns a finite number as a float.

  Raises:
    ValueError: The value is anything else.
  """
  if type(value) not in (int, float) or not math.isfinite(value):
    raise ValueError(value)
  return float(value)
