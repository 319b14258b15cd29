"""The metrics of a run, in `metrics.jsonl` and as TensorBoard events."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read(path: Path, last_step: int | None = None) -> list[dict[str, Any]]:
  """Reads the rows of a metrics file, up to a step; a last line that a crash has cut short is left out.

  Args:
    path: of the file; one that does not exist has no rows.
    last_step: the last step to read, None for all.

  Returns:
    The rows in the order of their steps, each with its 'step' and some metrics. Those with scores have
    their 'protocol' too, a string.
  """
  rows: list[dict[str, Any]] = []
  if not path.exists():
    return rows
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break
    if last_step is not None and row['step'] > last_step:
      break
    rows.append(row)
  return rows


def comparable(rows: Sequence[Mapping[str, Any]], score: str) -> list[Mapping[str, Any]]:
  """Returns the rows that have a score by the protocol of the last of them; no others can be compared."""
  scored = [row for row in rows if score in row]
  return [row for row in scored if row.get('protocol') == scored[-1].get('protocol')]


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

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Writes one row of metrics: numbers and strings."""
    self.rows.append({'step': step, **values})
    self._file.write(json.dumps(self.rows[-1]) + '\n')
    if self._events is not None:
      for name, value in values.items():
        add = self._events.add_text if isinstance(value, str) else self._events.add_scalar
        add(name, value, step)

  def add_image(self, step: int, image: np.ndarray) -> None:
    """Shows a picture, uint8 [H, W, C], in TensorBoard."""
    if self._events is not None:
      self._events.add_image('samples', image, step, dataformats='HWC')

  def close(self) -> None:
    """Writes what is still buffered and closes the files."""
    self._file.close()
    if self._events is not None:
      self._events.close()
