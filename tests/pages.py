"""Runs the examples of a page in the current folder, and fails if an output differs.

python tests/pages.py docs/library.md
"""

import doctest
import re
import sys
from pathlib import Path

BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def examples(text: str) -> list[doctest.Example]:
  """Returns the examples of all Python blocks of a page, each with its line."""
  found, parser = [], doctest.DocTestParser()
  for block in BLOCK.finditer(text):
    above = text[: block.start(1)].count('\n')
    for example in parser.get_examples(block[1]):
      example.lineno += above
      found.append(example)
  return found


def main(page: Path) -> int:
  """Runs the examples one after the other; returns how many fail."""
  text = page.read_text()
  test = doctest.DocTest(examples(text), {}, page.name, str(page), 0, text)
  return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed


if __name__ == '__main__':
  sys.exit(main(Path(sys.argv[1])))
