"""Seeded inputs for `benchmarks.fuzz`: odd text, valid files of each kind, and ways to corrupt them."""

import io
import itertools
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcgan_jax import settings

Random = np.random.Generator
Act = Callable[[], Any]
ROOT = Path(__file__).parents[1]

ODD = [
  '', ' ', '0', '-1', '1e999', 'nan', '-inf', '9' * 5000, '²', '٣', '1_000', '0x10', '1.5', '2**31',
  '4294967296', 'None', 'True', 'maybe', 'a' * 3000, '../../etc/passwd', '/dev/zero', '/dev/null',
  '~nobody_here/x', '~', '.', '/', 'a\nb', '\x1b[31mred', '\udcff', 'é', '(' * 5000, '-' * 5000 + '1',
  '[' * 300 + ']' * 300, '(1,', '(8, 6)', '()', '(8,)', '(0,)', '(8, -1)', "('8',)", '(1e9, 2)', '[4, 4]',
  '{}', '{1: 2}', 'digits', 'tfds:', 'folder:', 'stacked:', 'stacked:stacked:digits',
  'folder:/nonexistent', 'folder:/dev', 'train', 'train[:10%]', 'hinge', 'minimax', 'cutout',
  'color,,color', 'crop', 'same', 'lambda: 0', '__import__("os")', 'configs/digits.py', 'configs',
  'README.md', '%s%n',
]  # fmt: skip
PLAUSIBLE = [
  *(
    '0',
    '1',
    '2',
    '3',
    '4',
    '8',
    '16',
    '64',
    '0.5',
    '0.9',
    '1e-3',
    'True',
    'False',
    '(8, 6)',
    '(2, 2)',
    '(True, False)',
  ),
  *(
    '(1,)',
    '(8,)',
    '(64, 64)',
    '(0, 0, 0)',
    'normal',
    'glorot',
    'same',
    'symmetric',
    'concat',
    'projection',
    'last',
  ),
]
# A picture (EPS) that is an endless program.
EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{ } loop\n%%EOF\n'
NUMBERS = [0, 1, 2, 3, 7, 8, 64, 255, 256, -1, 2**15, 2**31 - 1, 2**31, 2**32, 2**63, -(2**63), 10**30]
KEYS = [line.partition('=')[0].removeprefix('--config.') for line in settings.help_lines()]


def pick(random: Random, choices: Any) -> Any:
  """Returns a random choice."""
  return choices[random.integers(len(choices))]


def text(random: Random) -> str:
  """Returns odd text or random characters, without NUL, which process arguments cannot contain."""
  if random.random() < 0.7:
    return pick(random, ODD)
  return ''.join(chr(c) for c in random.integers(1, pick(random, [128, 0x3000]), random.integers(1, 30)))


def value(random: Random, depth: int = 3) -> Any:
  """Returns a random JSON value."""
  kind = random.integers(8 if depth else 6)
  if kind == 6:
    return [value(random, depth - 1) for _ in range(random.integers(4))]
  if kind == 7:
    return {text(random): value(random, depth - 1) for _ in range(random.integers(4))}
  number = pick(random, NUMBERS)
  return (number, float(number) / 3, text(random), None, bool(number % 2), float('nan'))[kind]


