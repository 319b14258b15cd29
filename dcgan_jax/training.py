"""Training: from settings to a trained run, which goes on where it was stopped."""

import contextlib
import dataclasses
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from dcgan_jax import conv, experiment, parallel, sampling, settings
from dcgan_jax.data import cache
from dcgan_jax.data.feed import Feed
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import scoring
from dcgan_jax.experiment import Experiment
from dcgan_jax.journal import checkpoints, collapse, journal, lock, pictures, signals, workdir
from dcgan_jax.journal.journal import Journal, Plan
from dcgan_jax.parallel import Batches
from dcgan_jax.settings import Settings
from dcgan_jax.train_state import GanState

SMALL = 64 * 16 * 16 * 256  # pixels of a batch times the generator's widest layer


def run(chosen: Settings, folder: Path, allow_config_change: bool = False, profile: bool = False) -> None:
  """Trains to the end, or until Ctrl-C or SIGTERM; the same call then goes on, bit for bit.

  Each process of a run that is several calls this, with the same arguments.

  Args:
    chosen: the settings.
    folder: the workdir, see `workdir`.
    allow_config_change: go on with a run that was started with other hyper-parameters.
    profile: write a trace of some steps to the workdir, for TensorBoard or Perfetto.

  Raises:
    InputError: in one line, before anything is compiled.
    SystemExit: 130 or 143, stopped by a signal, after everything was saved.
  """
  settings.check_devices(chosen, jax.device_count())
  workdir.check_unchanged(folder, chosen, allow_config_change)
  parts = experiment.build(chosen)
  with contextlib.ExitStack() as until_the_end:
    with parallel.main_first():  # What is downloaded or written at the start is done by process 0 alone.
      source = parts.source
      names = parts.classes[1] if parts.classes else ()
      if parallel.is_main():
        until_the_end.enter_context(lock.held(folder))
      workdir.write_settings(folder, chosen, names)
    while not _run(with_halved_rates(parts, folder), folder, len(source), profile):
      pass


def _run(parts: Experiment, folder: Path, num_images: int, profile: bool) -> bool:
  """Trains in a workdir that is this run's own; returns False if it went back and must go on from there."""
  cache.keep_compiled_programs()
  mesh, train = parallel.all_devices(), parts.settings.train
  state = _first_state(parts, folder, mesh)
  start = int(state.step)
  num_steps = train.num_steps or math.ceil(train.num_epochs * num_images / train.images_per_step)
  plan = _plan(parts, start, num_steps, profile)
  if start >= num_steps:
    if parallel.is_main() and workdir.samples(folder) and not (folder / 'samples.gif').exists():
      journal.draw_run(folder, plan.distance)  # It was killed while it did this.
    print(f'{folder}: is trained to step {start}; --config.train.num_steps={2 * start} would go on')
    return True

  score = scoring.make(parts, mesh, folder) if plan.score_every else None
  _announce(folder, plan, parts.settings)
  with contextlib.closing(make_feed(parts).batches(mesh, plan.start, num_steps)) as batches:
    # Whatever is wrong with the images is said before anything is compiled or written.
    first = next(batches)
    with journal.opened(folder, plan, _draw(parts), score) as log:
      run_steps = compile_steps(parts, mesh)
      state, step, stopped = _train(run_steps, state, first, batches, log)
  if not log.healthy:
    raise InputError(log.divergence(state))
  if log.unsaved:
    raise InputError(
      f'workdir={folder}: {log.unsaved}; free some room, and the same command goes on from there'
    )
  if log.collapse:
    _go_back(parts, folder, step, log.collapse)
    return False
  if step < num_steps and stopped:
    print(f'{stopped.name}: saved step {step} in {folder}; the same command goes on from there')
    raise SystemExit(128 + stopped)
  print(f'{folder}: trained to step {step}')
  return True


def with_halved_rates(parts: Experiment, folder: Path) -> Experiment:
  """Returns the run with learning rates halved as often as it has gone back to its best checkpoint."""
  times = len(collapse.rollbacks(folder))
  if not times:
    return parts
  g, d = (
    dataclasses.replace(optimizer, learning_rate=optimizer.learning_rate / 2**times)
    for optimizer in (parts.settings.generator_optimizer, parts.settings.discriminator_optimizer)
  )
  halved = dataclasses.replace(parts.settings, generator_optimizer=g, discriminator_optimizer=d)
  return experiment.build(halved)


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
  run_steps: Callable[[GanState, Batches], tuple[GanState, dict[str, Array]]],
  state: GanState,
  batch: Batches,
  batches: Iterator[Batches],
  log: Journal,
) -> tuple[GanState, int, signal.Signals | None]:
  """Runs the training loop; returns the last state, its step, and the signal that stopped it, if one did."""
  step, values, stopped = log.plan.start, None, None
  # The innermost block ends this process when another one dies, before the journal would wait for it.
  with signals.stop_requests() as stop, parallel.leaving_when_others_do():
    log.begin(state)
    while step < log.plan.num_steps and log.healthy and not log.collapse and not (stopped := stop()):
      state, new_values = run_steps(state, batch)
      step += batch.steps
      if step < log.plan.num_steps:  # The next batch is made ready while the devices work on this one.
        with log.clock.waiting(new_values):
          batch = next(batches)
      # At most one program is in flight, so that a signal is noticed soon.
      jax.block_until_ready(values)
      values = new_values
      log.record(step, state, values)
    log.finish(state)
  return state, step, stopped


