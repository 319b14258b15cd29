"""TensorFlow Datasets (tfds). TensorFlow itself is imported only to prepare a data set."""

import difflib
import importlib.util
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcgan_jax import files, threads
from dcgan_jax.data import decode, download
from dcgan_jax.data.decode import Fit
from dcgan_jax.data.labels import Labels
from dcgan_jax.errors import InputError

# Valid names after tfds:. Other notations of tfds would fetch code or data from elsewhere.
NAME = re.compile(r'\w+(/[\w.+=-]+)?(:[\d*]+\.[\d*]+\.[\d*]+)?')
ARRAY_RECORD = 'array_record'  # the tfds format with random access without TensorFlow


@dataclass(frozen=True)
class Tfds:
  """A prepared tfds data set, read through `tfds.data_source` without TensorFlow.

  Attributes:
    records: Random access to dictionaries with encoded bytes at `image_key`.
    image_key: Name of the image feature.
    origin: Folder of the prepared data set, and split.
    fit: How images are converted to the training size.
    label_names: Class names of the feature "label"; () without one.
  """

  records: Any
  image_key: str
  origin: str
  fit: Fit
  label_names: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.records)

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    # Reading in bulk and decoding here is 10 times faster than in tfds, which does both record by record.
    records = self.records.__getitems__([int(i) for i in indices])
    return [decode.read(io.BytesIO(record[self.image_key]), self.fit) for record in records]

  def name(self, index: int) -> str:
    return f'record {index}'

  def identity(self) -> str:
    return f'tfds {self.origin} {self.image_key} {len(self)}'

  def labels(self) -> Labels:
    """Takes the feature "label" as the class.

    Raises:
      InputError: The feature is missing, or some images are unlabelled, as in splits with secret labels.
    """
    if not self.label_names:
      raise InputError('data.source: this tfds data set has no feature "label" of classes')
    wrong = np.flatnonzero((self._numbers < 0) | (self._numbers >= len(self.label_names)))
    if len(wrong):
      raise InputError(
        f'data.source: {len(wrong)} of the {len(self)} images of {self.origin} have no class, because their '
        f'labels are not from 0 to {len(self.label_names) - 1}, e.g. {self._numbers[wrong[0]]} of '
        f'{self.name(wrong[0])}; choose another split or data set'
      )
    return Labels(self._numbers, self.label_names)

  @threads.cached_property
  def _numbers(self) -> np.ndarray:
    """Raw labels of the records, int32 [N]; cached, because reading them takes seconds."""
    chunks = np.array_split(np.arange(len(self)), max(1, len(self) // 1024))
    records = (record for chunk in chunks for record in self.records.__getitems__([int(i) for i in chunk]))
    return np.fromiter((record['label'] for record in records), np.int32, len(self))


def open_tfds(name: str, split: str, fit: Fit) -> Tfds:
  """Opens a tfds data set in `TFDS_DATA_DIR` (default ~/tensorflow_datasets); prepares it if necessary.

  Args:
    name: Name of the data set, optionally with config and version ('cifar10', 'cifar10:3.0.2').
    split: Split in tfds notation.
    fit: How images are converted to the training size.

  Raises:
    InputError: The data set or split does not exist, has no images, or cannot be prepared.
  """
  import tensorflow_datasets as tfds

  field = f'data.source=tfds:{name}'
  if not NAME.fullmatch(name):
    raise InputError(f'{field}: is no name; give NAME, NAME/CONFIG or NAME:VERSION, e.g. tfds:mnist:3.0.1')
  logging.getLogger('absl').setLevel(logging.ERROR)  # tfds warns about folders that do not exist yet.
  try:
    builder = tfds.builder(name, data_dir=os.environ.get('TFDS_DATA_DIR'), try_gcs=False)
  except tfds.core.registered.DatasetNotFoundError:
    close = ', '.join(
      difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), 3, 0.7)
    )
    hint = f'did you mean {close}?' if close else 'names: tensorflow.org/datasets/catalog'
    raise InputError(f'{field}: no such tfds data set; {hint}') from None
  except (ValueError, AssertionError, TypeError, OSError) as error:
    raise InputError(f'{field}: {_first_line(error)}') from None

  keys = [k for k, f in builder.info.features.items() if isinstance(f, tfds.features.Image)]
  if not keys:
    raise InputError(f'{field}: has no images; its features are {", ".join(builder.info.features)}')
  image_key = 'image' if 'image' in keys else keys[0]
  if builder.info.features[image_key].shape[-1] == 1 and fit.channels != 1:
    raise InputError(f'data.channels={fit.channels}: the images of {name} are gray; set it to 1')

  _prepare(builder, field)
  decoders = {image_key: tfds.decode.SkipDecoding()}
  try:
    records = builder.as_data_source(split, decoders=decoders)
  except (ValueError, KeyError) as error:
    splits = ', '.join(builder.info.splits)
    raise InputError(f'data.split={split!r}: {_first_line(error)}; {name} has {splits}') from None
  label = dict(builder.info.features.items()).get('label')
  names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else ()
  return Tfds(records, image_key, f'{builder.data_path} {split}', fit, names)


