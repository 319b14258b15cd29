"""Training: from settings to a trained run, which goes on where it was stopped."""

import contextlib
import dataclasses
import math
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dcgan_jax import settings
from dcgan_jax.core import conv
from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache
from dcgan_jax.data.feed import Block, Feed
from dcgan_jax.devices import parallel
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import scoring
from dcgan_jax.media import pictures
from dcgan_jax.records import checkpoints, collapse, journal, lock, tracking, versions, workdir
from dcgan_jax.records.journal import Journal
from dcgan_jax.records.plan import Plan
from dcgan_jax.records.workdir import Origin
from dcgan_jax.records.writer import Picture
from dcgan_jax.runs import experiment, origin, sampling
from dcgan_jax.runs.experiment import Experiment
from dcgan_jax.settings import Settings
from dcgan_jax.training import dispatch, signals
from dcgan_jax.training.dispatch import Steps


def run(
  chosen: Settings,
  folder: Path,
  allow_config_change: bool = False,
  profile: bool = False,
  init_from: Origin | None = None,
) -> None:
  """Trains to the end, or until a signal, see `signals`; the same call then goes on, bit for bit.

  Each process of a run that is several calls this, with the same arguments.

  Args:
    chosen: the settings.
    folder: the workdir, see `workdir`.
    allow_config_change: go on with a run that was started with other hyper-parameters.
    profile: write a trace of some steps to the workdir, for TensorBoard or Perfetto.
    init_from: the checkpoint of another run with whose networks a new run begins; None begins from chance.

  Raises:
    InputError: in one line, before anything is compiled.
    SystemExit: 128 and the number of the signal that stopped it, after everything was saved.
  """
  settings.check_devices(chosen, len(parallel.devices()), workdir.is_trained(folder))
  workdir.check_unchanged(folder, chosen, allow_config_change)
  tracking.check(chosen.log.tracker)
  parts = experiment.build(chosen)
  init_from = origin.check(init_from, folder, parts)
  with contextlib.ExitStack() as until_the_end:
    with parallel.main_first():  # What is downloaded or written at the start is done by process 0 alone.
      source, _ = parts.source, parts.classes  # Labels that are no classes are refused here.
      scoring.check(parts)
      if parallel.is_main():
        until_the_end.enter_context(lock.held(folder))
    while not _run(parts, folder, len(source), profile, init_from):
      pass


def _run(parts: Experiment, folder: Path, num_images: int, profile: bool, init_from: Origin | None) -> bool:
  """Trains in a workdir that is this run's own; returns False if it went back and must go on from there."""
  cache.keep_compiled_programs()
  mesh, train = parallel.all_devices(), parts.settings.train
  state = _first_state(parts, folder, mesh, init_from)
  # Only now it is known that the checkpoint fits: a command that is refused leaves the run as it was.
  with parallel.main_first():
    names = parts.classes[1] if parts.classes else ()
    workdir.write_settings(folder, parts.settings, names, parts.latents.counts)
  start = int(state.step)
  num_steps = train.num_steps or math.ceil(train.num_epochs * num_images / train.images_per_step)
  plan = make_plan(parts, num_images, start, num_steps, profile)
  if start >= num_steps:
    if parallel.is_main() and workdir.samples(folder) and not (folder / 'samples.gif').exists():
      journal.draw_run(folder, plan.distance)  # It was killed while it did this.
    print(f'{folder}: is trained to step {start}; --config.train.num_steps={2 * start} would go on')
    return True

  score = scoring.make(parts, mesh, folder) if plan.score_every else None
  _announce(folder, plan, parts.settings)
  loop = dispatch.steps_of_loop(plan, dispatch.steps_per_dispatch(parts.settings))
  blocks = blocks_of_steps(parts, plan, mesh, loop)
  with contextlib.closing(blocks):
    # Whatever is wrong with the images is said before anything is compiled or written.
    first = next(blocks)
    with journal.opened(folder, plan, _draw(parts), score) as log:
      state, step, stopped = _train(Steps(continued(parts, folder), mesh, loop), state, first, blocks, log)
  if not log.healthy:
    raise InputError(log.divergence(state))
  if log.unsaved:
    raise InputError(f'workdir={folder}: {log.unsaved}')
  if log.collapse:
    _go_back(parts, folder, step, log.collapse)
    return False
  if step < num_steps and stopped:
    print(f'{stopped.name}: saved step {step} in {folder}; the same command goes on from there')
    raise SystemExit(128 + stopped)
  print(f'{folder}: trained to step {step}')
  return True


