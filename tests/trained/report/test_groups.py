"""Runs as seeds of recipes, and their scores."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import narrow

from dcgan_jax.records import workdir
from dcgan_jax.trained.report import curves, groups, runs, scales
from dcgan_jax.trained.report.curves import Curve

DISTANCE = 'classifier_frechet_distance'


def _run(folder, seed, scored, loss='non_saturating', last=None, **evaluation):
  """Writes a run with distances by step, and reads it."""
  chosen = narrow('digits', {'train.loss': loss})
  workdir.write_settings(folder, dataclasses.replace(chosen, seed=seed))
  common = {'precision': 0.5, 'protocol': 'p'}
  rows = [{'step': step, DISTANCE: value, **common} for step, value in scored.items()]
  rows += [{'step': last, 'loss_d': 1.0}] if last else []
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  if evaluation:
    content = {'images': f'step {evaluation.pop("step")} of x', 'num': 9, 'against': '', 'protocol': 'q'}
    workdir.write_json(folder / 'evaluation.json', content | evaluation)
  return runs.read(folder)


def test_equal_recipes_are_grouped_and_sorted_by_seed():
  recipes = [{'x': 1}, {'x': 2}, {'x': 1}, None, {'x': 2}, {'x': 1}, None]
  assert groups.by_seed(recipes, [10, 0, 2, 0, 1, 1, 0]) == [[5, 2, 0], [1, 4], [3], [6]]


def test_the_same_seed_again_is_no_further_sample():
  assert groups.by_seed([{}] * 5, [0, 1, 0, 1, 0]) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
  ('members', 'expected'),
  [
    ([['a-0', 'a-1'], ['b-0', 'b-1']], ['a', 'b']),
    ([['a-10', 'a-11']], ['a']),
    ([['digits_seed0', 'digits_seed1']], ['digits']),
    ([['lr_1e-4_s0', 'lr_1e-4_s1'], ['lr_2e-4_s0', 'lr_2e-4_s1']], ['lr_1e-4', 'lr_2e-4']),
    ([['0/a', '1/a'], ['0/b', '1/b']], ['a', 'b']),
    ([['x-0-long', 'x-1-long'], ['x-0-short', 'x-1-short']], ['x-long', 'x-short']),
    ([['0', '1'], ['2', '3']], ['0', '2']),
    ([['a-0', 'a-1'], ['a']], ['a-0', 'a']),
    ([['a-0', 'a-1'], ['a-2', 'a-3']], ['a-0', 'a-2']),
    ([['alone-7']], ['alone-7']),
  ],
)
def test_names_of_recipes(members, expected):
  assert groups.group_names(members) == expected


def test_settings_that_differ_otherwise_part_runs(tmp_path):
  found = [
    _run(tmp_path / 'a-1', 1, {}),
    _run(tmp_path / 'b-0', 0, {}, loss='least_squares'),
    _run(tmp_path / 'a-0', 0, {}),
    _run(tmp_path / 'c-2', 2, {}),
  ]
  workdir.write_origin(tmp_path / 'c-2', workdir.Origin(tmp_path / 'a-1', 'last'), {})
  found[3] = runs.read(tmp_path / 'c-2')
  (tmp_path / 'a-1' / 'other').mkdir()
  (tmp_path / 'a-1' / 'other' / 'config.json').write_text('{')
  found.append(runs.read(tmp_path / 'a-1' / 'other'))
  grouped = groups.find(found)
  assert [group.indices for group in grouped] == [(2, 0), (1,), (3,), (4,)]
  assert [(group.name, group.seeds) for group in grouped] == [
    ('a', [0, 1]),
    ('b-0', [0]),
    ('c-2', [2]),
    ('other', []),
  ]
  assert 'seed' not in grouped[0].recipe and grouped[2].recipe['--init_from'] == f'{tmp_path}/a-1:last'


def test_curves_are_averaged_at_the_steps_that_all_have():
  draw = np.random.default_rng(0)
  values = draw.normal(size=(3, 40))
  found = [Curve(np.arange(0, 10 * n, 10), row[:n]) for n, row in zip((40, 25, 30), values)]
  found.append(Curve(np.array([0, 0, 5, 10, 100]), np.array([1.0, 9.0, 9.0, 2.0, 3.0])))
  mean, deviation = curves.across(found)
  columns = np.vstack([values[:, [0, 1, 10]], [1.0, 2.0, 3.0]])
  assert mean.steps.tolist() == deviation.steps.tolist() == [0, 10, 100]
  np.testing.assert_allclose(mean.values, np.mean(columns, axis=0))
  np.testing.assert_allclose(deviation.values, np.std(columns, axis=0, ddof=1))
  alone, none = curves.across(found[:1])
  np.testing.assert_array_equal(alone.values, values[0])
  assert not none.values.any()


def test_overflow_is_left_out_of_a_mean():
  steps = np.arange(2)
  mean, _ = curves.across([Curve(steps, np.array([1e308, 1.0])), Curve(steps, np.array([1.7e308, 2.0]))])
  assert mean.steps.tolist() == [1] and mean.values.tolist() == [1.5]


@pytest.mark.parametrize(
  ('mean', 'deviation', 'text'),
  [
    (31.234, 4.116, '31.2 ± 4.1'),
    (0.79412, 0.0123, '0.794 ± 0.012'),
    (88.8, 144.9, '89 ± 145'),
    (1234.5, 30.2, '1,234 ± 30'),
    (0.5, 0.0, '0.5 ± 0'),
    (3.0, float('nan'), '3'),
    (2e15, 1.0, '2e+15 ± 1'),
  ],
)
def test_a_mean_has_the_digits_that_its_deviation_leaves(mean, deviation, text):
  assert scales.with_deviation(mean, deviation) == text


def test_scores_by_how_checkpoints_were_chosen(tmp_path):
  first, second = {10: 5.0, 20: 3.0, 30: 4.0}, {10: 6.0, 20: 7.0}
  evaluated = {'scores': {DISTANCE: 8.0}}
  found = [
    _run(tmp_path / 'a-0', 0, first, step=30, checkpoint='last', **evaluated),
    _run(tmp_path / 'a-1', 1, second, step=20, **evaluated),
    _run(tmp_path / 'a-2', 2, first, step=20, checkpoint='best', **evaluated),
    _run(tmp_path / 'a-3', 3, {}, last=40, step=20, checkpoint='20', **evaluated),
  ]
  rows = groups.rows(groups.find(found))
  assert [(row.how, row.seeds, row.steps) for row in rows] == [
    ('last scored in training', [0, 1, 2], [20, 20, 20]),
    ('best in training by Fréchet distance', [0, 1, 2], [20, 10, 20]),
    ('last checkpoint, evaluated', [0, 1], [30, 20]),
    ('best checkpoint in training, evaluated', [2], [20]),
    ('earlier checkpoint, evaluated', [3], [20]),
  ]
  last, best = rows[0], rows[1]
  assert last.at == 'step 20' and best.at == 'steps 20 · 10 · 20' and last.protocol == 'digits: p'
  for row, values in ((last, [3.0, 7.0, 3.0]), (best, [3.0, 6.0, 3.0])):
    np.testing.assert_allclose(row.spread(DISTANCE), [np.mean(values), np.std(values, ddof=1)])
  assert last.cell(DISTANCE) == '4.3 ± 2.3' and last.each(DISTANCE) == '3 · 7 · 3'
  assert last.cell('recall') == '' and rows[3].cell(DISTANCE) == '8' and rows[3].each(DISTANCE) == ''


def test_the_last_scores_may_be_the_best(tmp_path):
  found = [_run(tmp_path / f'a-{seed}', seed, {10: 5.0, 20: 3.0 + seed}) for seed in range(2)]
  (row,) = groups.rows(groups.find(found))
  assert row.how == 'last scored in training, and the best' and row.steps == [20, 20]
  # Beside a recipe whose best scores are of other steps each has a line, so that equal ways can be compared.
  found += [_run(tmp_path / f'b-{seed}', seed, {10: 2.0, 20: 3.0}, 'minimax') for seed in range(2)]
  rows = groups.rows(groups.find(found))
  assert [row.how for row in rows] == ['last scored in training', 'best in training by Fréchet distance'] * 2


def test_an_evaluated_recipe_does_not_part_the_last_from_the_best(tmp_path):
  found = [_run(tmp_path / f'a-{seed}', seed, {10: 5.0, 20: 3.0}) for seed in range(2)]
  scored = {'step': 20, 'scores': {DISTANCE: 8.0}, 'checkpoint': 'last'}
  found += [_run(tmp_path / f'b-{seed}', seed, {}, 'minimax', 20, **scored) for seed in range(2)]
  rows = groups.rows(groups.find(found))
  assert [row.how for row in rows] == ['last scored in training, and the best', 'last checkpoint, evaluated']


def test_runs_that_were_never_scored_have_a_row(tmp_path):
  found = [_run(tmp_path / f'a-{seed}', seed, {}, last=5) for seed in range(2)]
  (row,) = groups.rows(groups.find(found))
  assert row.how == 'not scored' and row.scores == {} and row.group.steps == '5 steps'
