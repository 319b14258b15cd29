import json

import numpy as np

from dcgan_jax.journal import metrics


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
  writer.write(2, {'fid': 3.5, 'protocol': 'samples=10'})
  writer.add_image(1, np.zeros((4, 4, 3), np.uint8))
  writer.close()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  content = events.read_bytes()
  for text in (b'loss_d', b'samples', b'fid', b'protocol', b'samples=10'):
    assert text in content
  rows = metrics.read(tmp_path / 'metrics.jsonl')
  assert rows[1] == {'step': 2, 'fid': 3.5, 'protocol': 'samples=10'}


def test_only_scores_of_the_last_protocol_are_compared():
  old, a, b = {'fid': 1.0}, {'fid': 2.0, 'protocol': 'a'}, {'fid': 3.0, 'protocol': 'b'}
  losses = {'loss_d': 0.5}
  assert metrics.comparable([old, a, losses, b, a, losses], 'fid') == [a, a]
  assert metrics.comparable([a, old, losses], 'fid') == [old]
  assert metrics.comparable([losses], 'fid') == []
