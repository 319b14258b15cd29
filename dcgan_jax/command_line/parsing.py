"""Finds the command of a mode, parses its flags and formats its help; errors are one line."""

import difflib
import importlib
import itertools
import os
import pkgutil
import re
import textwrap
from types import ModuleType

from absl import flags

from dcgan_jax import files, settings
from dcgan_jax.command_line import commands, configs
from dcgan_jax.errors import InputError

HELP = re.compile('--?(help|helpshort|helpfull)')
WIDTH = 110
MOST_FLAGFILES = 100  # nested
REWORDED = (  # errors of libraries about a value, and our wording
  (r'invalid literal for int\(\) with base .*|Exceeds the limit .* for integer .*', 'must be a whole number'),
  (r"\('Non-boolean argument to boolean flag', .*\)", 'choose true or false'),
)
KINDS = {
  'bool': ['true', 'false'],
  'int': ['N'],
  'float': ['N'],
  'config_file': ['FILE'],
}  # placeholders of values by type of flag


def modes() -> list[str]:
  """Returns the names of all modes, one for each file in `commands/` ('import_' is the mode 'import')."""
  return sorted(module.name.rstrip('_') for module in pkgutil.iter_modules(commands.__path__))


def find_mode(argv: list[str]) -> tuple[str | None, list[str]]:
  """Returns the mode, None without --mode, and the remaining arguments.

  Raises:
    InputError: The mode does not exist.
  """
  mode, rest = None, []
  arguments = iter(argv)
  for argument in arguments:
    if match := re.fullmatch('--?mode(?:=(.*))?', argument):
      mode = match[1] if match[1] is not None else next(arguments, '')
    else:
      rest.append(argument)
  if mode is not None and mode not in modes():
    close = difflib.get_close_matches(mode, modes(), 1)
    hint = f'did you mean {close[0]}? ' if close else ''
    raise InputError(f'--mode={mode}: {hint}choose {", ".join(modes())}')
  return mode, rest


def find_command(mode: str) -> ModuleType:
  """Imports the module of a mode, which has `define_flags` and `run`."""
  name = mode + '_' * (f'{mode}_' in {module.name for module in pkgutil.iter_modules(commands.__path__)})
  return importlib.import_module(f'{commands.__name__}.{name}')


def define_flags(mode: str) -> flags.FlagValues:
  """Returns the unparsed flags of a mode."""
  values = flags.FlagValues()
  find_command(mode).define_flags(values)
  return values


def parse(mode: str, argv: list[str]) -> flags.FlagValues:
  """Parses the flags of a mode.

  Args:
    mode: Name of the mode.
    argv: Command line without --mode; argv[0] is the program.

  Raises:
    InputError: A flag, key or value is invalid.
  """
  try:
    os.getcwd()
  except OSError as error:
    raise InputError(f'the current folder is not there ({error.strerror}); cd to another one') from error
  seen: list[str] = []
  for argument, following in itertools.pairwise([*argv[1:], '']):
    if flagfile := re.fullmatch('--?flagfile(=.*)?', argument, re.DOTALL):
      _check_flagfile(flagfile[1][1:] if flagfile[1] else following, seen)
    if override := re.match(r'--?(?:no)?config\.([^=]+)', argument):
      settings.check_key(override[1])
  try:
    values = define_flags(mode)
    rest = values(argv)
  except flags.UnrecognizedFlagError as error:
    raise InputError(_unknown_flag(mode, error)) from error
  except Exception as error:  # from absl, ml_collections or the type of the value
    if wrong := re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL):
      settings.refuse(wrong[1], wrong[2])
    if isinstance(error.__context__, InputError):  # from one of our parsers
      raise error.__context__ from error
    raise InputError(one_line(error)) from error
  if len(rest) > 1:
    raise InputError(f'{rest[1]}: unexpected; every argument is a --flag=value')
  return values


def _check_flagfile(name: str, seen: list[str]) -> None:
  """Refuses a flag file that is a folder, a pipe or huge, before absl reads it.

  Args:
    name: Path of the file.
    seen: Flag files so far; this one is appended.

  Raises:
    InputError: The file is invalid, includes an invalid one or includes itself.
  """
  seen.append(name)
  if len(seen) > MOST_FLAGFILES:
    raise InputError(f'--flagfile={name}: leads to itself, or to more than {MOST_FLAGFILES} files of flags')
  try:
    content = files.read_bytes(files.named('--flagfile', name), configs.MOST_BYTES)
  except OSError as error:
    raise InputError(f'--flagfile={name}: {error.strerror}; give a regular file') from error
  for line in content.decode(errors='replace').splitlines():
    if inner := re.fullmatch(r'\s*--?flagfile[= ](.*)', line):
      _check_flagfile(inner[1].strip(), seen)


def _unknown_flag(mode: str, error: flags.UnrecognizedFlagError) -> str:
  """Returns the message for a flag that a mode does not have, with the modes that take it."""
  name = error.flagname.partition('.')[0]
  takers = [other for other in modes() if {name, name.removeprefix('no')} & set(define_flags(other))]
  if not takers:
    return f'{one_line(error)}; python main.py --mode={mode} --help lists the flags'
  if name == 'config' and mode in takers:
    return f'--{error.flagname}: needs a config to change; {configs.known()}'
  if mode in takers:
    return f'--{name}: --{name.removeprefix("no")} takes a value, as --{name.removeprefix("no")}=VALUE'
  given = error.flagvalue or f'--{error.flagname}'
  return f'{given}: is not a flag of --mode={mode}; it belongs to {", ".join(f"--mode={t}" for t in takers)}'


def one_line(error: BaseException) -> str:
  """Formats an error as one line without a traceback; adds the type unless it is from absl."""
  text = str(error).strip()
  text = text.splitlines()[-1] if 'Traceback' in text else ' '.join(text.split())
  for pattern, words in REWORDED:
    text = re.sub(pattern, words, text)
  return text if isinstance(error, flags.Error) else f'{type(error).__name__}: {text}'


def help_of_all() -> str:
  """Returns a list of all modes, each with a summary and an example."""
  lines = []
  for mode in modes():
    summary, _, examples = (find_command(mode).__doc__ or '').partition('\n\n')
    lines += [f'  {mode:10}{summary}', f'  {"":10}  {examples.splitlines()[0]}']
  return '\n'.join(['modes:', *lines, '', 'python main.py --mode=NAME --help shows the flags of a mode.'])


def help_of(mode: str) -> str:
  """Returns the help of a mode: its description, its flags and, for training, the keys of a config."""
  values = define_flags(mode)
  lines = [(find_command(mode).__doc__ or '').strip(), '', f'flags of --mode={mode}:']
  for name in sorted(values):
    flag = values[name]
    choices = getattr(flag.parser, 'enum_values', None) or KINDS.get(flag.flag_type())
    default = '' if flag.default in (None, False) else f' Default: {flag.default}.'
    lines += _wrapped(f'--{name}={"|".join(choices or ["TEXT"])}', flag.help.rpartition('>: ')[2] + default)
  if mode == 'train':
    lines += ['', 'keys of a config, with their defaults in configs/base.py:']
    for line in settings.help_lines():
      lines += _wrapped(*line.split(': ', 1))
  return '\n'.join(lines)


def _wrapped(head: str, text: str) -> list[str]:
  """Formats a flag with its help beside it, or below a long flag."""
  lines = textwrap.wrap(text, WIDTH - 36)
  first = [f'  {head}'] if len(head) > 32 else [f'  {head:34}{lines.pop(0)}']
  return first + [f'  {"":34}{line}' for line in lines]
