"""Reads pickles as data, with a machine that knows the instructions for data and no others.

Python's own unpickler calls what a pickle names, and a crafted pickle can make it take all memory, run
without end, or crash, even if it may name nothing. Here names go through a function of the caller's, keys are
text or numbers, and the number of instructions is limited.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

MOST = 1_000_000  # instructions; a pickle of the largest networks has a few tens of thousands
CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
VALUES = (
  'INT',
  'LONG',
  'FLOAT',
  'STRING',
  'UNICODE',
  'BINSTRING',
  'BINUNICODE',
  'BINBYTES',
  'BININT',
  'BINFLOAT',
)
IGNORED = ('PROTO', 'FRAME')


class PickleError(ValueError):
  """What is wrong with a file, in words for its user."""


def load(file: IO[bytes], find: Callable[[str, str], Callable[..., Any]], refer: Callable[[Any], Any]) -> Any:
  """Reads one pickle, and leaves the file behind it.

  Args:
    file: at the beginning of the pickle.
    find: takes the module and the name of a function, and returns what is called in its place; it raises what
      it does not know.
    refer: returns what a reference out of the pickle stands for.

  Returns:
    Dictionaries, lists, tuples, text, numbers, and what `find` and `refer` made. A set is a list, and the
    state that an object would be given is left out.

  Raises:
    Exception: any, if it is broken; PickleError if it has an instruction that is not for data.
  """
  machine = _Machine(find, refer)
  for count, (code, argument, _) in enumerate(pickletools.genops(file)):
    if code.name == 'STOP':
      return machine.stack.pop()
    if count == MOST:
      raise PickleError(f'it has more than {MOST:,} instructions')
    machine.run(code.name, argument)
  raise PickleError('it has no end')


class _Machine:
  """The stack, the marks in it, and the values that are numbered to be used again."""

  def __init__(self, find: Callable[[str, str], Callable[..., Any]], refer: Callable[[Any], Any]):
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.known: dict[int, Any] = {}
    self.find, self.refer = find, refer

  def run(self, name: str, argument: Any) -> None:
    """Runs one instruction."""
    kind = name.removeprefix('SHORT_').removeprefix('LONG_').rstrip('12348')
    if name in CONSTANTS:
      self.stack.append(CONSTANTS[name])
    elif kind in VALUES:
      self.stack.append(argument)
    elif kind in ('PUT', 'BINPUT', 'MEMOIZE'):
      self.known[len(self.known) if argument is None else argument] = self.stack[-1]
    elif kind in ('GET', 'BINGET'):
      self.stack.append(self.known[argument])
    elif name not in IGNORED:
      self._act(name, argument)

  def _act(self, name: str, argument: Any) -> None:
    """Runs an instruction that does more than to push a value."""
    stack = self.stack
    match name:
      case 'MARK':
        self.marks.append(len(stack))
      case 'POP':
        stack.pop()
      case 'POP_MARK':
        self._since_mark()
      case 'EMPTY_DICT':
        stack.append({})
      case 'EMPTY_LIST' | 'EMPTY_SET':
        stack.append([])
      case 'EMPTY_TUPLE':
        stack.append(())
      case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
        stack.append(tuple(self._last(int(name[-1]))))
      case 'TUPLE' | 'FROZENSET':
        stack.append(tuple(self._since_mark()))
      case 'LIST':
        stack.append(self._since_mark())
      case 'DICT':
        stack.append(_filled({}, self._since_mark()))
      case 'APPEND':
        stack[-2].append(stack.pop())
      case 'APPENDS' | 'ADDITEMS':
        items = self._since_mark()
        stack[-1].extend(items)
      case 'SETITEM':
        pair = self._last(2)
        _filled(stack[-1], pair)
      case 'SETITEMS':
        items = self._since_mark()
        _filled(stack[-1], items)
      case 'GLOBAL':
        stack.append(self.find(*argument.split(' ', 1)))
      case 'STACK_GLOBAL':
        stack.append(self.find(*self._last(2)))
      case 'REDUCE':
        function, arguments = self._last(2)
        stack.append(function(*arguments))
      case 'BINPERSID':
        stack.append(self.refer(stack.pop()))
      case 'BUILD':
        stack.pop()
      case _:
        raise PickleError(f'it has the instruction {name}, which is not for data')

  def _last(self, count: int) -> list[Any]:
    """Takes the last values off the stack."""
    if count > len(self.stack):
      raise PickleError('it takes more values than it has')
    taken = self.stack[-count:]
    del self.stack[-count:]
    return taken

  def _since_mark(self) -> list[Any]:
    """Takes the values since the last mark off the stack."""
    start = self.marks.pop()
    taken = self.stack[start:]
    del self.stack[start:]
    return taken


def _filled(content: dict[Any, Any], pairs: list[Any]) -> dict[Any, Any]:
  """Puts keys and values, which take turns, into a dictionary, and returns it."""
  for key, value in zip(pairs[::2], pairs[1::2], strict=True):
    if not isinstance(key, str | int | float):  # A tuple of tuples could take forever to be looked up.
      raise PickleError(f'it has a key of type {type(key).__name__}')
    content[key] = value
  return content
