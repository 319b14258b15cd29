"""The one error that is the user's to mend."""


class InputError(ValueError):
  """A setting, file or argument that cannot work, in one line that says what would.

  `main.py` prints its message without a traceback; every other exception is a bug and keeps its own.
  """
