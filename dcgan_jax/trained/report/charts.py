"""Charts of one run, or of several on the same axes, as numbers that a template draws."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.evaluation import scores
from dcgan_jax.media.plots import Axis
from dcgan_jax.records.collapse import PROBABILITIES
from dcgan_jax.trained.report import curves, scales
from dcgan_jax.trained.report.curves import Curve
from dcgan_jax.trained.report.groups import Group
from dcgan_jax.trained.report.runs import Event, Run
from dcgan_jax.trained.report.scales import Scale


class Quantity(NamedTuple):
  """Metrics that are drawn over the steps: in one chart for one run, in a chart each for several runs.

  Attributes:
    axis: Vertical axis.
    labels: Labels of the metrics by name.
    noisy: Whether their running means are drawn over the values.
    of_scores: Whether they are scores, of which only those with the last protocol are drawn.
  """

  axis: Axis
  labels: Mapping[str, str]
  noisy: bool = False
  of_scores: bool = False


LOSSES = Quantity(Axis('Loss'), {'loss_d': 'discriminator', 'loss_g': 'generator'}, noisy=True)
OUTPUTS = {'d_real': 'D(x), real images', 'd_fake': 'D(G(z)), generated'}
SCORES = tuple(Quantity(axis, labels, of_scores=True) for axis, labels in scores.charts().items())
LOGITS = Quantity(
  Axis('Mean logit of D', help='The curves part as D learns its training images by heart.'),
  {'d_training': 'training images', 'd_held_out': 'held-out images'},
  of_scores=True,
)
SPEED = Quantity(Axis('Images per second', 'count'), {'images_per_second': 'images/s'}, noisy=True)


class Tick(NamedTuple):
  """A grid line: its position in percent from the left or the top, and its number."""

  at: float
  label: str


class Mark(NamedTuple):
  """A point of a chart: its position in percent from the left and the top, its colour and its text."""

  x: float
  y: float
  colour: int
  text: str


class Source(NamedTuple):
  """Source of a curve: its name, the run or the seeds that it is the mean of, and the metric."""

  name: str
  runs: Sequence[Run]
  metric: str

  def find(self, quantity: Quantity) -> list[Curve]:
    """Returns the curves of the runs that have the metric."""
    rows = [run.scored if quantity.of_scores else run.rows for run in self.runs]
    return [curve for own in rows if len((curve := curves.find(own, self.metric)).steps)]


@dataclass(frozen=True)
class Line:
  """A curve of a chart.

  Attributes:
    name: Name in the legend.
    colour: Number of its colour.
    path: SVG path of the curve.
    faint: SVG path of the values whose running mean it is, or of each seed; '' for none.
    band: SVG path around the standard deviation of the seeds; '' for none.
    last: Last value, as text.
    curve: The points.
    deviation: Standard deviations at the same steps; None for none.
  """

  name: str
  colour: int
  path: str
  faint: str
  band: str
  last: str
  curve: Curve
  deviation: np.ndarray | None = None


@dataclass(frozen=True)
class Chart:
  """A chart for a template.

  Attributes:
    title: Title.
    help: What the numbers mean, in a sentence; '' for titles that say it.
    about: Description for screen readers.
    lines: Curves.
    x: Ticks of the steps.
    y: Ticks of the values.
    marks: Highlighted points.
    events: Positions of events of the run, in percent.
    data: Points for the script that reads numbers off.
  """

  title: str
  help: str
  about: str
  lines: list[Line]
  x: list[Tick]
  y: list[Tick]
  marks: list[Mark]
  events: list[float]
  data: dict[str, Any]


def of_one(run: Run) -> list[Chart]:
  """Returns the charts of a run."""
  made = []
  for quantity in _quantities([run]):
    sources = [Source(label, [run], name) for name, label in quantity.labels.items()]
    if chart := _draw(quantity.axis.title, sources, quantity, run.events):
      made.append(chart)
  return made


def of_several(groups: Sequence[Group]) -> list[Chart]:
  """Returns charts with a curve for each group, in the order of their colours: of its run, or the mean."""
  made = []
  for quantity in _quantities([run for group in groups for run in group.runs]):
    for metric, label in quantity.labels.items():
      sources = [Source(group.name, group.runs, metric) for group in groups]
      title = quantity.axis.title if len(quantity.labels) == 1 else label[0].upper() + label[1:]
      title = f'{quantity.axis.title}: {label}' if quantity in (LOSSES, LOGITS) else title
      if chart := _draw(title, sources, quantity):
        made.append(chart)
  return made


def _quantities(runs: Sequence[Run]) -> list[Quantity]:
  """Returns all quantities that these runs may have, in the order of the page."""
  known = all(run.settings and run.settings.train.loss in PROBABILITIES for run in runs)
  axis = Axis('Output of the discriminator', 'share' if known else 'linear')
  return [LOSSES, Quantity(axis, OUTPUTS, noisy=True), *SCORES, LOGITS, SPEED]


def _draw(
  title: str, sources: Sequence[Source], quantity: Quantity, events: Sequence[Event] = ()
) -> Chart | None:
  """Draws a curve for each source; None if there is nothing to draw."""
  found = [source.find(quantity) for source in sources]
  whole = [curve for own in found for curve in own]
  if not any(np.ptp(curve.steps) for curve in whole) or not any(curve.values.any() for curve in whole):
    return None
  smooth = [[curves.smooth(curve) if quantity.noisy else curve for curve in own] for own in found]
  steps = np.concatenate([curve.steps for curve in whole])
  x = Scale(min(0, int(steps.min())), int(steps.max()))
  y = _scale_of_values(whole, [curve for own in smooth for curve in own], quantity)
  lines, alone = [], len({run.folder for source in sources for run in source.runs}) == 1
  for i, source in enumerate(sources):
    if len(source.runs) > 1:
      lines += _line_of_seeds(source, i, smooth[i], x, y)
    elif smooth[i]:
      shown = curves.thin(smooth[i][0])
      faint = _path(curves.thin(found[i][0]), x, y) if quantity.noisy and alone else ''
      lines.append(
        Line(source.name, i, _path(shown, x, y), faint, '', scales.number(shown.values[-1]), shown)
      )
  if not lines:
    return None
  if quantity.axis.better:
    title = f'{title} ({quantity.axis.better} is better)'
  return Chart(
    title,
    quantity.axis.help,
    _in_words(title, lines, x),
    lines,
    [Tick(100 * place, scales.number(tick)) for tick, place in _placed(x, most=4)],
    [
      Tick(100 - 100 * place, scales.number(tick))
      for tick, place in _placed(y, most=5)
      if quantity.axis.scale != 'count' or tick == round(tick)
    ],
    [
      mark
      for i, source in enumerate(sources)
      for run in source.runs
      if quantity.of_scores
      for mark in _best(source, run, i, x, y)
    ],
    [float(100 * x.at([event.step])[0]) for event in events if x.low <= event.step <= x.high],
    _data(lines, x),
  )


def _line_of_seeds(source: Source, colour: int, found: Sequence[Curve], x: Scale, y: Scale) -> list[Line]:
  """Returns the line of the seeds' mean, with their deviation and each of them; [] without a common step."""
  if not found:
    return []
  mean, deviation = curves.across(found)
  if not len(mean.steps):
    return []
  shown = curves.thin(mean)
  beside = deviation.values[np.searchsorted(mean.steps, shown.steps)]
  ends = [np.clip(shown.values + sign * beside, y.low, y.high) for sign in (1, -1)]
  way = [np.concatenate([upper, lower[::-1]]) for upper, lower in ((shown.steps, shown.steps), ends)]
  name = source.name
  if len(found) < len(source.runs):
    name += f' ({len(found)} of {len(source.runs)} runs)'
  return [
    Line(
      name,
      colour,
      _path(shown, x, y),
      ''.join(_path(curves.thin(curve), x, y) for curve in found),
      _path(Curve(*way), x, y) + 'Z' if len(found) > 1 else '',
      scales.with_deviation(shown.values[-1], beside[-1] if len(found) > 1 else math.nan),
      shown,
      beside if len(found) > 1 else None,
    )
  ]


