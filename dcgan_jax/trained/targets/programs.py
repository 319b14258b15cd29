"""What a program does, by its text: convolutions, collectives, and arrays as large as the data set.

The text is XLA's HLO, as `jax.stages.Compiled.as_text` returns it. One function reads StableHLO instead, the
program as it is before a compiler begins.
"""

import collections
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

BITS = {'pred': 8, 's4': 4, 'u4': 4, 'bf16': 16, 'f8e4m3fn': 8, 'f8e5m2': 8, 'c64': 64, 'c128': 128}
COLLECTIVES = ('all-reduce', 'all-gather', 'all-to-all', 'collective-permute', 'reduce-scatter')
CUDNN = {
  '__cudnn$convForward': 'cuDNN forward',
  '__cudnn$convBackwardInput': 'cuDNN backward-input',
  '__cudnn$convBackwardFilter': 'cuDNN backward-filter',
  '__cudnn$convBiasActivationForward': 'cuDNN fused',
  '__cudnn$convForwardGraph': 'cuDNN fused',
}
# They make no array of their own: what comes out is what went in, or a view of it.
NO_ARRAY = {
  'parameter',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'while',
  'conditional',
  'call',
  'copy-done',
  'optimization-barrier',
  'after-all',
}
# The same of StableHLO, with what passes arrays into loops, functions and the parts of a mesh.
NO_USE = {'while', 'return', 'call', 'optimization_barrier', 'manual_computation', 'case', 'if', 'sharding'}


class Array(NamedTuple):
  """An array of a program: the numbers along each axis, and all its bytes without what a layout adds."""

  dims: tuple[int, ...]
  bytes: int


@dataclass(frozen=True)
class Instruction:
  """A line of a program.

  Attributes:
    arrays: of its output.
    opcode: what it does.
    text: the whole line.
    fused: whether it is inside of a fusion, where no array is in memory as a whole.
  """

  arrays: tuple[Array, ...]
  opcode: str
  text: str
  fused: bool


@dataclass(frozen=True)
class Counted:
  """Instructions of one kind: which, how many, and the bytes of their outputs together."""

  kind: str
  count: int
  bytes: int


