import json

import numpy as np
from PIL import Image

from dcgan_jax import metrics


def test_rows_after_the_step_that_a_run_continues_from_are_dropped(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, 0, tensorboard=False)
  for step in (10, 20, 30):
    writer.write(step, {'loss_d': step / 10})
  writer.close()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 40, "loss')  # killed while writing
  assert [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == [10, 20, 30]
  writer = metrics.MetricsWriter(tmp_path, 20, tensorboard=False)
  writer.write(30, {'loss_d': 9.0})
  assert [row['step'] for row in writer.rows] == [10, 20, 30]
  writer.close()
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert rows == [{'step': 10, 'loss_d': 1.0}, {'step': 20, 'loss_d': 2.0}, {'step': 30, 'loss_d': 9.0}]


def test_tensorboard_events_are_written(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, 0, tensorboard=True)
  writer.write(1, {'loss_d': 0.5})
  writer.add_image(1, np.zeros((4, 4, 3), np.uint8))
  writer.close()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  content = events.read_bytes()
  assert b'loss_d' in content and b'samples' in content


def test_plot(tmp_path):
  rows = [{'step': i, 'loss_d': 1.0, 'loss_g': 2.0, 'd_real': 0.5, 'd_fake': 0.5} for i in range(1, 100)]
  metrics.plot_losses(tmp_path / 'one.png', rows[:1])
  metrics.plot_losses(tmp_path / 'many.png', rows)
  with Image.open(tmp_path / 'many.png') as picture:
    assert picture.size[0] > 600 and len(picture.convert('RGB').getcolors(1 << 20)) > 10


def test_plot_of_scores(tmp_path):
  """Rows of losses and of scores are told apart."""
  losses = {'loss_d': 1.0, 'loss_g': 2.0, 'd_real': 0.5, 'd_fake': 0.5}
  scores = {'precision': 0.4, 'recall': 0.5, 'coverage': 0.3}
  rows = [
    {'step': i, 'fid': 90.0 - i, **scores} if i % 5 == 0 else {'step': i, **losses} for i in range(1, 40)
  ]
  metrics.plot_scores(tmp_path / 'scores.png', rows, 'fid')
  metrics.plot_losses(tmp_path / 'losses.png', rows)
  for name in ('scores.png', 'losses.png'):
    with Image.open(tmp_path / name) as picture:
      assert picture.size[0] > 600 and len(picture.convert('RGB').getcolors(1 << 20)) > 10


def test_smoothing_is_a_centred_mean():
  values = np.random.default_rng(0).standard_normal(180)
  smooth = metrics._smooth(values)
  np.testing.assert_allclose(smooth[90], values[87:94].mean())
  np.testing.assert_allclose(smooth[0], values[:4].mean())
  np.testing.assert_allclose(smooth[-1], values[-4:].mean())