def continued(parts: Experiment, folder: Path) -> Experiment:
  """Returns the run as its steps are to be, by what its workdir says of the steps before.

  Learning rates are halved as often as it has gone back to its best checkpoint. The moving average that it
  has taken from another run is as old as it was there.
  """
  times = len(collapse.rollbacks(folder))
  g, d = (
    dataclasses.replace(optimizer, learning_rate=optimizer.learning_rate / 2**times)
    for optimizer in (parts.settings.generator_optimizer, parts.settings.discriminator_optimizer)
  )
  halved = dataclasses.replace(parts.settings, generator_optimizer=g, discriminator_optimizer=d)
  built = experiment.build(halved)
  ema_steps = int(parallel.agreed(workdir.read_average_steps(folder)))
  return dataclasses.replace(built, recipe=dataclasses.replace(built.recipe, ema_steps=ema_steps))


def _go_back(parts: Experiment, folder: Path, step: int, sign: str) -> None:
  """Sets aside all checkpoints after the best, so that a run that has collapsed goes on from there.

  Raises:
    InputError: the run is told to stop, or has gone back too often, or has no best checkpoint.
  """
  times, train = len(collapse.rollbacks(folder)), parts.settings.train
  scored = [at for at, _ in checkpoints.best(folder / 'checkpoints') if at < step]
  ends = f'workdir={folder}: stopped at step {step}: {sign}'
  if train.on_collapse == 'stop':
    raise InputError(f'{ends}; --config.train.on_collapse=continue goes on from there')
  if times >= collapse.MOST_ROLLBACKS or not scored:
    why = f'it has gone back {times} times already' if scored else 'there is no best checkpoint to go back to'
    raise InputError(f'{ends}; {why}; --config.train.on_collapse=continue goes on from there')
  with parallel.main_first():
    if parallel.is_main():
      collapse.note_rollback(folder, step)
      checkpoints.leave_after(folder / 'checkpoints', scored[0], folder / 'left')
  print(
    f'step {step}: {sign}; back to step {scored[0]}, the best, with both learning rates halved '
    f'({times + 1} of {collapse.MOST_ROLLBACKS} times); later checkpoints are kept in {folder / "left"}',
    flush=True,
  )


def _train(
  steps: Steps,
  state: GanState,
  block: Block,
  blocks: Iterator[Block],
  log: Journal,
) -> tuple[GanState, int, signal.Signals | None]:
  """Runs the training loop; returns the last state, its step, and the signal that stopped it, if one did."""
  step, stopped = log.plan.start, None
  # The innermost block ends this process when another one dies, before the journal would wait for it.
  with signals.stop_requests() as stop, parallel.leaving_when_others_do():
    log.begin(state)
    while step < log.plan.num_steps and log.healthy and not log.collapse and not (stopped := stop()):
      if steps.must_compile(block.batches):
        log.wait(0)  # What the devices have done before is noted at its own time.
        with log.clock.spent('compilation'):
          steps.compile(state, block.batches)
      with log.clock.spent('device'):
        state, sums, last = steps(state, block.batches)
      step += block.steps
      if step < log.plan.num_steps:  # The next batch is made ready while the devices work on this one.
        with log.clock.waiting(last):
          block = next(blocks)
      log.record(state, step, sums, last)
      log.wait(dispatch.programs_in_flight())
    log.finish(state)
  return state, step, stopped


