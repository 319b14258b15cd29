"""The rules of docs/developers/architecture.md, checked against the source."""

import ast
import configparser
import functools
import sys

from conftest import ROOT

PACKAGE = 'dcgan_jax'
FILES = sorted((ROOT / PACKAGE).rglob('*.py'))
# From the bottom to the top. A room, which is a folder or a file, imports from rooms below its floor.
FLOORS = [
  ['errors', 'threads'],
  ['core', 'files', 'settings'],
  ['devices'],
  ['data'],
  ['media'],
  ['records'],
  ['runs'],
  ['evaluation'],
  ['trained', 'training'],
  ['command_line', '__init__'],
]
CORE_LIBRARIES = {'jax', 'flax', 'optax', 'numpy'}
SLOW = {'jax', 'flax', 'optax', 'orbax', 'tensorflow'}  # to import
KNOW_FLAGS = {'settings', 'command_line'}
FLAG_LIBRARIES = {'absl', 'ml_collections'}


def _name(path):
  """Returns the dotted name of a module, without that of the package; '__init__' is the package itself."""
  parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
  return '.'.join(parts[:-1] if len(parts) > 1 and parts[-1] == '__init__' else parts)


MODULES = {_name(path): path for path in FILES}


@functools.cache
def _tree(path):
  return ast.parse(path.read_text(), str(path))


def _imports(path):
  """Yields the dotted names of all imports of a file, at any level: modules or their members."""
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: a relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _imported(path):
  """Returns the modules of the package that a file imports."""
  found = set()
  for name in _imports(path):
    if name.split('.')[0] == PACKAGE:
      inside = name.removeprefix(PACKAGE).removeprefix('.')
      while inside not in MODULES and inside:
        inside = inside.rpartition('.')[0]
      found.add(inside or '__init__')
  return found


GRAPH = {name: _imported(path) for name, path in MODULES.items()}


def _room(name):
  return name.split('.')[0]


FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}


def test_every_room_has_one_floor():
  rooms = [room for rooms in FLOORS for room in rooms]
  assert sorted(rooms) == sorted({_room(name) for name in MODULES})


def test_imports_point_down():
  pairs = [(name, other) for name, imported in GRAPH.items() for other in imported]
  upward = [
    f'{name} imports {other}'
    for name, other in pairs
    if _room(name) != _room(other) and FLOOR[_room(other)] >= FLOOR[_room(name)]
  ]
  assert not upward


def test_imports_have_no_cycles():
  """Removes modules that import no remaining one, until none remain."""
  left = dict(GRAPH)
  while leaves := {name for name, imported in left.items() if not imported & left.keys() - {name}}:
    left = {name: imported for name, imported in left.items() if name not in leaves}
  assert not left


def test_no_command_imports_a_command():
  commands = {name for name in MODULES if name.startswith('command_line.commands.')}
  assert len(commands) >= 8
  assert not [name for name, imported in GRAPH.items() if imported & commands]


def test_core_imports_the_libraries_of_arrays_and_nothing_else():
  for name, path in MODULES.items():
    if _room(name) == 'core':
      libraries = {imported.split('.')[0] for imported in _imports(path)} - {PACKAGE}
      assert libraries - CORE_LIBRARIES <= set(sys.stdlib_module_names), name
      assert {_room(other) for other in GRAPH[name]} <= {'core', 'errors'}, name


def test_only_the_command_line_knows_flags_and_configs():
  for name, path in MODULES.items():
    if _room(name) not in KNOW_FLAGS:
      libraries = {imported for imported in _imports(path) if imported.split('.')[0] in FLAG_LIBRARIES}
      # Grain's worker processes insist that absl's flags are parsed.
      assert libraries == ({'absl.flags'} if name == 'data.stream' else set()), name


def test_settings_and_flags_need_no_jax():
  for name, path in MODULES.items():
    if _room(name) in KNOW_FLAGS:
      for node in _tree(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
          modules = (
            [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
          )
          assert not {module.split('.')[0] for module in modules} & SLOW, name
    if _room(name) == 'settings':
      assert {_room(other) for other in GRAPH[name]} <= {'settings', 'errors'}, name


def test_what_is_public_has_a_docstring():
  missing = []
  for name, path in MODULES.items():
    named = [(name, _tree(path))]
    named += [
      (f'{name}.{node.name}', node)
      for node in _tree(path).body
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != '_'
    ]
    missing += [what for what, node in named if not ast.get_docstring(node)]
  assert not missing


def test_names_of_extras_have_no_separators():
  """Otherwise pip 23.2 finds them by neither spelling, warns and installs nothing."""
  metadata = configparser.ConfigParser()
  metadata.read(ROOT / 'setup.cfg')
  extras = list(metadata['options.extras_require'])
  assert 'test' in extras and all(name.isalnum() for name in extras)
