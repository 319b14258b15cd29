"""Rows of metrics: in `metrics.jsonl`, as TensorBoard events, and at a tracker."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.records import tracking

if TYPE_CHECKING:  # slow to import, and nothing that only reads needs it
  from jax import Array

MOST_BYTES = 2**30  # of a metrics file; a million rows take a fifth of it
LARGEST = 2.0**128  # above all of float32, the dtype of metrics, which may be infinite or NaN
Values = Mapping[str, 'Array']  # float32 [] each, by name
MOST_EVENTS = 2**24  # bytes of events that wait for a full disk; rows have no limit


def row(last: Values, sums: Sequence[Values], steps: int) -> dict[str, float]:
  """Returns a row: the metrics of the last step and, as `NAME_mean`, their means over all steps of the row.

  Args:
    last: Metrics of the last step.
    sums: Sums of the metrics over the steps of each round.
    steps: Number of steps of all rounds.
  """
  import jax

  last, sums = jax.device_get((last, sums))
  means = {f'{name}_mean': float(sum(values[name] for values in sums)) / steps for name in last}
  return {name: float(value) for name, value in last.items()} | means


def read(path: Path, last_step: int | None = None) -> list[dict[str, Any]]:
  """Reads the rows of a metrics file up to a step; skips lines that are not rows, or not whole.

  Args:
    path: The file; it has no rows if it does not exist.
    last_step: Last step to read; None for all.

  Returns:
    The rows in the order of their steps, each with its 'step' and some metrics. Rows with scores also have
    their 'protocol', a string.

  Raises:
    InputError: The file cannot be read.
  """
  return _read(path, last_step)[0]


def _read(path: Path, last_step: int | None) -> tuple[list[dict[str, Any]], int, int]:
  """Returns the rows up to a step, the offset of their end, and the number of skipped lines before it."""
  rows: list[dict[str, Any]] = []
  size = end = spoilt = 0
  try:
    lines = files.read_bytes(path, MOST_BYTES).splitlines(keepends=True)
  except FileNotFoundError:
    return rows, 0, 0
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}') from error
  for number, line in enumerate(lines, 1):
    end += len(line)
    row = _parse(line)
    if row is None:
      continue
    if last_step is not None and row['step'] > last_step:
      break
    rows.append(row)
    size, spoilt = end, number - len(rows)
  rows.sort(key=lambda row: row['step'])  # They are in order unless somebody else has written to the file.
  return rows, size, spoilt


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns a dictionary whose keys are interned."""
  return {sys.intern(name): value for name, value in pairs}


def _parse(line: bytes) -> dict[str, Any] | None:
  """Returns the row of a line; None if it is not a row, or not whole."""
  try:
    # All rows share the strings of their names, which would otherwise take more memory than the numbers.
    row = json.loads(line, object_pairs_hook=_shared) if line.endswith(b'\n') else None
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get('step')) is not int or not 0 <= row['step'] < 2**31:
    return None
  for name, value in row.items():
    kind = type(value)
    if kind is float:
      fits = not LARGEST <= abs(value) < math.inf
    else:
      fits = -(2**63) < value < 2**63 if kind is int else kind is str and name == 'protocol'
    if not fits:
      return None
  return row


class Appender:
  """A file that only grows. What a full disk refuses is kept and tried again, and no line is cut.

  Attributes:
    problem: Why the last bytes are not on disk; '' if they are.
  """

  def __init__(self, path: Path, size: int = 0, most: float = math.inf):
    """Opens a file.

    Args:
      path: The file.
      size: Number of its bytes to keep.
      most: Maximum number of bytes that wait for the disk; further ones, from one `flush` to the next, are
        dropped.
    """
    self.problem = ''
    self._path, self._size, self._most = path, size, most
    self._file: BinaryIO | None = None
    self._waiting = bytearray()  # Bytes would be copied whole by each `write`.
    self._kept, self._dropped = 0, False  # waiting bytes that are never dropped; whether others were
    self.flush()

  def write(self, data: bytes) -> None:
    """Appends bytes, which `flush` writes."""
    self._waiting += data

  def flush(self) -> None:
    """Writes all waiting bytes, or none."""
    try:
      if self._file is None:
        self._path.parent.mkdir(exist_ok=True)
        # A workdir may be somebody else's, and a link in it may lead to a file of the user.
        self._file = open(self._path, 'ab', buffering=0, opener=_without_links)  # noqa: SIM115
      self._file.truncate(self._size)  # A write that failed may have left a part.
      done = 0
      with memoryview(self._waiting) as waiting:
        while done < len(waiting):
          done += self._file.write(waiting[done:])
      self._size += done
      self._waiting.clear()
      self.problem, self._dropped = '', False
    except OSError as error:
      self.problem = error.strerror or str(error)
      if len(self._waiting) > self._most:
        del self._waiting[self._kept :]
        self._dropped = True
      if self._dropped:
        self.problem += f'; once {self._most / 2**20:.0f} MiB are waiting, new data is dropped'
    self._kept = len(self._waiting)

  def close(self) -> None:
    """Writes all waiting bytes and closes the file."""
    self.flush()
    if self._file is not None:
      self._file.close()