def compile_steps(parts: Experiment, mesh: Mesh) -> jax.stages.Wrapped:
  """Returns the program of a run's steps, see `parallel.compile_steps`."""
  train_step = parts.train_step(parallel.mesh_axis(mesh))
  return parallel.compile_steps(train_step, mesh, parts.settings.train.deterministic)


def steps_per_dispatch(chosen: Settings, platform: str | None = None) -> int:
  """Returns how many steps are one program: as configured or, by default, up to 10 of a small model's.

  It always divides the steps between whatever else happens in a run, so that a run that was stopped
  goes on with the very programs of one that was not.

  Args:
    chosen: the settings.
    platform: 'cpu' | 'gpu' | 'tpu', what is trained on; None is what JAX runs on here.
  """
  every = math.gcd(
    *(part.every_steps for part in (chosen.log, chosen.sample, chosen.eval, chosen.checkpoint))
  )
  most = chosen.train.steps_per_dispatch
  if not most:
    small = chosen.train.images_per_step * math.prod(chosen.data.size) * max(chosen.generator.widths) <= SMALL
    # XLA:CPU runs loops at half the speed.
    most = 10 if small and (platform or jax.default_backend()) != 'cpu' else 1
  return max(n for n in range(1, most + 1) if every % n == 0)


def _plan(parts: Experiment, start: int, num_steps: int, profile: bool) -> Plan:
  """Returns what the run does, and when."""
  chosen = parts.settings
  return Plan(
    start=start,
    num_steps=num_steps,
    images_per_step=chosen.train.images_per_step,
    log_every=chosen.log.every_steps,
    draw_every=chosen.sample.every_steps,
    score_every=chosen.eval.every_steps,
    save_every=chosen.checkpoint.every_steps,
    keep=chosen.checkpoint.keep,
    tensorboard=chosen.log.tensorboard,
    profile=profile,
    distance=scoring.DISTANCE[chosen.eval.features],
    probabilities=parts.recipe.loss.output is jax.nn.sigmoid,
    heeds_collapse=chosen.train.on_collapse != 'continue',
  )


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
    steps_per_dispatch(parts.settings),
    parts.classes[0] if parts.classes else None,
  )


def _first_state(parts: Experiment, folder: Path, mesh: Mesh) -> GanState:
  """Returns the state of the last checkpoint that is sound, or a new one where there is no checkpoint."""
  sharding = parallel.replicated(mesh)
  if not parallel.agreed(bool(checkpoints.steps(folder / 'checkpoints'))):
    return jax.jit(parts.initial_state, out_shardings=sharding)()
  shapes = jax.eval_shape(parts.initial_state)
  _, state = checkpoints.restore_any(folder / 'checkpoints', 'last', shapes, sharding)
  return state


def _draw(parts: Experiment) -> Callable[[GanState], np.ndarray]:
  """Returns the function from a state to its grid of samples, uint8 [H, W, C].

  They are always of the latents that `--mode=sample` draws for the run's seed, with a row for each class if
  the generator is told classes.
  """
  make_images: Any = jax.jit(
    sampling.make_images(parts.gan.generator, 'stored'), compiler_options=conv.compiler_options()
  )
  latents, seed, num = parts.gan.latents, parts.settings.seed, parts.settings.sample.num
  columns = max(1, num // latents.classes) if latents.classes else None
  if columns is None:
    z = sampling.draw(latents, seed, num)
  else:
    z = sampling.draw_classes(latents, seed, columns, range(min(num, latents.classes)))

  def draw(state: GanState) -> np.ndarray:
    # A single device, which has the whole state, makes them: pictures do not depend on how many there are.
    variables = jax.tree.map(lambda x: x.addressable_data(0), state.sampling_variables)
    if parts.settings.sample.statistics == 'population':
      variables = sampling.with_population(parts.gan.generator, latents, variables)
    return pictures.grid(np.asarray(make_images(variables, z)), columns if columns != 1 else None)

  return draw


def _announce(folder: Path, plan: Plan, chosen: Settings) -> None:
  """Prints what is about to be trained, and on what."""
  devices = f'{jax.device_count()} {jax.default_backend()} device{"s" * (jax.device_count() > 1)}'
  processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  steps = f'steps {plan.start} to {plan.num_steps} of {plan.images_per_step} images'
  print(f'{folder}: {steps}, on {devices}{processes}', flush=True)
  lipschitz = chosen.train.gradient_penalty or chosen.discriminator.spectral_norm
  if chosen.train.loss == 'wasserstein' and not lipschitz:
    print(
      'train.loss=wasserstein: nothing keeps D Lipschitz continuous, without which this loss means little; '
      'set train.gradient_penalty=10 or discriminator.spectral_norm=True',
      flush=True,
    )
