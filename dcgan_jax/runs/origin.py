"""Begins a run with the networks of another one, as far as they fit."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from dcgan_jax import settings
from dcgan_jax.core import transfer
from dcgan_jax.devices import parallel
from dcgan_jax.runs import experiment
from dcgan_jax.errors import InputError
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.records.workdir import Origin
from dcgan_jax.core.train_state import GanState
from dcgan_jax.core.transfer import Plan, Side

# Settings under which the same parameters make other images or logits.
MEANING = {
  f'{network}.{key}'
  for network in ('generator', 'discriminator')
  for key in ('strides', 'padding', 'norm_epsilon', 'leak', 'packing')
} | {'latent.prior'}


class Plans(NamedTuple):
  """What each network of a run takes from another run."""

  generator: Plan
  discriminator: Plan


def check(origin: Origin | None, folder: Path, parts: Experiment) -> Origin | None:
  """Returns where a run is to begin, or None if it goes on or begins from chance.

  Nothing is compiled for this.

  Args:
    origin: that the user asks for; None for none.
    folder: the workdir of the run.
    parts: of the run.

  Raises:
    InputError: in one line; the run has checkpoints and did not begin there, or the other run cannot be read,
      or nothing of it fits.
  """
  if origin is None:
    return None
  if checkpoints.steps(folder / 'checkpoints'):
    before = workdir.read_origin(folder)
    if before != origin:
      began = 'without it' if before is None else f'with {before}'
      raise InputError(
        f'init_from={origin}: {folder} has checkpoints of a run that began {began}; leave the flag out to go '
        'on with that run, or choose another --workdir'
      )
    print(f'{folder}: goes on from its own checkpoints; init_from={origin} was for its beginning')
    return None
  try:
    other = experiment.build(workdir.read_settings(origin.folder))
    checkpoints.candidates(origin.folder / 'checkpoints', origin.checkpoint)
  except InputError as error:
    raise InputError(f'init_from={origin}: {error}') from error
  plans = plan(other, parts)
  if not any(each.taken for each in plans):
    raise InputError(
      f'init_from={origin}: no layer of it fits this config: {"; ".join(_reasons(plans))}; choose the widths '
      'and kernel sizes of that run, or leave the flag out'
    )
  return origin


def plan(
  other: Experiment, parts: Experiment, names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
) -> Plans:
  """Returns what each network takes; of the other run and this one, with the names of their classes."""
  shapes = [jax.eval_shape(run.initial_state) for run in (other, parts)]

  def of(network: str) -> Plan:
    old, new = (
      Side(getattr(run.gan, network), getattr(state, network).variables, run.fit.image_size, classes)
      for run, state, classes in zip((other, parts), shapes, names)
    )
    return transfer.plan(old, new)

  return Plans(of('generator'), of('discriminator'))


def first_state(origin: Origin, folder: Path, parts: Experiment, sharding: Any) -> GanState:
  """Returns the state with which a run begins that takes over networks; says and records what it takes.

  All processes of a run read the other run.

  Args:
    origin: where they come from, see `check`.
    folder: the workdir of the run.
    parts: of the run.
    sharding: of the state.

  Raises:
    InputError: the checkpoint cannot be restored, or the record cannot be written.
  """
  try:
    other = experiment.open_run(origin.folder, origin.checkpoint)
    names = (workdir.read_classes(origin.folder), parts.classes[1] if parts.classes else ())
    age = other.step + workdir.read_average_steps(origin.folder)
  except InputError as error:
    raise InputError(f'init_from={origin}: {error}') from error
  plans = plan(other.experiment, parts, names)

  def begin(old: GanState) -> GanState:
    return transfer.begin(parts.initial_state(), old, *plans)

  state = jax.jit(begin, out_shardings=sharding)(other.state)
  # An average that is new in parts must soon forget those, like that of a run from chance.
  keeps_average = state.ema is not None and other.state.ema is not None and plans.generator.whole
  if parallel.is_main():
    took = {
      network: {'taken': each.taken, 'new': each.new, 'left_out': each.left_out}
      for network, each in plans._asdict().items()
    }
    about = {'step': other.step, 'average_steps': age if keeps_average else 0}
    workdir.write_origin(folder, origin, about | took)
  lines = [f'init_from={origin}: step {other.step}', *_described(plans)]
  lines.append(_average(parts, other.state, keeps_average))
  changed = [
    text
    for text in settings.differences(other.experiment.settings, parts.settings)
    if text.partition(' ')[0] in MEANING
  ]
  lines += [f'what is taken computes otherwise: {"; ".join(changed)}'] if changed else []
  print('\n  '.join(lines), flush=True)
  return state


def _described(plans: Plans) -> list[str]:
  """Returns a line for each network: what is taken, what is new, what of the old one was left out."""
  lines = []
  for name, each in zip('GD', plans):
    parts = {'taken': each.taken, 'new': each.new, 'left out': each.left_out}
    lines.append(f'{name}: ' + '; '.join(f'{what}: {", ".join(x) or "nothing"}' for what, x in parts.items()))
  return lines


def _reasons(plans: Plans) -> list[str]:
  """Returns for each network what did not fit."""
  return [f'{name}: {", ".join(each.new)}' for name, each in zip('GD', plans)]


def _average(parts: Experiment, old: GanState, kept: bool) -> str:
  """Returns what becomes of the moving average, and of Adam's."""
  adam = "Adam's averages start anew"
  if not parts.recipe.ema_decay:
    return f'{adam}; the moving average is left out' if old.ema is not None else adam
  if old.ema is None:
    return f'{adam}; the moving average begins as a copy of G'
  how = 'goes on as it was' if kept else 'begins anew, since some of G is new'
  return f'{adam}; the moving average is taken like G and {how}'
