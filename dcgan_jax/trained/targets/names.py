"""The names of machines that a train step can be compiled for. Importing this module does not import JAX."""

import importlib.util
import math
import os
import re
from dataclasses import dataclass

from dcgan_jax.errors import InputError

# MiB of each device, by nvidia-smi for the H100 of 80 GB, and by Google for TPUs.
MEMORY = {'h100': 81_559, 'v5e': 16 * 1024, 'v6e': 32 * 1024, 'v5p': 95 * 1024}
MOST_GPUS = 8  # of one host
# The available slices: a single chip, one host of four chips, and several hosts.
FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8')
SLICES = {'v5e': FLAT, 'v6e': FLAT, 'v5p': CUBES}
# Requirements of compiling, by platform: modules, one of which must be there, their package and its extra.
NEEDED = {
  'gpu': (('jax_plugins.xla_cuda12', 'jax_plugins.xla_cuda13'), 'the CUDA plugin of JAX', 'aotcuda'),
  'tpu': (('libtpu',), 'libtpu', 'aot'),
}


@dataclass(frozen=True)
class Target:
  """A machine to compile for.

  Attributes:
    name: Name as the user gives it.
    kind: 'cpu' | 'h100' | 'v5e' | 'v6e' | 'v5p'.
    platform: JAX's name of the platform: 'cpu' | 'gpu' | 'tpu'.
    layout: Chips along each axis of a TPU slice, or the number of GPUs; () for a CPU, whose devices are those
      that JAX has here.
    memory: MiB of each device.
  """

  name: str
  kind: str
  platform: str
  layout: tuple[int, ...]
  memory: int

  @property
  def devices(self) -> int:
    """The number of devices by the name; 1 for a CPU."""
    return math.prod(self.layout)


def parse(name: str) -> Target:
  """Returns the target of a name, if its compiler is installed.

  Args:
    name: 'cpu', 'h100', 'h100:N' with N GPUs, or a TPU slice as 'v5e:2x4'.

  Raises:
    InputError: in one line; there is no such target, or its compiler is not installed.
  """
  kind, colon, layout = name.partition(':')
  if name == 'cpu':
    return Target(name, kind, 'cpu', (), _memory_of_this_machine())
  if kind == 'h100' and (not colon or (re.fullmatch('[1-9]', layout) and int(layout) <= MOST_GPUS)):
    target = Target(name, kind, 'gpu', (int(layout or 1),), MEMORY[kind])
  elif layout in SLICES.get(kind, ()):
    target = Target(name, kind, 'tpu', tuple(map(int, layout.split('x'))), MEMORY[kind])
  else:
    raise InputError(f'--target={name}: choose {_choices(kind)}')
  modules, title, extra = NEEDED[target.platform]
  if not any(map(_is_installed, modules)):
    raise InputError(f"--target={name}: needs {title}, which is not installed; pip install -e '.[{extra}]'")
  return target


def _choices(kind: str) -> str:
  """Returns alternatives to a wrong name: the layouts of a kind, or an example of every kind."""
  if kind in SLICES:
    return ', '.join(f'{kind}:{layout}' for layout in SLICES[kind])
  if kind == 'h100':
    return f'h100 or h100:2 to h100:{MOST_GPUS}'
  return f'cpu, h100, h100:N (up to {MOST_GPUS}), v5e:2x4, v6e:4x4, v5p:2x2x1 or another slice of these TPUs'


def _is_installed(module: str) -> bool:
  """Returns whether a module can be found; it is not imported."""
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:  # of the package that it is in
    return False


def _memory_of_this_machine() -> int:
  """Returns the memory of this machine in MiB, 0 if unknown."""
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2**20
  except (AttributeError, ValueError, OSError):
    return 0