def spoil(random: Random, content: bytes) -> bytes:
  """Returns a file with some bytes changed, lost or doubled; sometimes unchanged."""
  data = bytearray(content)
  for _ in range(random.integers(1, 5)):
    start = int(random.integers(len(data) + 1))
    # Headers matter most.
    start = start if random.random() < 0.5 else min(start, int(random.integers(1, 200)))
    length = int(random.integers(1, 9))
    kind = random.integers(9)
    if kind <= 2:
      data[start : start + length] = random.bytes(length)
    elif kind == 3:
      extreme = pick(random, [b'\xff' * 4, b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f', bytes(4), b'\0\0\x80\0'])
      data[start : start + 4] = extreme
    elif kind == 4:
      del data[start:]
    elif kind == 5:
      del data[start : start + length]
    elif kind == 6:
      data[start:start] = data[start : start + length * 16]
    elif kind == 7:
      data[start : start + length * 16] = bytes(length * 16)
  return bytes(data)


def image(random: Random) -> bytes:
  """Returns an encoded image of a random mode and format, or a bomb: a few bytes that claim to be large."""
  if random.random() < 0.1:
    return bomb(*(int(pick(random, [0, 1, 2, 300, 9_000, 9_400, 20_000, 2**31 - 1])) for _ in range(2)))
  width, height = (int(n) for n in random.integers(1, 40, 2))
  mode = pick(random, ['L', 'RGB', 'RGBA', 'P', '1', 'LA', 'I;16', 'CMYK'])
  channels = {'RGB': 3, 'RGBA': 4, 'LA': 2, 'CMYK': 4}.get(mode)
  shape = (height, width, channels) if channels else (height, width)
  pixels = random.integers(0, 256, shape, np.uint8)
  if mode == 'I;16':
    made = Image.fromarray(pixels.astype(np.uint16) * 200)
  elif channels:
    made = Image.frombytes(mode, (width, height), pixels.tobytes())
  else:
    made = Image.fromarray(pixels).convert(mode)
  options = {}
  if random.random() < 0.3:
    exif = Image.Exif()
    exif[274] = int(random.integers(0, 12))
    options['exif'] = exif.tobytes()
  stream = io.BytesIO()
  name = pick(random, ['PNG', 'JPEG', 'GIF', 'WEBP', 'BMP'])
  try:
    made.save(stream, name, **options)
  except (OSError, ValueError):  # The format does not support the mode.
    made.convert('RGB').save(stream, name)
  return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
  """Returns a PNG that contains at most 100 million black pixels."""

  def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

  rows = zlib.compress(bytes(min((width // 8 + 2) * height, 10**8)), 1)
  header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def npy(random: Random, array: np.ndarray) -> bytes:
  """Returns an array as .npy: unchanged, corrupted or with another header."""
  stream = io.BytesIO()
  np.save(stream, array)
  content = stream.getvalue()
  kind = random.random()
  if kind < 0.2:
    return content
  if kind < 0.6:
    return spoil(random, content)
  shape = tuple(int(pick(random, NUMBERS)) for _ in range(random.integers(5)))
  descr = pick(
    random, ["'<f4'", "'|O'", "'<U9'", "'<f8'", "'>f2'", "'|u1'", "[('a', '<f4')]", "'<M8[s]'", "'<c8'"]
  )
  header = f"{{'descr': {descr}, 'fortran_order': {pick(random, [True, False, 3])}, 'shape': {shape}, }}"
  header = pick(random, [header, header, header, '(' * 2000, text(random), header.replace(',', 'L,')]) + '\n'
  encoded = header.encode('latin1', 'replace')
  version = pick(random, [(1, 0), (1, 0), (2, 0), (3, 0), (9, 9)])
  length = struct.pack('<H' if version == (1, 0) else '<I', len(encoded) % 2**16)
  return b'\x93NUMPY' + bytes(version) + length + encoded + array.tobytes()


def npz(random: Random, arrays: dict[str, np.ndarray]) -> bytes:
  """Returns arrays as .npz, some of them corrupted, and maybe the archive too."""
  stream = io.BytesIO()
  method = pick(random, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
  with zipfile.ZipFile(stream, 'w', method) as archive:
    for name, array in arrays.items():
      if random.random() < 0.95:
        archive.writestr(pick(random, [f'{name}.npy'] * 9 + ['../x.npy']), npy(random, array))
  content = stream.getvalue()
  return spoil(random, content) if random.random() < 0.4 else content


def torch_zip(random: Random, tensors: dict[str, np.ndarray]) -> bytes:
  """Returns a file as written by `torch.save`; some tensors may have other shapes, strides or offsets."""
  stream = io.BytesIO()
  entries = []
  method = pick(random, [zipfile.ZIP_STORED] * 9 + [zipfile.ZIP_DEFLATED])
  with zipfile.ZipFile(stream, 'w', method) as archive:
    for i, (name, array) in enumerate(tensors.items()):
      strides = tuple(s // array.itemsize for s in array.strides)
      entry = [name, str(i), 0, array.shape, strides, 'FloatStorage']
      if random.random() < 0.04:
        place = int(random.integers(6))
        wrong = (text(random), str(i + 1), pick(random, NUMBERS), _numbers(random), _numbers(random))
        entry[place] = (*wrong, pick(random, ['DoubleStorage', 'BFloat16Storage', 'HalfStorage', 'Evil']))[
          place
        ]
      entries.append(entry)
      archive.writestr(f'x/data/{i}', array.tobytes())
    pickled = torch_pickle(entries)
    archive.writestr('x/data.pkl', spoil(random, pickled) if random.random() < 0.3 else pickled)
  content = stream.getvalue()
  return spoil(random, content) if random.random() < 0.3 else content


def _numbers(random: Random) -> tuple[int, ...]:
  return tuple(int(pick(random, NUMBERS)) for _ in range(random.integers(5)))


def torch_pickle(entries: list[Any]) -> bytes:
  """Returns the pickle of a state dict.

  Args:
    entries: Name, storage key, offset, shape, strides and type of each tensor.
  """

  def dump(content: Any) -> bytes:
    return pickle.dumps(content, 2)[2:-1]  # without its header and end

  made = b'\x80\x02ccollections\nOrderedDict\n)R('
  for name, key, offset, shape, strides, kind in entries:
    made += dump(name) + b'ctorch._utils\n_rebuild_tensor_v2\n((' + dump('storage')
    made += f'ctorch\n{kind}\n'.encode() + dump(key) + dump('cpu') + dump(0) + b'tQ'
    made += dump(offset) + dump(shape) + dump(strides) + b'\x89' + b'ccollections\nOrderedDict\n)RtR'
  return made + b'u.'


def crafted_pickle(random: Random) -> bytes:
  """Returns a pickle crafted to exhaust memory or time, or to crash Python's own unpickler."""
  # A tuple of the same tuple twice, and so on: hashing or printing it visits 2**60 of them.
  deep = b')' + b''.join(b'q%ch%c\x86' % (i, i) for i in range(100, 160))
  huge = b'\x8b' + struct.pack('<i', 400_000) + b'\x7f' * 400_000  # an integer of a million digits
  name, number, one = b'X\x01\0\0\0a', b'K\x01', b'K\x01\x85'
  rebuild = b'ctorch._utils\n_rebuild_tensor_v2\n'
  ordered, plain = b'ccollections\nOrderedDict\n', b'cbuiltins\ndict\n'

  def storage(kind: bytes = b'ctorch\nFloatStorage\n', key: bytes = b'X\x01\0\0\x000') -> bytes:
    return b'(X\x07\0\0\0storage' + kind + key + b'X\x03\0\0\0cpuK\x00tQ'

  def tensor(of: bytes, offset: bytes = b'K\x00', shape: bytes = one, strides: bytes = one) -> bytes:
    arguments = b'(' + of + offset + shape + strides + b'\x89' + ordered + b')Rt'
    return b'}' + name + rebuild + arguments + b'Rs.'

  def again(what: bytes, function: bytes, arguments: bytes) -> bytes:
    """Calls a function 2,000 times with a large argument."""
    return what + b'q\x000' + function + b'q\x010' + (b'h\x01' + arguments + b'R0') * 2000 + b'}.'

  pairs = b'](' + b''.join(b'J' + struct.pack('<i', i) + b'N\x86' for i in range(50_000)) + b'e'
  return b'\x80\x02' + pick(random, [
    b'}' + deep + b'Ns.',  # a key
    b'}(' + deep + b'Nu.',
    ordered + b')R' + deep + b'Ns.',
    ordered + b'](' + deep + b'N\x86e\x85R.',  # one of pairs
    plain + b'](' + deep + b'N\x86e\x85R.',
    deep + name + b'\x93.',  # a name
    b'X\x05\0\0\0torch' + deep + b'\x93.',
    deep + b'Q.',  # a persistent ID
    b'(' + deep + deep + deep + b'tQ.',
    tensor(storage(kind=deep)),
    tensor(storage(key=deep)),
    tensor(storage(key=huge)),
    tensor(deep),
    tensor(storage(), offset=deep),
    tensor(storage(), offset=huge),
    tensor(storage(), shape=deep),
    tensor(storage(), shape=huge + b'\x85'),
    tensor(storage(), strides=huge + b'\x85'),
    b'}' + name + deep + b's.',  # a value
    b'}' + name + huge + b's.',
    b'}' + huge + number + b's.',
    deep + b'.',
    again(pairs, ordered, b'h\x00\x85'),
    again(pairs, plain, b'h\x00\x85'),
    again(b'(' + number * 50_000 + b't', rebuild, b'(' + storage() + b'K\x00h\x00h\x00\x89t'),
    b']q\x00(' + b'h\x00' * 900_000 + b'e.',  # a list that contains itself
    b'(' + b''.join(b']r' + struct.pack('<I', i) for i in range(300_000)) + b't.',  # many memoised values
    b')' + b'\x85' * 900_000 + b'.',  # a tuple in a tuple in ...
    b'N' + b'r' + b'\xff\xff\xff\x3f' + b'.',  # a huge memo index
    b']' * 100_000 + b'.',
    b'}q\x00' + b''.join(b'}(X\x01\0\0\0ah%cX\x01\0\0\0bh%cuq%c' % (i, i, i + 1) for i in range(60)) + b'.',
    b'}q\x00X\x01\0\0\0ah\x00s.',  # a dictionary that contains itself
    b'cos\nsystem\nX\x04\0\0\0exit\x85R.',
    b'N' * 200_000 + b'.',
    b'\x8a\xff' + b'\xff' * 255 + b'.',
    b'X\xff\xff\xff\x7f.',
    b'.',
    random.bytes(50),
  ])  # fmt: skip


def networks(random: Random, kernel: int = 4) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns the tensors of a small generator and discriminator of PyTorch's example."""

  def of(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)

  sizes, k = [5, 4, 3, int(pick(random, [1, 3]))], kernel
  generator, discriminator = {}, {}
  for i, (a, b) in enumerate(itertools.pairwise(sizes)):
    generator[f'm.{3 * i}.weight'] = of(a, b, k, k)
    if i < 2:
      generator |= {
        f'm.{3 * i + 1}.{name}': of(b) for name in ('weight', 'bias', 'running_mean', 'running_var')
      }
  for i, (a, b) in enumerate(((sizes[3], 3), (3, 4), (4, 1))):
    discriminator[f'm.{i}.weight'] = of(b, a, k, k)
  return generator, discriminator


def tree(random: Random, content: Any) -> Any:
  """Returns a config.json with some values or keys replaced."""
  content = json.loads(json.dumps(content))
  for _ in range(random.integers(4)):
    *path, name = pick(random, KEYS).split('.')
    section = content
    for part in path:
      section = section.get(part, {}) if isinstance(section, dict) else {}
    if not isinstance(section, dict):
      continue
    kind = random.random()
    if kind < 0.2:
      section.pop(name, None)
    elif kind < 0.3:
      section[text(random)] = value(random)
    elif kind < 0.35 and path:
      content[path[0]] = value(random)
    else:
      section[name] = value(random)
  return content


def write(path: Path, content: bytes) -> Path:
  """Writes a file and returns its path."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def shapes(chosen: Any) -> None:
  """Traces a train step without running it, as every run does first."""
  import jax

  from dcgan_jax.runs import experiment

  jax.eval_shape(experiment.build(chosen).initial_state)
