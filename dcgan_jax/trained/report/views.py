"""The content of a page for each run, ready for the templates. What cannot be shown becomes a note."""

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from dcgan_jax import settings
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation.scores import DISTANCE
from dcgan_jax.media import pictures
from dcgan_jax.records import versions
from dcgan_jax.trained.report import charts, configs, images, scales, tables
from dcgan_jax.trained.report.charts import Chart
from dcgan_jax.trained.report.configs import Difference
from dcgan_jax.trained.report.groups import Group
from dcgan_jax.trained.report.images import Picture
from dcgan_jax.trained.report.runs import Event, Run, Share

if TYPE_CHECKING:  # It takes JAX.
  from dcgan_jax.runs.sampling import Sampler
  from dcgan_jax.trained.report.networks import Network

Found = TypeVar('Found')
KB = 1000
# Maximum bytes of pictures. In the page they are a third larger, and the page stays below 5 MB.
ROOM = {'grid': 550 * KB, 'frames': 1400 * KB, 'walk': 500 * KB, 'neighbours': 250 * KB}
MOST_CLASSES = 40  # rows of the table of classes


class Tile(NamedTuple):
  """A number at the head of a page: its label, the number and a few words about it."""

  label: str
  value: str
  about: str = ''


class Grid(NamedTuple):
  """A grid of samples: its picture, its title, and the names of its rows or ()."""

  picture: Picture
  title: str
  rows: tuple[str, ...]


class Loop(NamedTuple):
  """A walk: one picture of `points` rows of `frames` images, and the step of the generator."""

  picture: Picture
  points: int
  frames: int
  step: int


class Setting(NamedTuple):
  """A row of the table of settings."""

  key: str
  values: tuple[str, ...]
  help: str


@dataclass(frozen=True)
class View:
  """The content of a page for a run. Empty parts are left out.

  Attributes:
    run: The run.
    name: Its name.
    lead: A sentence about it.
    tiles: Numbers at the head.
    grids: Grids of samples, the last and the best.
    events: Signs of collapse.
    notes: Notes on damaged files.
    frames: [step, address] of the pictures over training.
    walk: Latent walk.
    charts: Charts of the metrics.
    shares: Shares of the classes in generated images.
    neighbours: Images beside the nearest real ones.
    networks: Layers of the networks.
    preset: Name of the preset with the nearest settings.
    differences: Settings that differ from the preset's.
    settings: All settings.
    command: Command that trains the run again, in parts.
  """

  run: Run
  name: str
  lead: str
  tiles: list[Tile]
  grids: list[Grid]
  events: list[Event]
  notes: list[str]
  frames: list[tuple[int, str]] = field(default_factory=list)
  walk: Loop | None = None
  charts: list[Chart] = field(default_factory=list)
  shares: list[Share] = field(default_factory=list)
  neighbours: Picture | None = None
  networks: 'list[Network]' = field(default_factory=list)
  preset: str = ''
  differences: list[Setting] = field(default_factory=list)
  settings: dict[str, str] = field(default_factory=dict)
  command: list[str] = field(default_factory=list)


class _Attempts:
  """Calls functions, and collects errors as notes."""

  def __init__(self, notes: Sequence[str]):
    self.notes = list(notes)

  def __call__(self, function: Callable[[], Found], otherwise: Found) -> Found:
    """Returns the function's result, or `otherwise` where a file is damaged."""
    try:
      return function()
    except InputError as error:
      self.notes.append(str(error))
      return otherwise


def view(run: Run, name: str, with_images: bool = True) -> View:
  """Returns the content of a page of one run.

  Args:
    run: Content of its workdir.
    name: Name of the run.
    with_images: Whether to make images with its generator.
  """
  attempt = _Attempts(run.notes)
  grids = _grids(run, attempt)
  frames = _frames(run, attempt)
  sampler = _sampler(run, attempt) if with_images else None
  if sampler and not grids:
    grids = [_drawn(run, sampler, ROOM['grid'])]
  preset, differences, command = _compared(run)
  return View(
    run=run,
    name=name,
    lead=_lead(run),
    tiles=tiles(run),
    grids=grids,
    frames=frames,
    walk=_loop(sampler, run.settings.seed) if sampler and run.settings else None,
    charts=charts.of_one(run),
    events=run.events,
    shares=_shares(run),
    neighbours=attempt(lambda: _embed(run, run.folder / 'neighbours.png', ROOM['neighbours']), None),
    networks=_tables(run),
    preset=preset,
    differences=differences,
    settings={key: configs.text(value) for key, value in run.values.items()},
    command=command,
    notes=attempt.notes,
  )


