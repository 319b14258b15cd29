"""The scores of recipes as a table: in Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence

from dcgan_jax.errors import printable
from dcgan_jax.evaluation import scores
from dcgan_jax.trained.hub import card
from dcgan_jax.trained.report.configs import Difference
from dcgan_jax.trained.report.groups import BEST, Row

SHOWN = {name: axis.better for axis, labels in scores.charts().items() for name in labels}
ARROWS = {'lower': '↓', 'higher': '↑'}
BIAS = (
  'The best score of a run is biased: it was chosen because it is low. The same generator would do worse '
  'with other samples, the more so the more often the run was scored. To compare recipes, take the last '
  'checkpoint, or score the best one anew by --mode=evaluate --checkpoint=best.'
)
LATEX = {
  '\\': r'\textbackslash{}',
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
  '<': r'\textless{}',
  '>': r'\textgreater{}',
  '|': r'\textbar{}',
  '"': r'\textquotedblright{}',  # The straight one needs an encoding that is not the default.
  '↓': r'$\downarrow$',
  '↑': r'$\uparrow$',
  **{character: f'\\{character}' for character in '&%$#_{}'},
}


def title(name: str) -> str:
  """Returns the label of a score, with an arrow to where it is better."""
  return f'{scores.label(name)} {ARROWS.get(SHOWN.get(name, ""), "")}'.strip()


def columns(rows: Sequence[Row]) -> list[str]:
  """Returns the names of the scores that are shown, as far as any row has them."""
  return [name for name in SHOWN if any(name in row.scores for row in rows)]


def comparable(rows: Sequence[Row]) -> bool:
  """Returns whether scores that were chosen in the same way were also taken in the same way."""
  taken = {(row.how, row.protocol) for row in rows if row.protocol}
  return len(taken) == len({how for how, _ in taken})


def remarks(rows: Sequence[Row]) -> list[str]:
  """Returns what one must know to read the scores, as paragraphs."""
  found = []
  if any(len(row.seeds) > 1 for row in rows):
    found.append('± is the standard deviation over the seeds, with n − 1.')
  if any(row.how.startswith(BEST) for row in rows):
    found.append(BIAS)
  found += [
    f'The runs of {group.name} have come to different steps: {group.steps}. Their means in training are at '
    'steps that all have.'
    for group in dict.fromkeys(row.group for row in rows)
    if len({run.step for run in group.runs}) > 1
  ]
  protocols: dict[str, list[str]] = {}
  for row in rows:
    protocols.setdefault(row.protocol, []).append(row.how)
  if len(protocols.keys() - {''}) > 1:
    found.append('Only scores of the same protocol can be compared.')
  return found + [
    f'{capital("; ".join(dict.fromkeys(hows)))}. Protocol: {protocol}'
    for protocol, hows in protocols.items()
    if protocol
  ]


def capital(text: str) -> str:
  """Returns a text with its first letter in upper case."""
  return text[:1].upper() + text[1:]


def to_markdown(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
  """Returns the scores with each seed's, remarks, and the settings in which the recipes differ."""
  shown = columns(rows)
  lines = [_markdown('recipe', 'seeds', 'checkpoints', *map(title, shown)), '|' + '---|' * (3 + len(shown))]
  for row in rows:
    cells = [f'{row.cell(name)} ({row.each(name)})' if row.each(name) else row.cell(name) for name in shown]
    lines.append(f'{_markdown(*_start(row))} {" | ".join(cells)} |')
  lines += [part for line in remarks(rows) for part in ('', card.escaped(line))]
  if differences:
    names = [group.name for group in dict.fromkeys(row.group for row in rows)]
    lines += ['', _markdown('setting', *names), '|' + '---|' * (1 + len(names))]
    lines += [_markdown(key, *values) for key, values in differences]
  return '\n'.join(lines) + '\n'


def _markdown(*cells: str) -> str:
  return f'| {" | ".join(map(card.escaped, cells))} |'