def make_plan(parts: Experiment, num_images: int, start: int, num_steps: int, profile: bool) -> Plan:
  """Returns what the run does, and when."""
  chosen = parts.settings
  log_every, draw_every, score_every, save_every = (
    section.steps_between(chosen.train.images_per_step, num_images)
    for section in (chosen.log, chosen.sample, chosen.eval, chosen.checkpoint)
  )
  return Plan(
    start=start,
    num_steps=num_steps,
    images_per_step=chosen.train.images_per_step,
    log_every=log_every,
    draw_every=draw_every,
    score_every=score_every,
    save_every=save_every,
    keep=chosen.checkpoint.keep,
    tensorboard=chosen.log.tensorboard,
    profile=profile,
    distance=scoring.DISTANCE[chosen.eval.features],
    probabilities=parts.recipe.loss.output is jax.nn.sigmoid,
    heeds_collapse=chosen.train.on_collapse != 'continue',
    tracker=chosen.log.tracker,
  )


def blocks_of_steps(parts: Experiment, plan: Plan, mesh: Mesh, loop: int) -> Generator[Block, None, None]:
  """Yields the input of each program of a run."""
  return make_feed(parts).blocks(mesh, plan.start, dispatch.steps_of_block(parts.settings, plan, loop))


def make_feed(parts: Experiment) -> Feed:
  """Returns the batches of the run's images."""
  data, train = parts.settings.data, parts.settings.train
  return Feed(
    parts.source,
    data.source,
    parts.settings.seed,
    train.images_per_step,
    data.memory_limit,
    data.workers,
    parts.classes[0] if parts.classes else None,
  )


def _first_state(parts: Experiment, folder: Path, mesh: Mesh, init_from: Origin | None) -> GanState:
  """Returns the state of the last checkpoint that is sound, or a new one where there is no checkpoint."""
  sharding = parallel.replicated(mesh)
  if not parallel.agreed(bool(checkpoints.steps(folder / 'checkpoints'))):
    if init_from:
      return origin.first_state(init_from, folder, parts, sharding)
    if parallel.is_main():
      workdir.forget_origin(folder)
    return parts.first_state(sharding)
  shapes = jax.eval_shape(parts.initial_state)
  _, state = checkpoints.restore_any(folder / 'checkpoints', 'last', shapes, sharding, set_aside=True)
  return state


def _draw(parts: Experiment) -> journal.Draw:
  """Returns the function that begins to draw the samples of a state.

  They are always of the latents that `--mode=sample` draws for the run's seed, with a row for each class if
  the generator is told classes.
  """
  pixels = parts.gan.pixels
  make_images: Any = jax.jit(
    sampling.make_images(parts.gan.generator, 'stored', pixels), compiler_options=conv.compiler_options()
  )
  latents = parts.latents
  z, columns = latents.draw_grid(parts.settings.seed, parts.settings.sample.num)

  def draw(state: GanState) -> Picture:
    # A single device, which has the whole state, makes them: pictures do not depend on how many there are.
    variables = jax.tree.map(lambda x: x.addressable_data(0), state.sampling_variables)
    if parts.settings.sample.statistics == 'population':
      variables = sampling.with_population(parts.gan.generator, latents, variables)
    images = make_images(variables, z)
    return lambda: pictures.grid(pictures.drawable(pixels.restore(np.asarray(images)), pixels), columns)

  return draw


def _announce(folder: Path, plan: Plan, chosen: Settings) -> None:
  """Prints what is about to be trained, and on what."""
  devices = f'{jax.device_count()} {jax.default_backend()} device{"s" * (jax.device_count() > 1)}'
  processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  kind = '' if jax.default_backend() == 'cpu' else f' ({jax.devices()[0].device_kind})'
  if parallel.is_main():
    versions.note(folder, f'{devices}{kind}{processes}')
  steps = f'steps {plan.start} to {plan.num_steps} of {plan.images_per_step} images'
  print(f'{folder}: {steps}, on {devices}{processes}', flush=True)
  lipschitz = chosen.train.gradient_penalty or chosen.discriminator.spectral_norm
  if chosen.train.loss == 'wasserstein' and not lipschitz:
    print(
      'train.loss=wasserstein: nothing keeps D Lipschitz continuous, without which this loss means little; '
      'set train.gradient_penalty=10 or discriminator.spectral_norm=True',
      flush=True,
    )
