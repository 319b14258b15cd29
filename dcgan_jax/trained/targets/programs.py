"""Counts the instructions of a program: convolutions, collectives, and arrays as large as the data set.

The text is XLA's HLO, as `jax.stages.Compiled.as_text` returns it. One function reads StableHLO instead, the
program before compilation.
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
# Operations that return their inputs, or views of them, and make no array of their own.
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
# The same of StableHLO, with operations that pass arrays into loops, functions and the parts of a mesh.
NO_USE = {'while', 'return', 'call', 'optimization_barrier', 'manual_computation', 'case', 'if', 'sharding'}


class Array(NamedTuple):
  """An array of a program: its shape, and its bytes without padding."""

  dims: tuple[int, ...]
  bytes: int


@dataclass(frozen=True)
class Instruction:
  """A line of a program.

  Attributes:
    arrays: Arrays of its output.
    opcode: Name of the operation.
    text: The whole line.
    fused: Whether it is inside a fusion, where no array is in memory as a whole.
  """

  arrays: tuple[Array, ...]
  opcode: str
  text: str
  fused: bool


@dataclass(frozen=True)
class Counted:
  """Instructions of one kind: the kind, their number, and the bytes of all outputs."""

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
  """Yields the instructions, each with the name of its function."""
  computation = ''
  for line in text.splitlines():
    if head := re.match(r'(?:ENTRY )?%?([\w.\-]+) \(.*\{$', line):
      computation = head[1]
    elif re.match(r'\s+(?:ROOT )?%?[\w.\-]+ = ', line):
      yield computation, line


def _parsed(line: str) -> tuple[str, str]:
  """Returns the shape and the opcode of an instruction; the shape of a tuple ends at its last parenthesis."""
  words, depth = line.partition(' = ')[2].split(' '), 0
  for i, word in enumerate(words[:-1], 1):
    depth += word.count('(') - word.count(')')
    if not depth:
      return ' '.join(words[:i]), words[i].partition('(')[0]
  return '', ''


def convolutions(text: str) -> dict[str, int]:
  """Counts the convolutions of a compiled program, by how they are computed.

  The kinds are those of `CUDNN`; 'cuDNN other'; 'in a fusion', with neighbouring operations; 'alone'; and
  'in a library' of a CPU. A matrix product is not a convolution, though a TPU calls it one.
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
  """Counts the matrix products of a compiled program, including those of libraries and of TPUs."""
  library = re.compile(r'custom_call_target="__(cublas|onednn\$matmul)')
  return sum(
    line.opcode == 'dot'
    or (line.opcode == 'convolution' and not _is_convolution(line))
    or (line.opcode == 'custom-call' and library.search(line.text) is not None)
    for line in instructions(text)
  )


def _is_convolution(line: Instruction) -> bool:
  """Returns whether an instruction is a convolution over pixels, with a moving window."""
  return line.opcode == 'convolution' and 'window={' in line.text


def collectives(text: str) -> list[Counted]:
  """Counts the collectives of a compiled program, with the bytes that each device receives."""
  found: dict[str, list[int]] = {}
  for line in instructions(text):
    kind = line.opcode.removesuffix('-start')
    if kind in COLLECTIVES:
      sizes = [array.bytes for array in line.arrays]
      # The start of an all-reduce lists its results; the others list their operands, too.
      both = line.opcode.endswith('-start') and kind != 'all-reduce'
      found.setdefault(kind, []).append(max(sizes) if both else sum(sizes))
  return _counted(found)


def like(text: str, rows: int, numbers: int, itemsize: int = 1) -> list[Counted]:
  """Counts the instructions that make an array as large as the data set: copies, relayouts, conversions.

  Args:
    text: Text of a compiled program.
    rows: Rows of the data set on the devices.
    numbers: Numbers of the whole data set. An array is like it if it has as many numbers, of any type and in
      any order, or as many rows of numbers of the same size that are longer.
    itemsize: Bytes of each number.
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
  """Counts instructions by kind, sorted by name, given the bytes of each."""
  return [Counted(kind, len(each), sum(each)) for kind, each in sorted(sizes.items())]


def branches(text: str) -> int:
  """Returns the number of conditionals of a compiled program."""
  return sum(line.opcode == 'conditional' for line in instructions(text))


def uses(text: str, kind: str) -> dict[str, int]:
  """Counts the operations of a lowered program on arrays of a type, by name.

  Args:
    text: StableHLO, as `jax.stages.Lowered.as_text` returns it.
    kind: Type of the arrays, as '60000x28x28x1xui8'.
  """
  found: collections.Counter[str] = collections.Counter()
  for line in text.splitlines():
    if f'tensor<{kind}>' in line and not re.match(r'\s*(func\.func|\}|\^)', line):
      # Calls and returns may be written without their dialect.
      named = re.search(r'\b(?:stablehlo|func|sdy|mhlo)\.(\w+)|\b(call|return)\b', line)
      operation = (named[1] or named[2]) if named else 'other'
      if operation not in NO_USE:
        found[operation] += 1
  return dict(found)