def to_csv(rows: Sequence[Row]) -> str:
  """Returns all scores, unrounded: a line for each score of a row, with a column for each seed."""
  seeds = sorted({seed for row in rows for seed in row.seeds})
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  titles = ('recipe', 'checkpoints', 'score', 'mean', 'deviation', *(f'seed {seed}' for seed in seeds))
  writer.writerow([*titles, 'protocol'])
  for row in rows:
    start = (printable(row.group.name), row.how)
    writer.writerow([*start, 'step', '', '', *_by_seed(seeds, row, row.steps), row.protocol])
    for name, values in row.scores.items():
      mean, deviation = row.spread(name)
      numbers = (mean, deviation if len(values) > 1 else '')
      writer.writerow([*start, name, *numbers, *_by_seed(seeds, row, values.tolist()), row.protocol])
  return text.getvalue()


def _by_seed(seeds: Sequence[int], row: Row, values: Sequence[float]) -> list[float | str]:
  """Returns a value for each seed, '' where a row has none."""
  known = dict(zip(row.seeds, values))
  return [known.get(seed, '') for seed in seeds]


def to_latex(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
  """Returns a table for each way to choose checkpoints and to score, and one of the differing settings.

  Recipes are columns, so that a few of them fit into one column of a paper. The rules are those of the
  package booktabs. Remarks are comments.
  """
  lines = [r'% Needs \usepackage{booktabs}.', *(f'% {printable(line)}' for line in remarks(rows))]
  scored = [row for row in rows if row.scores]
  for way in dict.fromkeys((row.how, row.protocol) for row in scored):
    lines += ['', *_latex_scores([row for row in scored if (row.how, row.protocol) == way])]
  if differences:
    names = [group.name for group in dict.fromkeys(row.group for row in rows)]
    cells = [(rf'\texttt{{{_latex(key)}}}', *map(_latex, values)) for key, values in differences]
    titles = ['', *map(_latex, names)]
    lines += ['', *_latex_table('Settings in which the recipes differ.', titles, cells, 'l')]
  return '\n'.join(lines) + '\n'


def _latex_scores(rows: Sequence[Row]) -> list[str]:
  """Returns the lines of a table of scores whose checkpoints were chosen in the same way."""
  over_seeds = any(len(row.seeds) > 1 for row in rows)
  caption = r'Mean $\pm$ standard deviation over the seeds. ' if over_seeds else ''
  caption += f'Checkpoints: {_latex(rows[0].how)}.'
  if rows[0].protocol:
    caption += f' Protocol: {_latex(rows[0].protocol)}.'
  cells = [
    ('seeds' if over_seeds else 'seed', *(', '.join(map(str, row.seeds)) for row in rows)),
    ('step', *(row.at.partition(' ')[2] for row in rows)),
    *((_latex(title(name)), *(_latex_number(row.cell(name)) for row in rows)) for name in columns(rows)),
  ]
  return _latex_table(caption, ['', *(_latex(row.group.name) for row in rows)], cells, 'r')


def _latex_number(cell: str) -> str:
  """Returns 'mean ± deviation' in LaTeX."""
  cell = re.sub(r'e([+-]?)0*(\d+)', r' \\times 10^{\1\2}', cell).replace('{+', '{')
  return f'${cell}$'.replace('±', r'\pm').replace(',', '{,}') if cell else ''


def _latex_table(
  caption: str, titles: Sequence[str], cells: Sequence[Sequence[str]], aligned: str
) -> list[str]:
  """Returns the lines of a table, given LaTeX; `aligned` is the alignment of all columns but the first."""
  lines = [r'\begin{table}', r'\centering', rf'\caption{{{caption}}}']
  lines += [rf'\begin{{tabular}}{{l{aligned * (len(titles) - 1)}}}', r'\toprule']
  lines += [' & '.join(titles) + r' \\', r'\midrule', *(' & '.join(row) + r' \\' for row in cells)]
  return [*lines, r'\bottomrule', r'\end{tabular}', r'\end{table}']


def _latex(text: str) -> str:
  """Escapes any text for a cell of LaTeX."""
  escaped = ''.join(LATEX.get(character, character) for character in printable(text))
  return re.sub('-(?=-)', '-{}', escaped)


def _start(row: Row) -> tuple[str, str, str]:
  """Returns a row's recipe, its seeds and how its checkpoints were chosen."""
  at = f', {row.at}' if row.steps else ''
  return row.group.name, ', '.join(map(str, row.seeds)), row.how + at
