"""Data: a source is a sequence of uint8 images; the order of samples is a pure function of (seed, step).

Nothing here imports JAX or TensorFlow, except to download and prepare a tfds data set the first time.
"""

import functools
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan_jax.errors import InputError

Batches = Generator[np.ndarray, None, None]

ARRAY_RECORD = 'array_record'  # tfds's format with random access, read without TensorFlow
SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')
# What Pillow raises on a broken file: its own error, an early end, a broken chunk, a decompression bomb.
UNREADABLE = (
  UnidentifiedImageError,
  OSError,
  SyntaxError,
  ValueError,
  zlib.error,
  Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Fit:
  """How any picture becomes a training image of one size.

  Attributes:
    image_size: height and width in pixels.
    channels: 1 makes gray (luma), 3 makes RGB.
    mode: 'crop' takes the largest centred part of the right shape; 'squash' takes the whole.
    background: RGB, 0..255, that transparent pixels are laid on.
  """

  image_size: tuple[int, int]
  channels: int
  mode: str = 'crop'
  background: tuple[int, int, int] = (255, 255, 255)

  def __call__(self, image: Image.Image) -> np.ndarray:
    """Any Pillow image -> uint8 [H, W, channels]; resizing is bilinear and anti-aliased."""
    image = _to_eight_bits(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
      image = image.convert('RGBA')
      canvas = Image.new('RGBA', image.size, (*self.background, 255))
      image = Image.alpha_composite(canvas, image)
    image = image.convert('L' if self.channels == 1 else 'RGB')
    height, width = self.image_size
    if image.size != (width, height):
      if self.mode == 'crop':
        image = image.crop(self._centre(image.size))
      image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, self.channels)

  def _centre(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred part of the right shape: left, top, right, bottom, in pixels."""
    width, height = size
    scale = min(width / self.image_size[1], height / self.image_size[0])
    kept_width, kept_height = round(self.image_size[1] * scale), round(self.image_size[0] * scale)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def _to_eight_bits(image: Image.Image) -> Image.Image:
  """16-bit gray, which Pillow would clip rather than scale, to 8 bits."""
  if image.mode.startswith('I'):
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
  return image


class Source(Protocol):
  """Images by number, each made to fit."""

  @property
  def fit(self) -> Fit: ...

  def __len__(self) -> int: ...

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    """The images [H, W, C], uint8; None for one that cannot be decoded."""
    ...

  def name(self, index: int) -> str:
    """What to call an image when it cannot be decoded."""
    ...

  def identity(self) -> str:
    """Another one for other images, before they are made to fit."""
    ...

  def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each image, int32 [N], and the classes' names. Raises: InputError: it has none."""
    ...


@dataclass(frozen=True)
class Digits:
  """The 1,797 handwritten digits, 8x8 gray, that ship with scikit-learn (UCI optdigits, test part)."""

  fit: Fit

  def __len__(self) -> int:
    return 1797  # without importing scikit-learn, when the images are in the cache

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    return [self.fit(Image.fromarray(_digits()[i])) for i in indices]

  def name(self, index: int) -> str:
    return f'digit {index}'

  def identity(self) -> str:
    return 'digits'

  def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
    from sklearn import datasets

    return datasets.load_digits().target.astype(np.int32), tuple('0123456789')


@functools.cache
def _digits() -> np.ndarray:
  from sklearn import datasets  # slow to import

  return (datasets.load_digits().images * (255 / 16)).astype(np.uint8)


@dataclass(frozen=True)
class Folder:
  """A user's own image files."""

  paths: tuple[Path, ...]
  fit: Fit

  def __len__(self) -> int:
    return len(self.paths)

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    return [self._read_one(self.paths[i]) for i in indices]

  def _read_one(self, path: Path) -> np.ndarray | None:
    try:
      with Image.open(path) as image:
        return self.fit(image)
    except UNREADABLE:
      return None

  def name(self, index: int) -> str:
    return str(self.paths[index])

  def identity(self) -> str:
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
    return f'folder {hashlib.sha256(repr(files).encode()).hexdigest()}'

  def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
    """By the folders that the files lie in."""
    names = sorted({path.parent.name for path in self.paths})
    if len(names) < 2:
      raise InputError('data.source: its images have no classes; put those of each into a folder of its own')
    return np.array([names.index(path.parent.name) for path in self.paths], np.int32), tuple(names)


@dataclass(frozen=True)
class Tfds:
  """A prepared tfds data set, read through `tfds.data_source` without TensorFlow."""

  records: Any  # random access to {image_key: encoded bytes}
  image_key: str
  origin: str  # folder of the prepared data set and split
  fit: Fit
  label_names: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.records)

  def read(self, indices: Sequence[int]) -> list[np.ndarray | None]:
    # read in bulk and decoded here: 10 times the speed of tfds's own record by record
    records = self.records.__getitems__([int(i) for i in indices])
    return [self._decode(record[self.image_key]) for record in records]

  def _decode(self, encoded: bytes) -> np.ndarray | None:
    try:
      return self.fit(Image.open(io.BytesIO(encoded)))
    except UNREADABLE:
      return None

  def name(self, index: int) -> str:
    return f'record {index}'

  def identity(self) -> str:
    return f'tfds {self.origin} {self.image_key} {len(self)}'

  def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
    if not self.label_names:
      raise InputError('data.source: this tfds data set has no feature "label" of classes')
    chunks = np.array_split(np.arange(len(self)), max(1, len(self) // 1024))
    records = (record for chunk in chunks for record in self.records.__getitems__([int(i) for i in chunk]))
    return np.fromiter((record['label'] for record in records), np.int32, len(self)), self.label_names


def open_source(source: str, split: str, fit: Fit) -> Source:
  """Opens a source; downloads and prepares a tfds data set that is not on this machine yet.

  Args:
    source: 'digits' | 'tfds:NAME' | 'folder:PATH'.
    split: of a tfds data set, in its own notation ('train', 'train[:10%]').
    fit: what to make of each image.

  Raises:
    InputError: no such source, or it has no images that could be used.
  """
  kind, _, rest = source.partition(':')
  if source == 'digits':
    if fit.channels != 1:
      raise InputError(f'data.channels={fit.channels}: the digits are gray; set it to 1')
    return Digits(fit)
  if kind == 'folder' and rest:
    return open_folder(Path(rest).expanduser(), fit)
  if kind == 'tfds' and rest:
    return open_tfds(rest, split, fit)
  raise InputError(f'data.source={source!r}: choose digits, tfds:NAME or folder:PATH')


def open_folder(folder: Path, fit: Fit) -> Folder:
  """The images below a folder, sorted by path; files that are no image by their header are listed.

  Raises:
    InputError: no such folder, or no readable image in it.
  """
  if not folder.is_dir():
    raise InputError(f'data.source=folder:{folder}: no such folder')
  files = sorted(p for p in folder.rglob('*') if p.is_file() and not p.name.startswith('.'))
  candidates = [p for p in files if p.suffix.lower() in SUFFIXES]
  with ThreadPoolExecutor() as pool:
    readable = list(pool.map(_has_image_header, candidates))
  paths = tuple(p for p, ok in zip(candidates, readable) if ok)
  if not paths:
    raise InputError(
      f'data.source=folder:{folder}: no readable image among its {len(files)} files '
      f'(looked for {", ".join(s[1:].upper() for s in SUFFIXES)}, also in its subfolders)'
    )
  others = [p for p in files if p.suffix.lower() not in SUFFIXES]
  if others:
    print(f'{folder}: {len(others)} files are no images by their suffix, e.g. {others[0].name}', flush=True)
  report_unreadable([str(p) for p, ok in zip(candidates, readable) if not ok])
  return Folder(paths, fit)


def _has_image_header(path: Path) -> bool:
  try:
    with Image.open(path):
      return True
  except UNREADABLE:
    return False


def report_unreadable(names: list[str]) -> None:
  """Lists by name the files that are skipped, the first twenty of many."""
  if names:
    shown = ', '.join(names[:20]) + (' ...' if len(names) > 20 else '')
    print(f'skipped {len(names)} unreadable: {shown}', flush=True)


def open_tfds(name: str, split: str, fit: Fit) -> Tfds:
  """A tfds data set from `TFDS_DATA_DIR` (default ~/tensorflow_datasets), prepared there if need be.

  Raises:
    InputError: no such data set or split, no images in it, or it could not be prepared.
  """
  import tensorflow_datasets as tfds

  field = f'data.source=tfds:{name}'
  try:
    builder = tfds.builder(name, data_dir=os.environ.get('TFDS_DATA_DIR'), try_gcs=False)
  except tfds.core.registered.DatasetNotFoundError:
    close = ', '.join(_close_names(name, tfds.list_builders(with_community_datasets=False)))
    hint = f'did you mean {close}?' if close else 'names: tensorflow.org/datasets/catalog'
    raise InputError(f'{field}: no such tfds data set; {hint}') from None
  except (ValueError, AssertionError, TypeError) as error:
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


def _prepare(builder: Any, field: str) -> None:
  """Downloads a data set, or converts one prepared as TFRecord: here alone TensorFlow is imported."""
  missing = _missing_shards(builder) if builder.is_prepared() else None
  if missing is None or missing:
    try:
      os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
      import tensorflow  # noqa: F401
    except ImportError:
      raise InputError(
        f'{field}: not prepared as ArrayRecord in {builder.data_path}, and preparing it needs TensorFlow, '
        f'which is not installed for this Python {sys.version_info.major}.{sys.version_info.minor}: '
        'run once where `pip install tensorflow` works and copy that folder, or set TFDS_DATA_DIR to it'
      ) from None
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
        builder.download_and_prepare(file_format=ARRAY_RECORD)
    except Exception as error:  # whatever the network, the disk or a data set's own code raises
      raise InputError(f'{field}: could not be prepared: {_first_line(error)}') from error
  if builder.info.file_format.value != ARRAY_RECORD:
    builder.info.add_alternative_file_format(ARRAY_RECORD)


def _missing_shards(builder: Any) -> dict[Path, Path]:
  """Shards of a prepared data set that are not there as ArrayRecord, to where they would be."""
  suffix = builder.info.file_format.file_suffix
  shards = [Path(path) for split in builder.info.splits.values() for path in split.filepaths]
  targets = {
    shard: shard.with_name(shard.name.replace(f'.{suffix}-', f'.{ARRAY_RECORD}-')) for shard in shards
  }
  return {shard: target for shard, target in targets.items() if not target.exists()}


def _write_array_records(shards: dict[Path, Path], file_format: Any) -> None:
  """Beside the old shards, which stay for other projects."""
  from tensorflow_datasets.core import file_adapters

  adapters = file_adapters.ADAPTER_FOR_FORMAT
  writer = adapters[file_adapters.FileFormat.ARRAY_RECORD]
  for shard, target in shards.items():
    part = target.with_name(target.name + '.part')
    records = adapters[file_format].make_tf_data(str(shard))
    writer.write_examples(str(part), ((i, record.numpy()) for i, record in enumerate(records)))
    part.replace(target)


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:300] if lines else type(error).__name__


def _close_names(name: str, names: list[str]) -> list[str]:
  import difflib

  return difflib.get_close_matches(name, names, 3)


def load(source: Source, title: str) -> tuple[np.ndarray, list[str]]:
  """Decodes a whole source into memory, in threads, with a progress bar on a terminal.

  Returns:
    uint8 [N, H, W, C]; and the names of images that cannot be decoded, which are left out and listed.

  Raises:
    InputError: not one could be decoded.
  """
  from tqdm import tqdm

  count, fit = len(source), source.fit
  images = np.empty((count, *fit.image_size, fit.channels), np.uint8)
  readable = np.ones(count, bool)
  chunks = np.array_split(np.arange(count), max(1, count // 256))
  with ThreadPoolExecutor() as pool, tqdm(total=count, desc=title, unit='image', disable=None) as bar:
    for indices, chunk in zip(chunks, pool.map(source.read, chunks)):
      for i, image in zip(indices, chunk):
        if image is None:
          readable[i] = False
        else:
          images[i] = image
      bar.update(len(chunk))
  if not readable.any():
    raise InputError(f'data.source={title}: none of its {count} images can be decoded, e.g. {source.name(0)}')
  skipped = [source.name(int(i)) for i in np.flatnonzero(~readable)]
  report_unreadable(skipped)
  return (images[readable] if skipped else images), skipped


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
  """The order of an epoch: a permutation of range(count) that depends on (seed, epoch) alone."""
  return np.random.default_rng([seed, epoch]).permutation(count)


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
  """The images of a step's batch, int32 [batch_size]; batches run on across the ends of epochs."""
  epochs, offsets = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
  parts = [epoch_order(seed, int(e), count)[offsets[epochs == e]] for e in np.unique(epochs)]
  return np.concatenate(parts).astype(np.int32)


def batches_streamed(
  source: Source, seed: int, step: int, batch_size: int, workers: int, rows: slice | None = None
) -> Batches:
  """Rows of the images of `batch_indices` for step, step + 1, ... without end, read ahead by Grain.

  Args:
    source: picklable when there are workers.
    seed: of the order.
    step: to start from.
    batch_size: global.
    workers: processes; 0 reads in threads of this one.
    rows: of each global batch, which alone are read; None for all.

  Yields:
    uint8 [rows, H, W, C].
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # in a notebook or a test; Grain's workers insist
  rows = rows or slice(0, batch_size)
  count = rows.stop - rows.start
  own = grain.MapDataset.range(step * count, sys.maxsize // 2)
  positions = own.map(functools.partial(_global_position, batch_size, rows))
  images = positions.map(functools.partial(_read_at, source, seed)).batch(count)
  stream = images.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=8))
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  iterator = iter(stream)
  try:
    yield from iterator
  finally:
    iterator.close()


def _global_position(batch_size: int, rows: slice, position: int) -> int:
  """Of an image among all, from that among those of these rows of each batch."""
  step, row = divmod(position, rows.stop - rows.start)
  return step * batch_size + rows.start + row


def _read_at(source: Source, seed: int, position: int) -> np.ndarray:
  """The image at a position; one that cannot be decoded is replaced by the next that can."""
  index = int(batch_indices(seed, position, 1, len(source))[0])
  for i in range(index, index + len(source)):
    image = source.read([i % len(source)])[0]
    if image is not None:
      return image
    report_unreadable([source.name(i % len(source))])
  raise InputError('data.source: none of its images can be decoded')
