"""The rules of docs/architecture.md, read off the source: where imports point, who knows what."""

import ast
import configparser
import functools

import pytest
from conftest import ROOT

PACKAGE = 'dcgan_jax'
FILES = sorted((ROOT / PACKAGE).rglob('*.py'))
# From the bottom to the top. A part imports from its own layer and from those below.
LAYERS = [
  ['errors', 'files', 'threads'],
  [
    'settings',
    'conv',
    'conv_cpu',
    'directions',
    'latents',
    'losses',
    'accumulation',
    'augmentation',
    'layers',
    'models',
    'regularizers',
    'norm_statistics',
    'pixels',
    'train_state',
    'train_step',
    'transfer',
  ],
  ['data', 'films', 'journal', 'parallel', 'signals', 'tracking'],
  ['experiment'],
  [
    'analysis',
    'dispatch',
    'evaluation',
    'explorer',
    'hub',
    'interop',
    'origin',
    'sampling',
    'targets',
    'walks',
  ],
  ['report'],
  ['training', 'verification'],
  ['command_line'],
  ['commands', '__init__'],
]
NOUNS = set(LAYERS[1]) - {'settings'}
# The parser finds the commands by the names of their files, and imports none of them here.
UPWARD = {('command_line.parsing', 'commands')}
KNOW_FLAGS = {'settings', 'command_line', 'commands'}
FLAG_LIBRARIES = {'absl', 'ml_collections'}
WIDTH = 120  # characters of a line of Markdown


def _name(path):
  """Returns the dotted name of a module, without that of the package; '__init__' is the package itself."""
  parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
  return '.'.join(parts[:-1] if len(parts) > 1 and parts[-1] == '__init__' else parts)


MODULES = {_name(path): path for path in FILES}


@functools.cache
def _tree(path):
  return ast.parse(path.read_text(), str(path))


def _imports(path):
  """Yields the dotted names of what a file imports, wherever in it: modules, or what is in them."""
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


def _part(name):
  return name.split('.')[0]


def _layer(name):
  return next(i for i, parts in enumerate(LAYERS) if _part(name) in parts)


def test_every_part_has_one_layer():
  parts = [part for parts in LAYERS for part in parts]
  assert sorted(parts) == sorted({_part(name) for name in MODULES})


@pytest.mark.parametrize('name', MODULES)
def test_imports_point_down(name):
  upward = {other for other in GRAPH[name] if _layer(other) > _layer(name)}
  assert upward == {other for module, other in UPWARD if module == name}


def test_imports_have_no_cycles():
  """Removes modules that import nothing that is left, until there is nothing left."""
  left = dict(GRAPH)
  while leaves := {name for name, imported in left.items() if not imported & left.keys() - {name}}:
    left = {name: imported for name, imported in left.items() if name not in leaves}
  assert not left


def test_no_command_imports_a_command():
  commands = {name for name in MODULES if name.startswith('commands.')}
  assert len(commands) >= 8
  for name, imported in GRAPH.items():
    assert not imported & commands, name


def test_settings_and_nouns_do_not_know_each_other():
  """Finds nothing but errors below the settings, which need no JAX, and no settings below the nouns."""
  for name, imported in GRAPH.items():
    below = {_part(other) for other in imported}
    if _part(name) == 'settings':
      assert below <= {'settings', 'errors'}, name
    if _part(name) in NOUNS:
      assert below <= NOUNS | {'errors'}, name


@pytest.mark.parametrize('name', MODULES)
def test_only_the_command_line_knows_flags_and_configs(name):
  if _part(name) not in KNOW_FLAGS:
    libraries = {imported for imported in _imports(MODULES[name]) if imported.split('.')[0] in FLAG_LIBRARIES}
    # Grain's worker processes insist that absl's flags are parsed.
    assert libraries == ({'absl.flags'} if name == 'data.stream' else set())


@pytest.mark.parametrize('name', sorted(name for name in MODULES if _part(name) in KNOW_FLAGS))
def test_flags_are_parsed_without_jax(name):
  for node in _tree(MODULES[name]).body:
    if isinstance(node, ast.Import | ast.ImportFrom):
      modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
      assert not {module.split('.')[0] for module in modules} & {
        'jax',
        'flax',
        'optax',
        'orbax',
        'tensorflow',
      }


@pytest.mark.parametrize('name', MODULES)
def test_what_is_public_has_a_docstring(name):
  tree = _tree(MODULES[name])
  assert ast.get_docstring(tree)
  for node in tree.body:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != '_':
      assert ast.get_docstring(node), node.name


def test_names_of_extras_have_no_separators():
  """Otherwise pip 23.2 finds them by neither spelling, says so in a warning, and installs nothing."""
  metadata = configparser.ConfigParser()
  metadata.read(ROOT / 'setup.cfg')
  extras = list(metadata['options.extras_require'])
  assert 'test' in extras and all(name.isalnum() for name in extras)


def test_the_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize(
  'path', [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))], ids=lambda p: p.name
)
def test_pages_are_narrow(path):
  long = [i for i, line in enumerate(path.read_text().splitlines(), 1) if len(line) > WIDTH]
  assert not long, f'lines longer than {WIDTH}'