def _without_links(path: str, flags: int) -> int:
  """Opens a file, but not through a link, where the platform can refuse one."""
  return os.open(path, flags | getattr(os, 'O_NOFOLLOW', 0), 0o666)


class _EventFiles:
  """Lets tensorboardX open its files as Appenders: its thread would die of a full disk, and block training.

  Attributes:
    last: The file opened last.
  """

  PREFIX = 'appender'
  last: Appender

  def directory_check(self, path: str) -> None:
    """Does nothing, because `Appender` creates the folder."""

  def open(self, path: str) -> Appender:
    """Opens a file, whose path follows the prefix and a colon."""
    self.last = Appender(Path(path.partition(':')[2]), most=MOST_EVENTS)
    return self.last


def words(name: str) -> str:
  """Returns the name of a metric in words, as logs have it; what scored is in the protocol."""
  return name.removeprefix('classifier_').replace('_', ' ')


def comparable(rows: Sequence[Mapping[str, Any]], score: str) -> list[Mapping[str, Any]]:
  """Returns the rows that have a score and the protocol of the last such row, which alone can be compared."""
  scored = [row for row in rows if score in row]
  return [row for row in scored if row.get('protocol') == scored[-1].get('protocol')]


class MetricsWriter:
  """Appends rows to `metrics.jsonl`, and sends them to TensorBoard and a tracker.

  Attributes:
    rows: All rows of the run, also those from before it was resumed.
  """

  def __init__(self, folder: Path, step: int, tensorboard: bool, tracker: str = 'none'):
    """Opens the files.

    Args:
      folder: The workdir.
      step: Step that the run resumes from; later rows, of a killed process, are dropped.
      tensorboard: Whether to write TensorBoard events.
      tracker: Service to send rows to, see `tracking`, or 'none'.
    """
    path = folder / 'metrics.jsonl'
    if path.is_symlink():
      raise InputError(f'{path}: is a link, and runs do not write through links; put the file itself there')
    self.rows, size, spoilt = _read(path, step)
    if spoilt:
      print(f'{path}: skipped {spoilt} line{"s" * (spoilt > 1)} without a row of metrics', flush=True)
    self._file = Appender(path, size)
    self._files = {path.name: self._file}
    self._events = None
    if tensorboard:
      from tensorboardX import SummaryWriter, record_writer  # slow to import

      opened = _EventFiles()
      record_writer.register_writer_factory(_EventFiles.PREFIX, opened)
      events = f'{_EventFiles.PREFIX}:{folder / "tensorboard"}'
      self._events = SummaryWriter(events, purge_step=step + 1)
      self._files['tensorboard'] = opened.last
    self._tracker = tracking.Tracker(folder, tracker) if tracker != 'none' else None

  @property
  def problems(self) -> dict[str, str]:
    """Why `metrics.jsonl` or TensorBoard's events are not on disk, by their names; {} if they are."""
    return {name: file.problem for name, file in self._files.items() if file.problem}

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Writes a row: numbers and strings."""
    self.rows.append({'step': step, **values})
    self._file.write(json.dumps(self.rows[-1]).encode() + b'\n')
    self._file.flush()
    if self._events is not None:
      for name, value in values.items():
        add = self._events.add_text if isinstance(value, str) else self._events.add_scalar
        add(name, value, step)
    if self._tracker is not None:
      self._tracker.write(step, values)

  def add_image(self, step: int, image: np.ndarray) -> None:
    """Sends a picture, uint8 [H, W, C], to TensorBoard and the tracker."""
    if self._events is not None:
      self._events.add_image('samples', image, step, dataformats='HWC')
    if self._tracker is not None:
      self._tracker.add_image(step, image)

  def close(self) -> None:
    """Writes everything and closes the files."""
    self._file.close()
    if self._events is not None:
      self._events.close()
    if self._tracker is not None:
      self._tracker.close()
