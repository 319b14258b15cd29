"""The metrics of a run, in `metrics.jsonl` and as TensorBoard events."""

import json
from pathlib import Path

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError


def read(path: Path, last_step: int | None = None) -> list[dict[str, float]]:
  """Reads the rows of a metrics file, up to a step; a last line that a crash has spoilt is left out.

  Args:
    path: of the file; one that does not exist has no rows.
    last_step: the last step to read, None for all.

  Returns:
    The rows in the order of their steps, each with its 'step' and some metrics.

  Raises:
    InputError: the file cannot be read, or another line than the last is no row of metrics.
  """
  rows: list[dict[str, float]] = []
  try:
    files.size(path)
    lines = path.read_bytes().splitlines()
  except FileNotFoundError:
    return rows
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}') from error
  for number, line in enumerate(lines, 1):
    row = _parse(line)
    if row is None and number < len(lines):
      raise InputError(f'{path}: line {number} is no row of metrics; remove it, or the file, to go on')
    if row is None or (last_step is not None and row['step'] > last_step):
      break
    rows.append(row)
  return rows


def _parse(line: bytes) -> dict[str, float] | None:
  """Returns the row of a line; None if it is no row."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get('step')) is not int:
    return None
  numbers = all(type(value) is float or (type(value) is int and abs(value) < 2**63) for value in row.values())
  return row if numbers and row['step'] >= 0 else None


class MetricsWriter:
  """A writer that appends rows to `metrics.jsonl` in the folder of a run, and TensorBoard events.

  Attributes:
    rows: all rows of the run, also those of earlier starts.
  """

  def __init__(self, folder: Path, step: int, tensorboard: bool):
    """Opens the files.

    Args:
      folder: of the run.
      step: that the run continues from; later rows, from a run that was killed, are dropped.
      tensorboard: whether to write TensorBoard events too.
    """
    path = folder / 'metrics.jsonl'
    self.rows = read(path, step)
    part = path.with_name(path.name + '.part')
    part.write_text(''.join(json.dumps(row) + '\n' for row in self.rows))
    part.replace(path)
    self._file = path.open('a', buffering=1)
    self._events = None
    if tensorboard:
      from tensorboardX import SummaryWriter  # slow to import

      self._events = SummaryWriter(str(folder / 'tensorboard'), purge_step=step + 1)

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes one row of metrics."""
    self.rows.append({'step': step, **values})
    self._file.write(json.dumps(self.rows[-1]) + '\n')
    if self._events is not None:
      for name, value in values.items():
        self._events.add_scalar(name, value, step)

  def add_image(self, step: int, image: np.ndarray) -> None:
    """Shows a picture, uint8 [H, W, C], in TensorBoard."""
    if self._events is not None:
      self._events.add_image('samples', image, step, dataformats='HWC')

  def close(self) -> None:
    """Writes what is still buffered and closes the files."""
    self._file.close()
    if self._events is not None:
      self._events.close()