def views_to_compare(runs: Sequence[Run], names: Sequence[str]) -> list[View]:
  """Returns the content of a page that compares runs, without the charts and settings that they share."""
  views = []
  for run, name in zip(runs, names):
    attempt = _Attempts(run.notes)
    room = ROOM['grid'] * 5 // len(runs)
    grids = _grids(run, attempt, room)
    if not grids and (sampler := _sampler(run, attempt)):
      grids = [_drawn(run, sampler, room)]
    views.append(View(run, name, _lead(run), tiles(run), grids[:1], run.events, attempt.notes))
  return views


def differing_settings(groups: Sequence[Group]) -> list[Setting]:
  """Returns the settings in which groups of runs differ; the seed is one if each is a single run."""
  alone = all(len(group.runs) == 1 for group in groups)
  recipes = [group.runs[0].recipe if alone else group.recipe for group in groups]
  return _explained(configs.differences(recipes))


def tiles(run: Run) -> list[Tile]:
  """Returns the main numbers of a run: steps, the scores that have a chart, and speed."""
  found = []
  if run.step is not None:
    planned = run.settings.train.num_steps if run.settings else 0
    found.append(Tile('Steps', f'{run.step:,}', f'of {planned:,}' if planned > run.step > 0 else ''))
  if best := run.best:
    about, scores = f'best, at step {best["step"]:,}', best
  elif run.evaluations:
    about, scores = 'by --mode=evaluate', run.evaluations[0].scores
  else:
    about, scores = '', {}
  for name in [name for quantity in charts.SCORES for name in quantity.labels]:
    if isinstance(scores.get(name), float | int) and math.isfinite(scores[name]):
      label = tables.capital(tables.title(name))
      found.append(Tile(label, scales.number(scores[name]), about if name in DISTANCE.values() else ''))
  if speeds := [row['images_per_second'] for row in run.rows if 'images_per_second' in row]:
    found.append(
      Tile('Images per second', f'{statistics.median(speeds):,.0f}', run.versions.get('devices', ''))
    )
  return found


def _lead(run: Run) -> str:
  """Returns a sentence about a run."""
  if not run.settings:
    return 'Its settings cannot be read.'
  data, train = run.settings.data, run.settings.train
  colour = 'gray' if data.channels == 1 else 'colour'
  classes = f' of {data.classes} classes on request' if data.classes else ''
  what = f'A generator of {data.size[0]} × {data.size[1]} {colour} images{classes}'
  if not run.rows and not run.step:
    return f'{what}, like those of {data.source}; it was not trained here.'
  steps = f'for {run.step:,} steps' if run.step is not None else 'for no step yet'
  return f'{what}, trained on {data.source} {steps} of {train.images_per_step} images.'


def _grids(run: Run, attempt: _Attempts, room: int = ROOM['grid']) -> list[Grid]:
  """Returns the last grid of samples and, if it is another, that of the best step."""
  if not run.pictures:
    return []
  last, best = max(run.pictures), run.best
  chosen = {last: f'Step {last:,}, the last'}
  if best and best['step'] in run.pictures:
    which = 'the last and the best' if best['step'] == last else 'the best'
    chosen[best['step']] = f'Step {best["step"]:,}, {which}'
  found = []
  for step, title in chosen.items():
    picture = attempt(lambda step=step: _embed(run, run.pictures[step], room), None)  # type: ignore[misc]
    if picture:
      found.append(Grid(picture, title, _row_names(run, picture)))
  return found


def _row_names(run: Run, picture: Picture) -> tuple[str, ...]:
  """Returns the names of a grid's rows if each row is of one class; else ()."""
  if not run.settings or not run.classes or picture.rows > len(run.classes):
    return ()
  columns = run.settings.sample.num // len(run.classes)
  return run.classes[: picture.rows] if picture.columns == columns > 1 else ()


def _embed(run: Run, path: Path, room: int) -> Picture | None:
  """Returns a picture of a run; None if there is none.

  Raises:
    InputError: The picture is damaged.
  """
  if not path.exists():
    return None
  return images.embed(pictures.read(path), run.settings.data.size if run.settings else None, room)


