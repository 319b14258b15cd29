"""Reads pickled PyTorch tensors, by Python's own unpickler in a process with limits.

A pickle is a program. Here it may call stand-ins for a few names of PyTorch and Python, and nothing else. But
even a pickle without names can exhaust memory, loop for ever, or crash the unpickler. Therefore this file is
also a script, run by `read`: it limits its memory and time where the system can, imports only the standard
library, and prints its findings as JSON.
"""

import contextlib
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object in files from before PyTorch 1.6
MOST, DEEPEST = 100_000, 50  # tensors and other entries of a file, and dictionaries inside each other
MOST_BYTES = 2**26  # of all pickles of a file
MOST_CHARACTERS = 2**24  # of the names of all tensors
MOST_AXES = 16
TOO_MUCH = 'it takes more memory or time than tensors do'
MEMORY, SECONDS = 2**29, 2  # limits of the process; 100,000 tensors take half of the memory
NOT_READ = 'it could not be read in a process of its own'
PATIENCE = 60  # seconds until the process is ended, even on a busy machine


class PickleError(ValueError):
  """A fault of a file, in words for the user."""


class Storage(NamedTuple):
  """A reference to numbers outside the pickle, of which tensors are views.

  Attributes:
    kind: PyTorch's name for storages of this dtype, like FloatStorage.
    key: Name of this storage.
  """

  kind: str
  key: str


class Tensor(NamedTuple):
  """A view of a storage; all in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Found(NamedTuple):
  """Content of pickles.

  Attributes:
    tensors: Names and tensors in the order of the file; those in nested dictionaries have names with dots.
    keys: Names of the storages in the order of their numbers; [] in the format since PyTorch 1.6.
    end: Offset of the end of the last pickle, in bytes.
  """

  tensors: list[tuple[str, Tensor]]
  keys: list[str]
  end: int


def read(content: bytes, legacy: bool) -> Found:
  """Reads the tensors of a file.

  Args:
    content: The file's pickle or, in the format before PyTorch 1.6, its beginning with all five pickles.
    legacy: True for the format before PyTorch 1.6.

  Raises:
    PickleError: it has no tensors, names anything else, is damaged or exceeds the limits; or no process can
      be started.
  """
  command = [sys.executable, '-I', '-S', __file__, *(['legacy'] if legacy else [])]
  try:
    done = subprocess.run(command, input=content, capture_output=True, timeout=PATIENCE)
    made = json.loads(done.stdout)
  except subprocess.TimeoutExpired as error:
    raise PickleError(TOO_MUCH) from error
  except OSError as error:
    raise PickleError(f'{NOT_READ}: {error.strerror or error}') from error
  except ValueError as error:  # The process ended without output.
    if done.returncode < 0:
      raise PickleError(TOO_MUCH) from error
    said = done.stderr.decode(errors='replace').strip().rpartition('\n')[2]
    raise PickleError(f'{NOT_READ}: {said or f"status {done.returncode}"}') from error
  if isinstance(made, str):
    raise PickleError(made)
  tensors = [
    (name, Tensor(Storage(*storage), offset, tuple(shape), tuple(strides)))
    for name, (storage, offset, shape, strides) in made[0]
  ]
  return Found(tensors, *made[1:])


class _Table(dict):
  """Stands in for an OrderedDict."""

  def __setstate__(self, state: Any) -> None:
    """Ignores the versions of modules in a state dict."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
  """Stands in for PyTorch's function that rebuilds a tensor."""
  return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
  """Stands in for PyTorch's function that rebuilds a parameter."""
  return tensor


NAMES = {
  ('collections', 'OrderedDict'): _Table,
  ('torch._utils', '_rebuild_tensor_v2'): _tensor,
  ('torch._utils', '_rebuild_parameter'): _parameter,
}


