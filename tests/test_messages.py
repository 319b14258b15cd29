"""Every message that a user can correct is one line that names what is wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Calls that say something, and which of their arguments is the message.
SAYING = {'InputError': 0, 'Rule': 1, 'all_of': 1, 'PickleError': 0, '_refuse': 1}


def template(node: ast.expr) -> str:
  """Returns the text of a message, with `{...}` for its values."""
  match node:
    case ast.Constant(value=str(text)):
      return text
    case ast.JoinedStr(values=values):
      return ''.join(map(template, values))
    case ast.FormattedValue(value=value):
      return f'{{{_name(value)}}}'
    case ast.BinOp(left=left, op=ast.Add(), right=right):
      return template(left) + template(right)
    case ast.IfExp(body=body, orelse=orelse):
      return ' | '.join(filter(None, (template(body), template(orelse))))
  return f'{{{_name(node)}}}'


def _name(value: ast.expr) -> str:
  """Returns an expression in a message as source code, or dots if that is long."""
  text = ast.unparse(value)
  return text if len(text) < 30 and not set(text) & set('"\'[(') else '...'


def messages(path: Path) -> Iterator[str]:
  """Yields the messages of a module, in the order of its lines."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call):
      name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
      if name in SAYING and len(node.args) > SAYING[name]:
        found.append((node.lineno, template(node.args[SAYING[name]])))
  for _, text in sorted(found):
    if any(c.isalpha() for c in text.replace('{...}', '')) and text != '{text}':
      yield text


def test_messages_are_found():
  found = [text for path in (ROOT / 'dcgan_jax').rglob('*.py') for text in messages(path)]
  assert len(found) > 100
  assert '{path}: cannot be read: {error.strerror}' in found


def test_messages_are_lines_that_name_something():
  """Each names a field, flag or file first, or leaves that to the caller."""
  for path in (ROOT / 'dcgan_jax').rglob('*.py'):
    for text in messages(path):
      assert '\n' not in text and not text.endswith('.') and '  ' not in text, text
