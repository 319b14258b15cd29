"""The error that a user can correct."""


class InputError(ValueError):
  """A setting, file or argument that cannot work; its message is one line that says what would work.

  `main.py` prints the message without a traceback. Every other exception is a bug and keeps its traceback.
  """