class _Unpickler(pickle.Unpickler):
  """Python's unpickler, for tensors and dictionaries."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns the stand-in for a name."""
    if (module, name) in NAMES:
      return NAMES[module, name]
    if module == 'torch' and name.endswith('Storage'):
      return name
    raise PickleError(f'it names {module}.{name}, which is not a tensor; none of its code was run')

  def persistent_load(self, pid: Any) -> Storage:
    """Returns the storage that a pickle refers to."""
    what, kind, key = pid[:3]
    if what != 'storage' or not isinstance(kind, str) or not _is_name(key):
      raise PickleError('it refers to something other than a storage of numbers')
    return Storage(kind, str(key))


def _load(file: io.BytesIO) -> Any:
  """Reads the next pickle of a file; text of Python 2 may be any bytes."""
  return _Unpickler(file, encoding='latin1').load()


def _is_name(value: Any) -> bool:
  """Returns whether a value is text, or a number of reasonable length."""
  return type(value) is str or (type(value) is int and abs(value) < 2**63)


def _find(content: bytes, legacy: bool) -> Found:
  """Reads the tensors of a file, in the process that `read` starts."""
  file = io.BytesIO(content)
  if not legacy:
    return Found(list(_tensors(_load(file))), [], file.tell())
  try:
    is_ours = _load(file) == LEGACY_MAGIC
  except Exception:  # It is not a pickle.
    is_ours = False
  if not is_ours:
    raise PickleError('it is not a file of torch.save')
  _load(file)  # the version of the protocol
  _load(file)  # the sizes of types on the machine that wrote the file
  tensors, keys = list(_tensors(_load(file))), _load(file)
  return Found(tensors, [str(key) for key in keys[:MOST] if _is_name(key)], file.tell())


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
  """Yields the name of each tensor and the tensor, in the order of the file."""
  left, seen, characters = [('', 0, content)], 0, 0
  while left:
    name, depth, value = left.pop()
    if isinstance(value, Tensor):
      yield name, _checked(value)
    elif isinstance(value, dict):
      # A dictionary may be in others many times, and even in itself.
      seen += 1 + len(value)
      if seen > MOST or depth > DEEPEST:
        raise PickleError(f'it has more than {MOST:,} entries, or {DEEPEST} dictionaries inside each other')
      inside = []
      for key, item in value.items():
        if not _is_name(key):
          raise PickleError(f'it has a key of type {type(key).__name__}')
        if isinstance(item, Tensor | dict):
          characters += len(name) + len(str(key)) + 1
          if characters > MOST_CHARACTERS:
            raise PickleError(f'its names have more than {MOST_CHARACTERS:,} characters')
          inside.append((f'{name}.{key}' if depth else str(key), depth + 1, item))
      left += reversed(inside)


def _checked(tensor: Tensor) -> Tensor:
  """Returns a tensor with valid parts.

  Raises:
    PickleError: the parts are invalid.
  """
  storage, offset, shape, strides = tensor
  if not isinstance(storage, Storage):
    raise PickleError('it refers to something other than a storage of numbers')
  if max(len(shape), len(strides)) > MOST_AXES:
    raise PickleError(f'it has a tensor of more than {MOST_AXES} axes')
  if not all(type(number) is int and abs(number) < 2**63 for number in (offset, *shape, *strides)):
    raise PickleError('it has a tensor whose shape, strides or offset are not whole numbers below 2**63')
  return tensor


def _limit() -> None:
  """Limits the process as far as the system can: Windows cannot, macOS may refuse the limit of memory."""
  with contextlib.suppress(ImportError):
    import resource

    for kind, most in (
      (resource.RLIMIT_AS, MEMORY),
      (resource.RLIMIT_CPU, SECONDS),
      (resource.RLIMIT_CORE, 0),
    ):
      with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def _main() -> None:
  """Reads a pickle from standard input; prints its content, or a text that says what is wrong, as JSON."""
  _limit()
  content = sys.stdin.buffer.read()
  made: Any
  try:
    made = _find(content, sys.argv[1:] == ['legacy'])
  except PickleError as error:
    made = str(error)
  except MemoryError:
    made = TOO_MUCH
  except Exception as error:  # A broken file may raise anything.
    made = f'it is damaged ({str(error)[:200] or type(error).__name__})'
  print(json.dumps(made))


if __name__ == '__main__':
  _main()