def _frames(run: Run, attempt: _Attempts) -> list[tuple[int, str]]:
  """Returns the pictures over training; [] if there are fewer than two."""
  steps = sorted(run.pictures)
  size = run.settings.data.size if run.settings else None
  made, damaged = images.frames([run.pictures[step] for step in steps], size, ROOM['frames'])
  if damaged:
    more = f', and {len(damaged) - 1} more' if len(damaged) > 1 else ''
    attempt.notes += [damaged[0] + more] if damaged[0] not in attempt.notes else []
  return [(steps[i], address) for i, address in made] if len(made) > 1 else []


def _sampler(run: Run, attempt: _Attempts) -> 'Sampler | None':
  """Returns the generator of a run's last checkpoint, None if there is none. JAX is imported here."""
  if not run.settings or not run.checkpoints:
    return None
  from dcgan_jax.data import cache
  from dcgan_jax.runs import sampling

  cache.keep_compiled_programs()
  return attempt(lambda: sampling.open_sampler(run.folder), None)


def _drawn(run: Run, sampler: 'Sampler', room: int) -> Grid:
  """Draws the grid of a run that has no picture of its own."""
  assert run.settings
  drawn = _picture_of(sampler.sheet(run.settings.sample.num, run.settings.seed))
  picture = images.embed(drawn, run.settings.data.size, room)
  return Grid(picture, f'Step {sampler.step:,}, the last checkpoint', _row_names(run, picture))


def _tables(run: Run) -> 'list[Network]':
  """Returns the layers of a run's networks. Imports JAX."""
  if not run.settings:
    return []
  from dcgan_jax.trained.report import networks

  return networks.tables(run.settings)


def _loop(sampler: 'Sampler', seed: int) -> Loop:
  """Makes a latent walk; returns its images as one picture with a row for each leg."""
  from dcgan_jax.trained.report import networks

  walk = networks.walk(sampler, seed)
  points, frames, height, width, channels = walk.images.shape
  rows = walk.images.transpose(0, 2, 1, 3, 4).reshape(points * height, frames * width, channels)
  data = images.encode(_picture_of(rows), ROOM['walk'], side=2048)
  return Loop(Picture(images.address(data), frames * width, points * height), points, frames, walk.step)


def _picture_of(pixels: np.ndarray) -> Image.Image:
  """Returns pixels, uint8 [H, W, 1 or 3], as a picture."""
  return Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)


def _shares(run: Run) -> list[Share]:
  """Returns the shares of classes in a run's images; of very many, those farthest from the data's."""
  shares = next((evaluation.classes for evaluation in run.evaluations if evaluation.classes), [])
  if len(shares) <= MOST_CLASSES:
    return shares
  return sorted(shares, key=lambda share: -abs(share.generated - share.data))[:MOST_CLASSES]


def _compared(run: Run) -> tuple[str, list[Setting], list[str]]:
  """Returns the preset nearest to a run, the differences from it, and the command to train the run again."""
  presets = settings.presets()
  if not run.settings or not presets:
    return '', [], []
  preset = configs.nearest(presets, run.values)
  differences = _explained(configs.differences([presets[preset], run.values]))
  trained = bool(run.rows or run.step)
  again = configs.command(preset, presets[preset], run.values, f'runs/{run.folder.resolve().name}')
  return preset, differences, again if trained else []


def _explained(differences: Sequence[Difference]) -> list[Setting]:
  helps = settings.helps()
  return [Setting(key, values, helps.get(key, '')) for key, values in differences]


def trained_with(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[str]]:
  """Returns the versions and devices of trainings, as far as they are known, with the names of their runs."""
  found: dict[str, list[str]] = {}
  for run, name in zip(runs, names):
    if run.versions:
      found.setdefault(_in_words(run.versions), []).append(name)
  return found


def made_with() -> str:
  """Returns the versions of this installation, in words."""
  return _in_words(versions.here())


def _in_words(versions: Mapping[str, str]) -> str:
  """Returns versions and devices in a line, with hashes cut to 12 digits."""
  short = {name: re.sub(r'^([0-9a-f]{12})[0-9a-f]{28,}', r'\1', value) for name, value in versions.items()}
  return ', '.join(f'{name} {value}' if name != 'devices' else value for name, value in short.items())
