"""Finds the command of a mode, parses its flags and prints its help; whatever is wrong is one line."""

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
MOST_FLAGFILES = 100  # in each other
REWORDED = (  # what libraries say of a value, and what we say instead
  (r'invalid literal for int\(\) with base .*|Exceeds the limit .* for integer .*', 'must be a whole number'),
  (r"\('Non-boolean argument to boolean flag', .*\)", 'choose true or false'),
)
KINDS = {
  'bool': ['true', 'false'],
  'int': ['N'],
  'float': ['N'],
  'config_file': ['FILE'],
}  # what a flag of a type takes


def modes() -> list[str]:
  """Returns the names of all modes: each is a file in `commands/` ('import_' is the mode 'import')."""
  return sorted(module.name.rstrip('_') for module in pkgutil.iter_modules(commands.__path__))


def find_mode(argv: list[str]) -> tuple[str | None, list[str]]:
  """Returns the mode that the arguments name, None for none, and the arguments without it.

  Raises:
    InputError: there is no such mode.
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
  """Imports the file of a mode; it declares the flags by `define_flags` and does the work by `run`."""
  name = mode + '_' * (f'{mode}_' in {module.name for module in pkgutil.iter_modules(commands.__path__)})
  return importlib.import_module(f'{commands.__name__}.{name}')


def define_flags(mode: str) -> flags.FlagValues:
  """Returns the flags of a mode, not yet parsed."""
  values = flags.FlagValues()
  find_command(mode).define_flags(values)
  return values


def parse(mode: str, argv: list[str]) -> flags.FlagValues:
  """Parses the flags of a mode.

  Args:
    mode: whose flags are taken.
    argv: the command line without --mode; argv[0] is the program.

  Raises:
    InputError: in one line; a flag that the mode does not have, a value or a key that cannot be.
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
    values = define_flags(mode)  # reads a file of flags
    rest = values(argv)
  except flags.UnrecognizedFlagError as error:
    raise InputError(_unknown_flag(mode, error)) from error
  except Exception as error:  # absl's, or what ml_collections and the value's type make of it
    if wrong := re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL):
      settings.refuse(wrong[1], wrong[2])
    if isinstance(error.__context__, InputError):  # of a parser of ours
      raise error.__context__ from error
    raise InputError(one_line(error)) from error
  if len(rest) > 1:
    raise InputError(f'{rest[1]}: unexpected; every argument is a --flag=value')
  return values


def _check_flagfile(name: str, seen: list[str]) -> None:
  """Refuses a file of flags that is a folder, a pipe or huge, before it is read to its end.

  Args:
    name: path of the file.
    seen: files of flags so far, to which this one is added.

  Raises:
    InputError: it is such a file, or leads to one, or to itself.
  """
  seen.append(name)
  if len(seen) > MOST_FLAGFILES:
    raise InputError(f'--flagfile={name}: leads to itself, or to more than {MOST_FLAGFILES} files of flags')
  try:
    content = files.read_bytes(files.named('--flagfile', name), configs.MOST_BYTES)
  except OSError as error:
    raise InputError(f'--flagfile={name}: {error.strerror}; give an ordinary file') from error
  for line in content.decode(errors='replace').splitlines():
    if inner := re.fullmatch(r'\s*--?flagfile[= ](.*)', line):
      _check_flagfile(inner[1].strip(), seen)


def _unknown_flag(mode: str, error: flags.UnrecognizedFlagError) -> str:
  """Returns what to say of a flag that a mode does not have: which modes take it, or what absl says."""
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
  """Returns an error in one line, without a traceback, and with its type where the message needs it."""
  text = str(error).strip()
  text = text.splitlines()[-1] if 'Traceback' in text else ' '.join(text.split())
  for pattern, words in REWORDED:
    text = re.sub(pattern, words, text)
  return text if isinstance(error, flags.Error) else f'{type(error).__name__}: {text}'


def help_of_all() -> str:
  """Returns the list of the modes, each with a line and an example."""
  lines = []
  for mode in modes():
    summary, _, examples = (find_command(mode).__doc__ or '').partition('\n\n')
    lines += [f'  {mode:10}{summary}', f'  {"":10}  {examples.splitlines()[0]}']
  return '\n'.join(['modes:', *lines, '', 'python main.py --mode=NAME --help shows the flags of a mode.'])


def help_of(mode: str) -> str:
  """Returns what a mode does, its flags and, where it takes a config, the config's keys."""
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
  """Returns a flag and its help, beside it or, where the flag is long, in the lines below."""
  lines = textwrap.wrap(text, WIDTH - 36)
  first = [f'  {head}'] if len(head) > 32 else [f'  {head:34}{lines.pop(0)}']
  return first + [f'  {"":34}{line}' for line in lines]
