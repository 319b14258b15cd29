"""docs/understand.md: its quotes are the source, its example runs, its drawing is up to date."""

import ast
import doctest
import re
import textwrap

import pages
import pytest
from conftest import ROOT

from benchmarks import networks

PAGE = ROOT / 'docs' / 'understand.md'
QUOTE = re.compile(r'^<!-- quoted from (\S+) -->\n```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def _quotes():
  """Returns the quoted file and the text of each quote."""
  return QUOTE.findall(PAGE.read_text())


def _in_source(quote, source):
  """Returns whether the lines of a quote stand in the source, one after the other, at any depth."""
  return any(f'\n{textwrap.indent(quote, " " * depth)}' in source for depth in range(0, 12, 2))


def test_quotes_are_the_source():
  assert len(_quotes()) > 10
  for path, quote in _quotes():
    assert _in_source(quote, (ROOT / path).read_text()), f'not in {path}:\n{quote}'


def test_a_quote_that_differs_is_found():
  source = (ROOT / 'examples' / 'minimal.py').read_text()
  quote = next(quote for path, quote in _quotes() if path == 'examples/minimal.py')
  assert _in_source(quote, source) and not _in_source(quote.replace('16', '32'), source)


def test_the_example_is_explained_to_its_last_line():
  path = 'examples/minimal.py'
  source = (ROOT / path).read_text()
  (main,) = (node for node in ast.parse(source).body if getattr(node, 'name', '') == 'main')
  quoted = {line.strip() for name, quote in _quotes() if name == path for line in quote.splitlines()}
  lines = (line.strip() for line in source.splitlines()[main.body[1].lineno - 1 : main.end_lineno])
  assert not [line for line in lines if line and not line.startswith('#') and line not in quoted]


def test_every_other_block_of_python_prints_what_it_shows(standard_promotion):
  text = PAGE.read_text()
  others = [block for block in pages.BLOCK.findall(text) if block not in {quote for _, quote in _quotes()}]
  assert others and all(block.startswith('>>> ') for block in others)
  test = doctest.DocTest(pages.examples(text), {}, PAGE.name, str(PAGE), 0, text)
  assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.slow
def test_the_drawing_is_that_of_the_config():
  drawn = networks.svg(ROOT / 'configs' / 'cifar10.py')
  assert drawn == (ROOT / 'docs' / 'networks.svg').read_text()
  assert 'networks.svg' in PAGE.read_text()