def count_prepared(name: str, split: str) -> int | None:
  """Returns the number of images in a split; None if it does not exist or is not prepared on this machine.

  Args:
    name: Name of the data set, as for `open_tfds`.
    split: Split in tfds notation.
  """
  import tensorflow_datasets as tfds

  if not NAME.fullmatch(name):
    return None
  logging.getLogger('absl').setLevel(logging.ERROR)
  try:
    builder = tfds.builder(name, data_dir=os.environ.get('TFDS_DATA_DIR'), try_gcs=False)
    return builder.info.splits[split].num_examples if builder.is_prepared() else None
  except (ValueError, AssertionError, TypeError, OSError, KeyError):  # `open_tfds` reports what is wrong.
    return None


def _prepare(builder: Any, field: str) -> None:
  """Downloads a missing data set, or converts one that was prepared as TFRecord.

  Nothing else imports TensorFlow.

  Raises:
    InputError: There is no home folder, TensorFlow is not installed, or the preparation fails.
  """
  missing = _missing_shards(builder) if builder.is_prepared() else None
  if missing is None or missing:
    if not missing:
      if str(builder.data_path).startswith('~'):
        raise InputError(
          f'{field}: there is no home folder for {builder.data_path}; set TFDS_DATA_DIR to another'
        )
      _check_network(builder, field)
    _import_tensorflow(builder, field)
    try:
      if missing:
        print(f'{builder.data_path}: writing its TFRecords again as ArrayRecord', flush=True)
        _write_array_records(missing, builder.info.file_format)
      else:
        size = builder.info.download_size or 'unknown size'
        print(
          f'downloading {builder.name} ({size}, see {builder.info.homepage}) to {builder.data_path}',
          flush=True,
        )
        # urllib3 would warn about each of ten attempts before tfds reports the error.
        logging.getLogger('urllib3').setLevel(logging.ERROR)
        builder.download_and_prepare(file_format=ARRAY_RECORD)
    except Exception as error:  # The network, the disk and the code of the data set may raise anything.
      raise InputError(
        f'{field}: could not be prepared in {builder.data_path}: {_first_line(error)}'
      ) from error
  if builder.info.file_format.value != ARRAY_RECORD:
    builder.info.add_alternative_file_format(ARRAY_RECORD)


def _check_network(builder: Any, field: str) -> None:
  """Refuses a download without a network at once, where tfds would retry for minutes.

  Raises:
    InputError: No host of the data set can be reached; the message says how to get it otherwise.
  """
  if importlib.util.find_spec('tensorflow') is None:
    return  # `_import_tensorflow` reports this first.
  reason = download.why_unreachable(builder.url_infos or ())
  if reason:
    name = field.removeprefix('data.source=tfds:')
    raise InputError(
      f'{field}: is not in {os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"} and cannot be '
      f'downloaded: {reason}; set TFDS_DATA_DIR to a folder that has it, or make one where there is a '
      f"network, by python -c \"import tensorflow_datasets as t; t.builder('{name}', data_dir='FOLDER')"
      f".download_and_prepare(file_format='{ARRAY_RECORD}')\", and copy it"
    )


def _import_tensorflow(builder: Any, field: str) -> None:
  """Imports TensorFlow without its messages about this machine.

  Raises:
    InputError: TensorFlow is not installed.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  try:
    import tensorflow  # noqa: F401
  except ImportError:
    raise InputError(
      f'{field}: not prepared as ArrayRecord in {builder.data_path}, and preparing it needs TensorFlow, '
      f'which is not installed for this Python {sys.version_info.major}.{sys.version_info.minor}: '
      'run once where `pip install tensorflow` works and copy that folder, or set TFDS_DATA_DIR to it'
    ) from None


def _missing_shards(builder: Any) -> dict[Path, Path]:
  """Maps the shards that are missing as ArrayRecord to the paths that they will have."""
  suffix = builder.info.file_format.file_suffix
  shards = [Path(path) for split in builder.info.splits.values() for path in split.filepaths]
  targets = {
    shard: shard.with_name(shard.name.replace(f'.{suffix}-', f'.{ARRAY_RECORD}-')) for shard in shards
  }
  return {shard: target for shard, target in targets.items() if not target.exists()}


def _write_array_records(shards: dict[Path, Path], file_format: Any) -> None:
  """Converts shards to ArrayRecord beside the old ones, which stay for other projects."""
  from tensorflow_datasets.core import file_adapters

  adapters = file_adapters.ADAPTER_FOR_FORMAT
  writer = adapters[file_adapters.FileFormat.ARRAY_RECORD]
  for shard, target in shards.items():
    records = adapters[file_format].make_tf_data(str(shard))
    with files.whole(target) as part:
      writer.write_examples(str(part), ((i, record.numpy()) for i, record in enumerate(records)))


def _first_line(error: BaseException) -> str:
  """Returns the first line of an error's message, or its type if it has none."""
  lines = str(error).strip().splitlines()
  return lines[0][:300] if lines else type(error).__name__
