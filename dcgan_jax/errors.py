"""Errors that a user can correct."""

MOST = 1000  # characters of a message; the middle of a longer one is cut out


class InputError(ValueError):
  """An invalid setting, file or argument. The message is one line and says what would be valid.

  `main.py` prints it without a traceback. Every other exception is a bug and keeps its traceback.
  """

  def __init__(self, message: str):
    text = printable(message)
    half = MOST // 2
    super().__init__(text if len(text) <= MOST else f'{text[:half]} ... {text[-half:]}')


def counted(number: int, noun: str) -> str:
  """Returns a number with its noun, which is regular: '1 image', '1,000 images'."""
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def printable(text: str) -> str:
  """Escapes line breaks and all other non-printable characters, which file names may contain."""
  return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
