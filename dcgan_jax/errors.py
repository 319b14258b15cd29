"""The error that a user can correct."""

MOST = 1000  # characters of a message; a value that is longer is cut in the middle


class InputError(ValueError):
  """A setting, file or argument that cannot work; its message is one line that says what would work.

  `main.py` prints the message without a traceback. Every other exception is a bug and keeps its traceback.
  """

  def __init__(self, message: str):
    text = printable(message)
    half = MOST // 2
    super().__init__(text if len(text) <= MOST else f'{text[:half]} ... {text[-half:]}')


def printable(text: str) -> str:
  """Returns a text with escapes for line breaks and whatever else a terminal cannot show or would obey.

  Names of files may hold any of these.
  """
  return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
