"""Charts of one run, or of the curves of several over each other, as numbers that a template draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.trained.report import curves, scales
from dcgan_jax.trained.report.curves import Curve
from dcgan_jax.trained.report.runs import DISTANCES, PROBABILITIES, Event, Run
from dcgan_jax.trained.report.scales import Scale


class Quantity(NamedTuple):
  """Something that is drawn over the steps: a chart for one run, a chart for each name for several."""

  title: str
  names: dict[str, str]  # of the metrics, with what a reader calls them
  kind: str = ''  # 'share' from 0 to 1 | 'log' | 'count' from 0
  noisy: bool = False  # whether the running mean is drawn over the values
  of_scores: bool = False


LOSSES = Quantity('Loss', {'loss_d': 'discriminator', 'loss_g': 'generator'}, noisy=True)
OUTPUTS = Quantity(
  'Output of the discriminator', {'d_real': 'D(x), real images', 'd_fake': 'D(G(z)), generated'}, noisy=True
)
SHARES = Quantity(
  'Precision, recall and coverage',
  {'precision': 'precision', 'recall': 'recall', 'coverage': 'coverage'},
  'share',
  of_scores=True,
)
MISSING = Quantity('Missing classes', {'missing_classes': 'missing classes'}, 'count', of_scores=True)
AGREEMENT = Quantity('Images of the class asked for', {'agreement': 'share'}, 'share', of_scores=True)
MODES = Quantity('Modes found', {'modes': 'modes'}, 'count', of_scores=True)
SPEED = Quantity('Images per second', {'images_per_second': 'images/s'}, 'count', noisy=True)


class Tick(NamedTuple):
  """A line of the grid: its place in percent from the left or the top, and its number."""

  at: float
  label: str


class Mark(NamedTuple):
  """A point of a chart: its place in percent from the left and the top, its colour, and what it says."""

  x: float
  y: float
  colour: int
  text: str


class Source(NamedTuple):
  """Where a curve comes from: what it is called, its run, and the metric."""

  name: str
  run: Run
  metric: str


@dataclass(frozen=True)
class Line:
  """A curve of a chart.

  Attributes:
    name: in the legend.
    colour: number of its colour.
    path: of the curve.
    faint: path of the values that the curve is the running mean of; '' for none.
    last: its last value, as text.
    curve: the points.
  """

  name: str
  colour: int
  path: str
  faint: str
  last: str
  curve: Curve


@dataclass(frozen=True)
class Chart:
  """A chart as a template draws it.

  Attributes:
    title: above it.
    about: the same in words, for those who do not see it.
    lines: its curves.
    x: ticks of the steps.
    y: ticks of the values.
    marks: points that stand out.
    events: places in percent of what happened to the run.
    data: what a script needs to read numbers off.
  """

  title: str
  about: str
  lines: list[Line]
  x: list[Tick]
  y: list[Tick]
  marks: list[Mark]
  events: list[float]
  data: dict[str, Any]


def of_run(run: Run) -> list[Chart]:
  """Returns the charts of a run."""
  made = []
  for quantity in _quantities([run]):
    sources = [Source(label, run, name) for name, label in quantity.names.items()]
    if chart := _draw(quantity.title, sources, quantity, run.events):
      made.append(chart)
  return made


def of_runs(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
  """Returns charts with a curve for each run, in the order of their colours."""
  made = []
  for quantity in _quantities(runs):
    for metric, label in quantity.names.items():
      sources = [Source(name, run, metric) for run, name in zip(runs, names)]
      title = quantity.title if len(quantity.names) == 1 else label[0].upper() + label[1:]
      title = f'{quantity.title}: {label}' if quantity is LOSSES else title
      if chart := _draw(title, sources, quantity):
        made.append(chart)
  return made


def _quantities(runs: Sequence[Run]) -> list[Quantity]:
  """Returns what there may be to draw of these runs, in the order of the page."""
  known = all(run.settings and run.settings.train.loss in PROBABILITIES for run in runs)
  distances = [
    Quantity(label, {name: label}, 'log', of_scores=True)
    for name, label in DISTANCES.items()
    if name in {run.distance for run in runs}
  ]
  outputs = OUTPUTS._replace(kind='share') if known else OUTPUTS
  return [LOSSES, outputs, *distances, SHARES, MISSING, AGREEMENT, MODES, SPEED]


def _draw(
  title: str, sources: Sequence[Source], quantity: Quantity, events: Sequence[Event] = ()
) -> Chart | None:
  """Draws a curve for each source; None if there is nothing to draw."""
  whole = [curves.find(it.run.scored if quantity.of_scores else it.run.rows, it.metric) for it in sources]
  spread = any(len(curve.steps) and np.ptp(curve.steps) for curve in whole)
  if not spread or not any(curve.values.any() for curve in whole):
    return None
  smooth = [curves.smooth(curve) if quantity.noisy else curve for curve in whole]
  steps = np.concatenate([curve.steps for curve in whole])
  x, y = Scale(min(0, int(steps.min())), int(steps.max())), _scale_of_values(whole, smooth, quantity)
  lines, alone = [], len({it.run.folder for it in sources}) == 1
  for i, source in enumerate(sources):
    if len(whole[i].steps):
      shown = curves.thin(smooth[i])
      faint = _path(curves.thin(whole[i]), x, y) if quantity.noisy and alone else ''
      lines.append(Line(source.name, i, _path(shown, x, y), faint, scales.number(shown.values[-1]), shown))
  ranked = quantity is SHARES or quantity.kind == 'log'
  return Chart(
    title,
    _in_words(title, lines, x),
    lines,
    [Tick(100 * place, scales.number(tick)) for tick, place in _placed(x, most=4)],
    [
      Tick(100 - 100 * place, scales.number(tick))
      for tick, place in _placed(y, most=5)
      if quantity.kind != 'count' or tick == round(tick)
    ],
    [mark for i, it in enumerate(sources) if ranked for mark in _best(it, i, x, y)],
    [float(100 * x.at([event.step])[0]) for event in events if x.low <= event.step <= x.high],
    _data(lines, x),
  )


def _scale_of_values(whole: Sequence[Curve], smooth: Sequence[Curve], quantity: Quantity) -> Scale:
  """Returns the vertical axis. A few values that are far from all others may be outside."""
  if quantity.kind == 'share':
    return Scale(0, 1)
  shown = np.concatenate([curve.values for curve in smooth])
  if quantity.kind == 'log':
    return scales.fitting(shown, log=True)
  if quantity.kind == 'count':
    return scales.fitting([0.0, shown.max() or 1.0])
  # The first values of a run are often large, and would press the rest into a line.
  parts = (shown, np.concatenate([curve.values for curve in whole]))
  return scales.fitting(np.concatenate([np.quantile(part, [0.01, 0.98]) for part in parts]))


def _best(source: Source, colour: int, x: Scale, y: Scale) -> list[Mark]:
  """Returns the mark of the best step of a run, where its distance is least; none if it has no scores."""
  best, distance = source.run.best, source.run.distance
  if best is None or distance is None or source.metric not in best:
    return []
  left, up = (100 * float(scale.at([v])[0]) for scale, v in ((x, best['step']), (y, best[source.metric])))
  text = f'best step {best["step"]:,}: {source.name} {scales.number(best[source.metric])}'
  return [Mark(left, 100 - up, colour, text)]


def _placed(scale: Scale, most: int) -> list[tuple[float, float]]:
  ticks = scale.ticks(most)
  return list(zip(ticks, map(float, scale.at(ticks))))


def _path(curve: Curve, x: Scale, y: Scale) -> str:
  return scales.path(x.at(curve.steps), y.at(curve.values))


def _in_words(title: str, lines: Sequence[Line], x: Scale) -> str:
  """Returns what a chart shows, for those who do not see it."""
  said = [
    f'{line.name} from {scales.number(line.curve.values[0])} to {line.last}, '
    f'least {scales.number(line.curve.values.min())}, most {scales.number(line.curve.values.max())}'
    for line in lines
  ]
  return f'{title} over steps {scales.number(x.low)} to {scales.number(x.high)}: {"; ".join(said)}.'


def _data(lines: Sequence[Line], x: Scale) -> dict[str, Any]:
  """Returns the points of the curves, rounded to what is shown."""
  return {
    'low': x.low,
    'high': x.high,
    'curves': [
      [line.curve.steps.tolist(), [float(f'{value:.4g}') for value in line.curve.values]] for line in lines
    ],
  }