def _scale_of_values(whole: Sequence[Curve], smooth: Sequence[Curve], quantity: Quantity) -> Scale:
  """Returns the vertical axis. A few outliers may lie outside."""
  if quantity.axis.scale == 'share':
    return Scale(0, 1)
  shown = np.concatenate([curve.values for curve in smooth])
  if quantity.axis.scale == 'log':
    return scales.fitting(shown, log=True)
  if quantity.axis.scale == 'count':
    return scales.fitting([0.0, shown.max() or 1.0])
  # The first values of a run are often large and would flatten the rest.
  parts = (shown, np.concatenate([curve.values for curve in whole]))
  return scales.fitting(np.concatenate([np.quantile(part, [0.01, 0.98]) for part in parts]))


def _best(source: Source, run: Run, colour: int, x: Scale, y: Scale) -> list[Mark]:
  """Returns the mark of a run's best step, the one with the lowest distance; none without scores."""
  best, distance = run.best, run.distance
  if best is None or distance is None or source.metric not in best:
    return []
  left, up = (100 * float(scale.at([v])[0]) for scale, v in ((x, best['step']), (y, best[source.metric])))
  seed = f', seed {run.settings.seed}:' if len(source.runs) > 1 and run.settings else ''
  text = f'best step {best["step"]:,}: {source.name}{seed} {scales.number(best[source.metric])}'
  return [Mark(left, 100 - up, colour, text)]


def _placed(scale: Scale, most: int) -> list[tuple[float, float]]:
  ticks = scale.ticks(most)
  return list(zip(ticks, map(float, scale.at(ticks))))


def _path(curve: Curve, x: Scale, y: Scale) -> str:
  return scales.path(x.at(curve.steps), y.at(curve.values))


def _in_words(title: str, lines: Sequence[Line], x: Scale) -> str:
  """Describes a chart for screen readers."""
  said = [
    f'{line.name} from {scales.number(line.curve.values[0])} to {line.last}, '
    f'least {scales.number(line.curve.values.min())}, most {scales.number(line.curve.values.max())}'
    for line in lines
  ]
  return f'{title} over steps {scales.number(x.low)} to {scales.number(x.high)}: {"; ".join(said)}.'


def _data(lines: Sequence[Line], x: Scale) -> dict[str, Any]:
  """Returns the points of the curves, rounded as they are shown."""
  return {
    'low': x.low,
    'high': x.high,
    'curves': [[line.curve.steps.tolist(), *map(_rounded, _numbers(line))] for line in lines],
  }


def _numbers(line: Line) -> list[np.ndarray]:
  """Returns the values of a line and, if there are any, their deviations."""
  return [line.curve.values] + ([] if line.deviation is None else [line.deviation])


def _rounded(values: np.ndarray) -> list[float]:
  return [float(f'{value:.4g}') for value in values]
