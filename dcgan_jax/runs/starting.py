"""Where training starts: from the run's last checkpoint, another run's networks, or random initialisation."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from flax import traverse_util
from jax.sharding import Mesh

from dcgan_jax import settings
from dcgan_jax.core import compiling, transfer
from dcgan_jax.core.train_state import GanState
from dcgan_jax.core.transfer import Side, Transfer
from dcgan_jax.devices import placement, processes
from dcgan_jax.errors import InputError
from dcgan_jax.records import checkpoints, hub, workdir
from dcgan_jax.records.workdir import Origin
from dcgan_jax.runs.experiment import Experiment, build, check_checkpoint, open_run

# Settings under which the same parameters make other images or logits.
MEANING = {
  f'{network}.{key}'
  for network in ('generator', 'discriminator')
  for key in ('strides', 'padding', 'norm_epsilon', 'leak', 'packing')
} | {'latent.prior'}


class Plans(NamedTuple):
  """What each network of a run takes from another run."""

  generator: Transfer
  discriminator: Transfer


def check(init_from: Origin | None, folder: Path, experiment: Experiment) -> Origin | None:
  """Returns the checkpoint to initialise the networks from; None if the run resumes or has none.

  Nothing is compiled for this.

  Args:
    init_from: Checkpoint that the user asks for; None for none.
    folder: The workdir.
    experiment: The run.

  Raises:
    InputError: The run has checkpoints and did not start from that one, the other run cannot be read,
      nothing of it fits, or layers are to be frozen that it does not give.
  """
  is_trained = bool(checkpoints.steps(folder / 'checkpoints'))
  if init_from is None:
    if experiment.recipe.freeze and not is_trained:
      raise InputError(
        f'train.freeze={experiment.recipe.freeze}: keeps layers of D as another run has trained them; name '
        'that run by --init_from=WORKDIR, or set it to 0'
      )
    return None
  if is_trained:
    before = workdir.read_origin(folder)
    if before != init_from:
      began = 'without it' if before is None else f'with {before}'
      raise InputError(
        f'init_from={init_from}: {folder} has checkpoints of a run that began {began}; leave the flag out to '
        'go on with that run, or choose another --workdir'
      )
    print(f'{folder}: continues from its own checkpoints; init_from={init_from} applied only to its start')
    return None
  try:
    other = build(workdir.read_settings(init_from.folder))
    check_checkpoint(init_from.folder, init_from.checkpoint)
    kinds = workdir.read_networks(init_from.folder)
  except InputError as error:
    raise InputError(f'init_from={init_from}: {error}') from error
  plans = plan(other, experiment, kinds)
  if not any(each.taken for each in plans):
    raise InputError(
      f'init_from={init_from}: no layer of it fits this config: {"; ".join(_reasons(plans))}; choose the '
      'widths and kernel sizes of that run, or leave the flag out'
    )
  _check_frozen(init_from, experiment, plans)
  return init_from


def _check_frozen(init_from: Origin, experiment: Experiment, plans: Plans) -> None:
  """Refuses to freeze layers at random initialisation.

  Raises:
    InputError: D does not take all layers that are to be frozen.
  """
  freeze, pieces = experiment.recipe.freeze, plans.discriminator.pieces
  frozen = experiment.gan.discriminator.nearest_image(freeze)
  params = traverse_util.flatten_dict({'params': experiment.shapes.discriminator.params})
  new = sorted(
    {key[1] for key in params if key[1] in frozen and (key not in pieces or pieces[key].new is not None)}
  )
  if new:
    raise InputError(
      f'train.freeze={freeze}: {", ".join(new)} of D would stay at random, for init_from={init_from} has no '
      'such layers; take a run with the same ones, or set it to 0'
    )


def first_state(experiment: Experiment, folder: Path, mesh: Mesh, init_from: Origin | None) -> GanState:
  """Returns the state that training starts from, replicated.

  It is that of the last sound checkpoint or, if the run has no checkpoint, that of step 0.

  Args:
    experiment: The run.
    folder: The workdir.
    mesh: All devices.
    init_from: Checkpoint to initialise the networks from, see `check`; None for random initialisation.

  Raises:
    InputError: A checkpoint cannot be restored, or init_from.json cannot be written.
  """
  sharding = placement.replicated(mesh)
  if processes.agreed(bool(checkpoints.steps(folder / 'checkpoints'))):
    kept = folder / 'checkpoints'
    return checkpoints.restore_any(kept, 'last', experiment.initial_state, sharding, set_aside=True)[1]
  if init_from:
    return _initialised(experiment, folder, mesh, init_from)
  if processes.is_main():
    workdir.forget_origin(folder)
  return experiment.first_state(sharding)


def with_age_of_average(experiment: Experiment, folder: Path) -> Experiment:
  """Returns the run with the age that its moving average started with; 0 unless taken from another run."""
  ema_steps = int(processes.agreed(workdir.read_average_steps(folder)))
  return dataclasses.replace(experiment, recipe=dataclasses.replace(experiment.recipe, ema_steps=ema_steps))


def plan(
  other: Experiment,
  experiment: Experiment,
  kinds: tuple[str, ...] = hub.NETWORKS,
  names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> Plans:
  """Returns what each network takes.

  Args:
    other: The other run.
    experiment: This run.
    kinds: Networks that there are of the other run.
    names: Class names of the other run and of this one.
  """

  def of(network: str) -> Transfer:
    old, new = (
      Side(getattr(run.gan, network), getattr(run.shapes, network).variables, run.fit.image_size, classes)
      for run, classes in zip((other, experiment), names)
    )
    return transfer.match(old if network in kinds else old._replace(variables={}), new)

  return Plans(of('generator'), of('discriminator'))


def _initialised(experiment: Experiment, folder: Path, mesh: Mesh, init_from: Origin) -> GanState:
  """Returns the first state with another run's networks, as far as they fit; prints and records what fits.

  All processes of a run read the other run.
  """
  try:
    other = open_run(init_from.folder, init_from.checkpoint)
    own_names = experiment.labels.names if experiment.labels else ()
    names = (workdir.read_classes(init_from.folder), own_names)
    kinds = workdir.read_networks(init_from.folder)
    age = other.step + workdir.read_average_steps(init_from.folder)
  except InputError as error:
    raise InputError(f'init_from={init_from}: {error}') from error
  plans = plan(other.experiment, experiment, kinds, names)
  _check_frozen(init_from, experiment, plans)

  def begin(old: GanState) -> GanState:
    return transfer.begin(experiment.initial_state(), old, *plans)

  initialise = compiling.jit(begin, runs_once=True, out_shardings=placement.replicated(mesh))
  state: GanState = initialise(other.state)
  # An average that is new in parts must soon forget those, like that of a randomly initialised run.
  keeps_average = state.ema is not None and other.state.ema is not None and plans.generator.whole
  if processes.is_main():
    took = {
      network: {'taken': each.taken, 'new': each.new, 'left_out': each.left_out}
      for network, each in plans._asdict().items()
    }
    about = {'step': other.step, 'average_steps': age if keeps_average else 0}
    workdir.write_origin(folder, init_from, about | took)
  alone = '' if kinds == hub.NETWORKS else ', a generator alone: D starts at random'
  lines = [f'init_from={init_from}: step {other.step}{alone}', *_described(plans)]
  lines.append(_average(experiment, other.state, keeps_average))
  changed = [
    text
    for text in settings.differences(other.experiment.settings, experiment.settings)
    if text.partition(' ')[0] in MEANING
  ]
  if changed:
    lines.append(f'these changes make the layers taken give other outputs: {"; ".join(changed)}')
  print('\n  '.join(lines), flush=True)
  return state


def _described(plans: Plans) -> list[str]:
  """Returns a line for each network: what is taken, what is new, what of the old one was left out."""
  lines = []
  for name, each in zip('GD', plans):
    found = {'taken': each.taken, 'new': each.new, 'left out': each.left_out}
    lines.append(f'{name}: ' + '; '.join(f'{what}: {", ".join(x) or "nothing"}' for what, x in found.items()))
  return lines


def _reasons(plans: Plans) -> list[str]:
  """Returns for each network what did not fit."""
  return [f'{name}: {", ".join(each.new)}' for name, each in zip('GD', plans)]


def _average(experiment: Experiment, old: GanState, kept: bool) -> str:
  """Returns what becomes of the moving average, and of Adam's."""
  adam = "Adam's averages start anew"
  if not experiment.recipe.ema_decay:
    return f'{adam}; the moving average is left out' if old.ema is not None else adam
  if old.ema is None:
    return f'{adam}; the moving average begins as a copy of G'
  how = 'goes on as it was' if kept else 'begins anew, since some of G is new'
  return f'{adam}; the moving average is taken like G and {how}'