def arrays(shape: str) -> tuple[Array, ...]:
  """Returns the arrays of a shape as XLA writes it: 'f32[2,512]{1,0}', '(f32[8]{0}, u32[])'."""
  found = []
  for kind, written in re.findall(r'\b([a-z]+\d*\w*)\[([\d,<= ]*)\]', shape):
    bits = BITS.get(kind) or int((re.search(r'\d+', kind) or ['0'])[0])
    dims = tuple(int(dim.strip('<= ')) for dim in written.split(',') if dim.strip('<= '))
    found.append(Array(dims, math.prod(dims) * bits // 8))
  return tuple(found)


@functools.lru_cache(maxsize=1)
def instructions(text: str) -> tuple[Instruction, ...]:
  """Returns the instructions of a compiled program, function by function, in the order of the text."""
  fused = set()
  for line in text.splitlines():
    if ' fusion(' in line and (called := re.search(r'calls=%?([\w.\-]+)', line)):
      fused.add(called[1])
  return tuple(
    Instruction(arrays(shape), opcode, line, computation in fused)
    for computation, line in _lines(text)
    for shape, opcode in [_parsed(line)]
  )


def _lines(text: str) -> Iterator[tuple[str, str]]:
  """Yields the lines that are instructions, each with the name of the function that it is in."""
  computation = ''
  for line in text.splitlines():
    if head := re.match(r'(?:ENTRY )?%?([\w.\-]+) \(.*\{$', line):
      computation = head[1]
    elif re.match(r'\s+(?:ROOT )?%?[\w.\-]+ = ', line):
      yield computation, line


def _parsed(line: str) -> tuple[str, str]:
  """Returns the shape and the opcode of an instruction. A tuple's shape is all up to its last parenthesis."""
  words, depth = line.partition(' = ')[2].split(' '), 0
  for i, word in enumerate(words[:-1], 1):
    depth += word.count('(') - word.count(')')
    if not depth:
      return ' '.join(words[:i]), words[i].partition('(')[0]
  return '', ''


def convolutions(text: str) -> dict[str, int]:
  """Returns how many convolutions of each kind a compiled program has, by what became of them.

  The kinds are those of `CUDNN`; 'cuDNN other'; 'in a fusion', with what is before and after it; 'alone'; and
  'in a library' of a CPU. A matrix product is no convolution, though a TPU calls it one.
  """
  found: collections.Counter[str] = collections.Counter()
  for line in instructions(text):
    if _is_convolution(line):
      found['in a fusion' if line.fused else 'alone'] += 1
    elif line.opcode == 'custom-call':
      target = (re.search(r'custom_call_target="([^"]*)"', line.text) or ['', ''])[1]
      if target.startswith('__cudnn$conv'):
        found[CUDNN.get(target, 'cuDNN other')] += 1
      elif 'conv' in target.lower() and 'convert' not in target.lower():
        found['in a library'] += 1
  return dict(sorted(found.items()))


def products(text: str) -> int:
  """Returns how many matrix products a compiled program has, also those that a library or a TPU computes."""
  library = re.compile(r'custom_call_target="__(cublas|onednn\$matmul)')
  return sum(
    line.opcode == 'dot'
    or (line.opcode == 'convolution' and not _is_convolution(line))
    or (line.opcode == 'custom-call' and library.search(line.text) is not None)
    for line in instructions(text)
  )


def _is_convolution(line: Instruction) -> bool:
  """Returns whether an instruction is a convolution over pixels; others have no window that moves."""
  return line.opcode == 'convolution' and 'window={' in line.text


def collectives(text: str) -> list[Counted]:
  """Returns what the devices of a compiled program tell each other, with the bytes that each receives."""
  found: dict[str, list[int]] = {}
  for line in instructions(text):
    kind = line.opcode.removesuffix('-start')
    if kind in COLLECTIVES:
      sizes = [array.bytes for array in line.arrays]
      # Where it starts, an all-reduce names its results, and the others their operands beside them.
      both = line.opcode.endswith('-start') and kind != 'all-reduce'
      found.setdefault(kind, []).append(max(sizes) if both else sum(sizes))
  return _counted(found)


def like(text: str, rows: int, numbers: int, itemsize: int = 1) -> list[Counted]:
  """Returns the instructions that make an array as large as the data set: copies, relayouts, conversions.

  Args:
    text: of a compiled program.
    rows: of the data set as it lies on the devices.
    numbers: of the data set in all. An array is like it if it has as many numbers, of any type and in
      whatever order, or as many rows of numbers of the same size that are longer.
    itemsize: bytes of each number.
  """
  found: dict[str, list[int]] = {}
  for line in instructions(text):
    if line.fused or line.opcode in NO_ARRAY:
      continue
    for dims, size in line.arrays:
      count = math.prod(dims)
      padded = rows in dims and size == count * itemsize and count > numbers
      if count == numbers or padded:
        found.setdefault(line.opcode, []).append(size)
  return _counted(found)


def _counted(sizes: dict[str, list[int]]) -> list[Counted]:
  """Returns the kinds, sorted by name, of which the bytes of each instruction are given."""
  return [Counted(kind, len(each), sum(each)) for kind, each in sorted(sizes.items())]


def branches(text: str) -> int:
  """Returns how many conditionals a compiled program has, of whose branches one is run."""
  return sum(line.opcode == 'conditional' for line in instructions(text))


def uses(text: str, kind: str) -> dict[str, int]:
  """Returns what a lowered program does with the arrays of a type: the names of operations and how many.

  Args:
    text: StableHLO, as `jax.stages.Lowered.as_text` returns it.
    kind: the type, as '60000x28x28x1xui8'.
  """
  found: collections.Counter[str] = collections.Counter()
  for line in text.splitlines():
    if f'tensor<{kind}>' in line and not re.match(r'\s*(func\.func|\}|\^)', line):
      # Where it is clear whose it is, a call or a return stands without its dialect.
      named = re.search(r'\b(?:stablehlo|func|sdy|mhlo)\.(\w+)|\b(call|return)\b', line)
      operation = (named[1] or named[2]) if named else 'other'
      if operation not in NO_USE:
        found[operation] += 1
  return dict(found)
