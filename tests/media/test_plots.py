import json

import numpy as np
import pytest
from PIL import Image

from dcgan_jax.media import plots
from dcgan_jax.media.plots import Axis
from dcgan_jax.records import journal, metrics

CHARTS = {
  Axis('FID', 'log', 'lower'): {'fid': 'FID'},
  Axis('Shares', 'share', 'higher'): {'precision': 'precision', 'recall': 'recall', 'coverage': 'coverage'},
  Axis('Missing classes', 'count', 'lower'): {'missing_classes': 'missing classes'},
}


def test_plot(tmp_path):
  rows = [{'step': i, 'loss_d': 1.0, 'loss_g': 2.0, 'd_real': 0.5, 'd_fake': 0.5} for i in range(1, 100)]
  plots.plot_losses(tmp_path / 'one.png', rows[:1])
  plots.plot_losses(tmp_path / 'many.png', rows)
  with Image.open(tmp_path / 'many.png') as picture:
    assert picture.size[0] > 600 and len(picture.convert('RGB').getcolors(1 << 20)) > 10


def test_plot_of_scores(tmp_path):
  """Draws both from the same rows, which have either losses or scores."""
  losses = {'loss_d': 1.0, 'loss_g': 2.0, 'd_real': 0.5, 'd_fake': 0.5}
  scores = {'precision': 0.4, 'recall': 0.5, 'coverage': 0.3}
  rows = [
    {'step': i, 'fid': 90.0 - i, 'protocol': f'samples={i // 20}', **scores}
    if i % 5 == 0
    else {'step': i, **losses}
    for i in range(1, 40)
  ]
  plots.plot_scores(tmp_path / 'scores.png', rows, CHARTS, 'fid', rows[34])
  plots.plot_losses(tmp_path / 'losses.png', rows)
  for name in ('scores.png', 'losses.png'):
    with Image.open(tmp_path / name) as picture:
      assert picture.size[0] > 600 and len(picture.convert('RGB').getcolors(1 << 20)) > 10


def test_smoothing_is_a_centred_mean():
  values = np.random.default_rng(0).standard_normal(180)
  smooth = plots.smooth(values)
  np.testing.assert_allclose(smooth[90], values[87:94].mean())
  np.testing.assert_allclose(smooth[0], values[:4].mean())
  np.testing.assert_allclose(smooth[-1], values[-4:].mean())


def test_smoothing_leaves_out_what_is_no_number():
  values = np.ones(180)
  values[20:30] = values[100] = np.nan
  smooth = plots.smooth(values)
  assert np.isnan(smooth[23:27]).all() and (smooth[~np.isnan(smooth)] == 1).all() and smooth[100] == 1


def test_of_many_rows_few_points_are_drawn(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr('matplotlib.axes.Axes.plot', lambda self, x, y, *_, **__: drawn.append((x, y)))
  monkeypatch.setattr(plots, '_finish', lambda figure, path: None)
  plots.plot_losses(tmp_path / 'x.png', [{'step': i, 'loss_d': 1.0} for i in range(3 * plots.MOST)])
  assert len(drawn) == 8
  for x, y in drawn:
    assert len(x) == len(y) == plots.MOST and (x[0], x[-1]) == (0, 3 * plots.MOST - 1)


@pytest.mark.parametrize(
  'number', ['NaN', 'Infinity', '-Infinity', '1e308', '-1e308', '3e38', '1e-320', '1e999', '0']
)
def test_no_number_in_the_metrics_keeps_a_run_from_being_drawn(tmp_path, capsys, number):
  """Draws what nobody would write, and what was written when something went wrong."""
  names = ('loss_d', 'loss_g', 'd_real', 'd_fake', 'fid', 'precision', 'coverage')
  odd = json.loads(number)
  rows = [
    {'step': step, **dict.fromkeys(names, odd if step else 0.5)} for step in (0, 0, 7, 3, 2**31 - 1, 2**31)
  ]
  path = tmp_path / 'metrics.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  journal.draw_run(tmp_path, 'fid', CHARTS)
  assert (tmp_path / 'losses.png').exists() and (tmp_path / 'scores.png').exists()
  assert capsys.readouterr().err == ''
  steps = [row['step'] for row in metrics.read(path)]
  assert steps == [0, 0] if '308' in number else steps == [0, 0, 3, 7, 2**31 - 1]
