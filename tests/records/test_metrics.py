import json
import struct
import time

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits_schedule

from configs import digits
from dcgan_jax import settings
from dcgan_jax.errors import InputError
from dcgan_jax.records import metrics, workdir
from dcgan_jax.records.writer import Writer


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


def test_a_run_that_goes_on_says_how_many_lines_are_spoilt(tmp_path, capsys):
  path, rows = tmp_path / 'metrics.jsonl', [f'{{"step": {step}}}\n' for step in range(4)]
  path.write_text(rows[0] + 'spoilt\n\n' + rows[1] + '{"step": 2, "lo\n' + rows[2] + rows[3] + 'cut')
  for step, spoilt in ((2, 3), (1, 2)):
    writer = metrics.MetricsWriter(tmp_path, step, tensorboard=False)
    writer.close()
    assert [row['step'] for row in writer.rows] == [*range(step + 1)]
    assert capsys.readouterr().out == f'{path}: skipped {spoilt} lines without a row of metrics\n'
  metrics.MetricsWriter(tmp_path, 0, tensorboard=False).close()
  assert capsys.readouterr().out == '' and path.read_text() == rows[0]


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


def _limit(size):
  """Limits the size of files, so that the disk refuses bytes as a full one does; returns how to undo it."""
  resource = pytest.importorskip('resource')
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_that_the_disk_does_not_take_are_written_later(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = metrics.MetricsWriter(tmp_path, 0, tensorboard=False)
  writer.write(1, {'loss_d': 0.5})
  undo = _limit(path.stat().st_size + 5)  # The next row fits in part.
  try:
    writer.write(2, {'loss_d': 0.25})
    writer.write(3, {'loss_d': 0.125})
    assert writer.problems == {'metrics.jsonl': 'File too large'}
  finally:
    undo()
  assert [row['step'] for row in metrics.read(path)] == [1]
  writer.write(4, {'loss_d': 0.0625})
  assert not writer.problems and [row['step'] for row in metrics.read(path)] == [1, 2, 3, 4]
  writer.close()


def test_tensorboard_survives_a_disk_that_takes_nothing(tmp_path):
  """Writes more events than tensorboardX keeps for its thread, which once died of the first."""
  writer = metrics.MetricsWriter(tmp_path, 0, tensorboard=True)
  undo = _limit(0)
  try:
    for step in range(50):
      writer.write(step, {'loss_d': 0.5})
  finally:
    undo()
  writer.close()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert events.read_bytes().count(b'loss_d') == 50
  assert [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == list(range(50))


def test_events_that_wait_for_a_disk_are_bounded_and_whole(tmp_path, monkeypatch):
  """Writes pictures to a disk that takes nothing; the first of them are on it in the end, and the last."""
  monkeypatch.setattr(metrics, 'MOST_EVENTS', 300_000)
  image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
  writer = metrics.MetricsWriter(tmp_path, 0, tensorboard=True)
  undo = _limit(0)
  try:
    for step in range(30):
      writer.add_image(step, image)
      writer._events.flush()
      time.sleep(0.01)  # Its thread may not have seen it yet.
    writer._events.flush()
    waiting = len(writer._files['tensorboard']._waiting)
    assert 200_000 < waiting <= 300_000
    reason = 'File too large; once 0 MiB are waiting, new data is dropped'
    assert writer.problems == {'tensorboard': reason}
  finally:
    undo()
  writer.write(99, {'loss_d': 0.5})
  writer.close()
  assert writer.problems == {}
  (events,) = (tmp_path / 'tensorboard').iterdir()
  content, records = events.read_bytes(), []
  while content:
    (size,) = struct.unpack('Q', content[:8])
    records.append(content[12 : 12 + size])
    content = content[16 + size :]
  assert b'brain.Event:2' in records[0] and b'loss_d' in records[-1]
  assert 5 < sum(b'samples' in record for record in records) < 30


def test_metrics_are_not_written_through_a_link(tmp_path):
  (tmp_path / 'diary').write_text('dear diary')
  (tmp_path / 'metrics.jsonl').symlink_to(tmp_path / 'diary')
  with pytest.raises(InputError, match='is a link'):
    metrics.MetricsWriter(tmp_path, 0, tensorboard=False)
  assert (tmp_path / 'diary').read_text() == 'dear diary'


def test_an_events_folder_that_cannot_be_made_is_said_once(tmp_path, capsys):
  (tmp_path / 'tensorboard').touch()
  chosen = settings.check(digits.get_config())
  writer = Writer(workdir.Place(tmp_path), chosen, digits_schedule(), 'fid', {})
  for step in range(3):
    writer.background.do(writer._write, step, {'loss_d': 0.5})
  writer.close()
  reason = 'File exists'
  assert capsys.readouterr().out.splitlines() == [
    f'step 0: tensorboard cannot be written: {reason}; will try again',
    f'tensorboard is not complete: {reason}',
  ]


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
def test_what_is_no_row_is_left_out(tmp_path, line):
  """Leaves it where it is in the middle of the file, and drops it at the end."""
  path, first = tmp_path / 'metrics.jsonl', '{"step": 1, "loss_d": NaN}\n'
  path.write_text(first + line)
  assert [row['step'] for row in metrics.read(path)] == [1]
  metrics.MetricsWriter(tmp_path, 5, tensorboard=False).close()
  assert path.read_text() == first
  path.write_text(first + line + '\n{"step": 3}\n{"step": 9}\n')
  writer = metrics.MetricsWriter(tmp_path, 5, tensorboard=False)
  writer.write(5, {'loss_d': 1.0})
  writer.close()
  assert [row['step'] for row in metrics.read(path)] == [1, 3, 5]


def test_metrics_that_cannot_be_read(tmp_path):
  assert metrics.read(tmp_path / 'metrics.jsonl') == []
  with pytest.raises(InputError, match='is a folder'):
    metrics.read(tmp_path)
  (tmp_path / 'bytes').write_bytes(b'\xff\xfe\n{"step": 1}\n')
  assert metrics.read(tmp_path / 'bytes') == [{'step': 1}]


def test_huge_metrics_are_not_read(tmp_path):
  with (tmp_path / 'metrics.jsonl').open('wb') as file:
    file.truncate(2**40)
  with pytest.raises(InputError, match='cannot be read: has 1,099,511,627,776 bytes, which is too large'):
    metrics.read(tmp_path / 'metrics.jsonl')


def test_rows_are_in_the_order_of_their_steps(tmp_path):
  written = [{'step': step} for step in (3, 1, 2, 1)]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in written))
  assert [row['step'] for row in metrics.read(tmp_path / 'metrics.jsonl')] == [1, 1, 2, 3]


def test_a_row_has_last_values_and_means():
  """Takes two programs, of 3 steps and of 1."""
  sums = [{'loss': jnp.float32(6.0)}, {'loss': jnp.float32(4.0)}]
  assert metrics.row({'loss': jnp.float32(4.0)}, sums, 4) == {'loss': 4.0, 'loss_mean': 2.5}
