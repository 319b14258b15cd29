"""Runs as seeds of recipes: their groups, and the scores of each group by how its checkpoints were chosen."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.evaluation import scores
from dcgan_jax.evaluation.scores import DISTANCE
from dcgan_jax.trained.report import curves, scales
from dcgan_jax.trained.report.runs import Evaluation, Run, names

LAST, BEST = 'last scored in training', 'best in training'  # how checkpoints were chosen
NAMES = tuple(score.name for score in scores.SCORES)


@dataclass(frozen=True, eq=False)
class Group:
  """Runs whose settings differ in the seed alone, in the order of their seeds.

  Attributes:
    name: Name of what they have in common, the recipe.
    indices: Positions of the runs on the page.
    runs: The runs.
  """

  name: str
  indices: tuple[int, ...]
  runs: tuple[Run, ...]

  @property
  def seeds(self) -> list[int]:
    """The seeds; [] of a run whose settings are damaged."""
    return [run.settings.seed for run in self.runs if run.settings]

  @property
  def steps(self) -> str:
    """The last step of each run, in words; one number if it is the same."""
    last = [run.step or 0 for run in self.runs]
    return listed(last[:1] if len(set(last)) == 1 else last) + ' steps'

  @property
  def recipe(self) -> dict[str, Any]:
    """Settings by dotted key, without the seed."""
    return {key: value for key, value in self.runs[0].recipe.items() if key != 'seed'}


class Row(NamedTuple):
  """Scores of a group, each run's from a checkpoint that was chosen in the same way.

  Attributes:
    group: The group.
    how: How the checkpoints were chosen and scored, in words.
    protocol: Data and protocol; '' if it is unknown.
    seeds: Seed of each run that was scored so; fewer than the group's if some were not.
    steps: Step of each checkpoint.
    scores: Scores of the runs, float [N], by name.
  """

  group: Group
  how: str
  protocol: str
  seeds: list[int]
  steps: list[int]
  scores: dict[str, np.ndarray]

  @property
  def at(self) -> str:
    """The steps in words; one number if it is the same."""
    if len(set(self.steps)) == 1:
      return f'step {self.steps[0]:,}'
    return f'steps {listed(self.steps)}'

  def spread(self, name: str) -> tuple[float, float]:
    """Returns the mean of a score and its standard deviation, which is NaN of one run."""
    mean, deviation = curves.mean_and_deviation(self.scores[name])
    return float(mean), float(deviation)

  def cell(self, name: str) -> str:
    """Returns a score as 'mean ± deviation'; '' if there is none."""
    return scales.with_deviation(*self.spread(name)) if name in self.scores else ''

  def each(self, name: str) -> str:
    """Returns a score of each run; '' if it is one run."""
    values = self.scores.get(name, ())
    return listed(values) if len(values) > 1 else ''


def listed(values: Sequence[float] | np.ndarray) -> str:
  """Returns numbers in a row, without commas between them, because they may have some."""
  return ' · '.join(map(scales.number, values))


def find(runs: Sequence[Run]) -> list[Group]:
  """Returns the groups of runs, in the order of their first ones; one with damaged settings is alone."""
  recipes = [
    {key: value for key, value in run.recipe.items() if key != 'seed'} if run.settings else None
    for run in runs
  ]
  found = by_seed(recipes, [run.settings.seed if run.settings else 0 for run in runs])
  named = names([run.folder for run in runs])
  titles = group_names([[named[i] for i in indices] for indices in found])
  return [
    Group(title, tuple(indices), tuple(runs[i] for i in indices)) for title, indices in zip(titles, found)
  ]


def by_seed(recipes: Sequence[Mapping[str, Any] | None], seeds: Sequence[int]) -> list[list[int]]:
  """Returns the positions of equal recipes in groups, each in the order of its seeds.

  A group has each seed once: the same recipe with the same seed is the same run again, and no other sample.

  Args:
    recipes: Settings without the seed; None is equal to nothing.
    seeds: The seeds.
  """
  found: list[list[int]] = []
  for i, (recipe, seed) in enumerate(zip(recipes, seeds)):
    fitting = (
      group
      for group in found
      if recipe is not None and recipes[group[0]] == recipe and seed not in [seeds[j] for j in group]
    )
    group = next(fitting, None)
    if group is None:
      found.append([i])
    else:
      group.append(i)
  return [sorted(group, key=lambda i: seeds[i]) for group in found]


def group_names(members: Sequence[Sequence[str]]) -> list[str]:
  """Returns a name for each group of names: what these have in common, 'a' for 'a-0' and 'a-1'.

  Where that is nothing, or another group's name, it is the group's first one.
  """
  found = [_common(names) for names in members]
  return [
    name if name and found.count(name) == 1 else names[0] for name, names in zip(found, members, strict=True)
  ]


def _common(names: Sequence[str]) -> str:
  """Returns the words at the beginning and at the end that names have in common."""
  if len(names) == 1:
    return names[0]
  words = [re.findall(r'\d+|[^\W\d_]+|[\W_]+', name) for name in names]
  count = _equal(words)
  rest = [own[count:][::-1] for own in words]
  parts = [''.join(words[0][:count]), ''.join(rest[0][: _equal(rest)][::-1])]
  parts = [re.sub(r'^[\W_]+|[\W_]+$', '', part) for part in parts]
  parts[0] = re.sub(r'(^|[\W_]+)(seed|s)$', '', parts[0])
  return '-'.join(part for part in parts if part)


def _equal(lists: Sequence[Sequence[str]]) -> int:
  """Returns the number of items at which lists begin alike."""
  return len([*itertools.takewhile(lambda items: len(set(items)) == 1, zip(*lists))])


def rows(groups: Sequence[Group]) -> list[Row]:
  """Returns the scores of groups: in training at the last step and at the best, and by `--mode=evaluate`."""
  found = [_rows(group) for group in groups]
  # One line for both is enough only where it is enough for all: else recipes have no line in common.
  in_training = [
    of_group for of_group in found if of_group[0].how == LAST or of_group[0].how.startswith(BEST)
  ]
  merge = all(map(_last_is_best, in_training))
  return [row for of_group in found for row in (_merged(of_group) if merge else of_group)]


def _rows(group: Group) -> list[Row]:
  """Returns the scores of a group; a row without any if its runs were never scored."""
  steps = [{row['step'] for row in run.scored} for run in group.runs if run.scored]
  # Runs that have not come as far as the others are compared with these at the last step of all.
  common = max(set.intersection(*steps), default=None) if steps else None
  found: dict[tuple[str, str], list[tuple[Run, int, Mapping[str, Any]]]] = {}
  for run in group.runs:
    for how, protocol, step, taken in _taken(run, common):
      found.setdefault((how, protocol), []).append((run, step, taken))
  made = []
  for (how, protocol), taken_of in found.items():
    known = [name for name in NAMES if all(_is_score(taken.get(name)) for _, _, taken in taken_of)]
    values = {name: np.array([taken[name] for _, _, taken in taken_of], float) for name in known}
    seeds = [run.settings.seed for run, _, _ in taken_of if run.settings]
    made.append(Row(group, how, protocol, seeds, [step for _, step, _ in taken_of], values))
  order = list(dict.fromkeys(row.how for row in made))
  ordered = sorted(made, key=lambda row: order.index(row.how))
  return ordered or [Row(group, 'not scored', '', [], [], {})]


def _last_is_best(found: Sequence[Row]) -> bool:
  """Returns whether the first two rows of a group, last and best in training, are of the same steps."""
  return len(found) > 1 and found[0].steps == found[1].steps and found[1].how.startswith(BEST)


def _merged(found: Sequence[Row]) -> list[Row]:
  """Returns rows with one for the last and the best scores of training."""
  return [found[0]._replace(how=f'{LAST}, and the best'), *found[2:]] if _last_is_best(found) else list(found)


def _taken(run: Run, common: int | None) -> Iterator[tuple[str, str, int, Mapping[str, Any]]]:
  """Yields the scores of a run: how its checkpoint was chosen, the protocol, its step, and the scores."""
  if run.best and run.distance:
    protocol = run.with_data(str(run.best.get('protocol', '')))
    last = next((row for row in run.scored if row['step'] == common), None)
    if last and common is not None:
      yield LAST, protocol, common, last
    yield f'{BEST} by {scores.label(run.distance)}', protocol, run.best['step'], run.best
  for it in run.evaluations:
    if it.step is not None:
      features = ' by Inception' if DISTANCE['inception'] in it.scores else ''
      missing = {'missing_classes': len(it.missing)} if it.classes else {}
      yield (
        f'{_chosen(run, it)}, evaluated{features}',
        run.with_data(it.protocol),
        it.step,
        it.scores | missing,
      )


def _chosen(run: Run, evaluation: Evaluation) -> str:
  """Returns how a checkpoint was chosen to be evaluated; files of earlier versions do not say so."""
  best = run.best['step'] if run.best else None
  if evaluation.checkpoint == 'best' or (not evaluation.checkpoint and best == evaluation.step != run.step):
    return 'best checkpoint in training'
  return 'last checkpoint' if evaluation.step == run.step else 'earlier checkpoint'


def _is_score(value: Any) -> bool:
  return isinstance(value, int | float) and math.isfinite(value)
