import json

import numpy as np
import pytest

from dcgan_jax.errors import InputError
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
  writer.add_image(1, np.zeros((4, 4, 3), np.uint8))
  writer.close()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  content = events.read_bytes()
  assert b'loss_d' in content and b'samples' in content


@pytest.mark.parametrize(
  'line',
  [
    'not JSON',
    '[1]',
    '{"loss_d": 1.0}',
    '{"step": "3"}',
    '{"step": -1}',
    '{"step": 2, "loss_d": "x"}',
    '{"step": 2, "loss_d": [1]}',
    '{"step": 2, "loss_d": ' + '9' * 400 + '}',
    '[' * 100_000,
    '\0\0\0',
  ],
)
def test_what_is_no_row_is_left_out_at_the_end_and_refused_elsewhere(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss_d": NaN}\n' + line)
  assert [row['step'] for row in metrics.read(path)] == [1]
  path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
  with pytest.raises(InputError, match=r'metrics\.jsonl: line 2 is no row of metrics'):
    metrics.read(path)


def test_metrics_that_cannot_be_read(tmp_path):
  assert metrics.read(tmp_path / 'metrics.jsonl') == []
  with pytest.raises(InputError, match='is a folder'):
    metrics.read(tmp_path)
  (tmp_path / 'bytes').write_bytes(b'\xff\xfe\n{"step": 1}\n')
  with pytest.raises(InputError, match='line 1'):
    metrics.read(tmp_path / 'bytes')
