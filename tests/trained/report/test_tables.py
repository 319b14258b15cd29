"""The scores of recipes as Markdown, CSV and LaTeX."""

import csv
import io

import numpy as np
import pytest

from dcgan_jax.trained.report import tables
from dcgan_jax.trained.report.configs import Difference
from dcgan_jax.trained.report.groups import Group, Row

DISTANCE = 'classifier_frechet_distance'
BEST = 'best in training by Fréchet distance'


@pytest.fixture
def rows():
  class Run:
    step = 30

  first, second = (Group(name, (), (Run(),)) for name in ('a_1|x', r'b & 50% \^~$#{}'))
  scores = {DISTANCE: np.array([1 / 3, 2.0, 5000.0]), 'density': np.array([0.5, 0.5, 0.5])}
  other = {'precision': np.array([0.25])}
  return [
    Row(first, BEST, 'digits: p', [0, 1, 2], [10, 20, 30], scores),
    Row(second, 'last checkpoint, evaluated', 'digits: q', [1], [30], other),
  ]


def test_markdown_is_a_table_with_each_seed(rows):
  text = tables.to_markdown(rows, [Difference('train.augment', ('', 'translation'))])
  lines = text.splitlines()
  assert lines[0] == '| recipe | seeds | checkpoints | Fréchet distance ↓ | precision ↑ |'
  assert lines[1] == '|---|---|---|---|---|'
  assert lines[2] == (
    f'| a\\_1\\|x | 0, 1, 2 | {BEST}, steps 10 · 20 · 30 | 1,667 ± 2,886 (0.3333 · 2 · 5,000) |  |'
  )
  assert lines[3].endswith('| 1 | last checkpoint, evaluated, step 30 |  | 0.25 |')
  assert 'The best score of a run is biased' in text and 'digits: q' in text
  assert lines[-3].startswith('| setting | a\\_1\\|x | b &amp; 50%')
  assert lines[-1].startswith('| train.augment |  |')


def test_csv_has_all_scores_unrounded(rows):
  read = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
  assert [(row['recipe'], row['score']) for row in read] == [
    ('a_1|x', 'step'),
    ('a_1|x', DISTANCE),
    ('a_1|x', 'density'),
    (r'b & 50% \^~$#{}', 'step'),
    (r'b & 50% \^~$#{}', 'precision'),
  ]
  values = [1 / 3, 2.0, 5000.0]
  assert [float(read[1][f'seed {seed}']) for seed in range(3)] == values
  np.testing.assert_allclose(float(read[1]['deviation']), np.std(values, ddof=1))
  assert float(read[1]['mean']) == np.mean(values) and read[0]['seed 2'] == '30'
  assert read[4]['deviation'] == read[4]['seed 0'] == '' and read[4]['seed 1'] == '0.25'


def test_latex_has_a_table_for_each_way_to_choose_checkpoints(rows):
  text = tables.to_latex(rows, [Difference('train.augment', ('', 'a_b'))])
  first, second, settings = text.split('\n\n')[1:]
  assert first.splitlines() == [
    r'\begin{table}',
    r'\centering',
    rf'\caption{{Mean $\pm$ standard deviation over the seeds. Checkpoints: {BEST}. Protocol: digits: p.}}',
    r'\begin{tabular}{lr}',
    r'\toprule',
    r' & a\_1\textbar{}x \\',
    r'\midrule',
    r'seeds & 0, 1, 2 \\',
    r'step & 10 · 20 · 30 \\',
    r'Fréchet distance $\downarrow$ & $1{,}667 \pm 2{,}886$ \\',
    r'\bottomrule',
    r'\end{tabular}',
    r'\end{table}',
  ]
  name = r'b \& 50\% \textbackslash{}\textasciicircum{}\textasciitilde{}\$\#\{\}'
  assert rf' & {name} \\' in second and r'precision $\uparrow$ & $0.25$ \\' in second
  assert r'\texttt{train.augment} &  & a\_b \\' in settings
  assert '%' not in text.partition(r'\begin')[2].replace(r'\%', '')


def test_latex_keeps_scores_of_different_protocols_apart(rows):
  text = tables.to_latex([rows[0], rows[0]._replace(protocol='digits: q')], [])
  assert text.count(r'\begin{table}') == 2 and text.count('Protocol: digits: q.}') == 1


@pytest.mark.parametrize(
  ('cell', 'expected'),
  [
    ('1.5e-06 ± 7.07e-07', r'$1.5 \times 10^{-6} \pm 7.07 \times 10^{-7}$'),
    ('1e+10', r'$1 \times 10^{10}$'),
    ('', ''),
  ],
)
def test_numbers_of_latex(cell, expected):
  assert tables._latex_number(cell) == expected


def test_remarks_say_which_scores_can_be_compared(rows):
  assert 'Only scores of the same protocol can be compared.' in tables.remarks(rows)
  assert 'Only scores of the same protocol can be compared.' not in tables.remarks(rows[:1])
  assert f'{BEST.capitalize()[0]}{BEST[1:]}. Protocol: digits: p' in tables.remarks(rows)


def test_scores_taken_in_different_ways_are_not_comparable(rows):
  assert tables.comparable(rows)
  assert not tables.comparable([rows[0], rows[1]._replace(how=BEST)])
  assert tables.comparable([rows[0], rows[1]._replace(how=BEST, protocol='')])
