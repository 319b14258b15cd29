import numpy as np
from PIL import Image

from dcgan_jax.journal import plots


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
  plots.plot_scores(tmp_path / 'scores.png', rows, 'fid')
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
