"""Training: from settings to a trained run, which resumes where it was stopped."""

import contextlib
import math
import signal
from pathlib import Path

import jax
import numpy as np

from dcgan_jax import settings
from dcgan_jax.core import compiling
from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import cache
from dcgan_jax.devices import placement, processes
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import scores, scoring
from dcgan_jax.media import pictures
from dcgan_jax.media.plots import Charts
from dcgan_jax.records import collapse, journal, lock, tracking, versions, workdir
from dcgan_jax.records.journal import Journal
from dcgan_jax.records.schedule import Schedule, of_run
from dcgan_jax.records.workdir import Origin
from dcgan_jax.records.writer import PendingGrid
from dcgan_jax.runs import sampling, starting
from dcgan_jax.runs.experiment import Experiment, build
from dcgan_jax.settings import Settings
from dcgan_jax.training import rounds, signals

# What sets of up to so many images of one's own gave, at 64x64 in batches of 64: docs/own_images.md.
SIMILAR_SETS = (
  (300, '100 emoji gave shapes and colours after 500 steps, and D knew them by heart by then'),
  (2000, '1,000 emoji gave shapes and colours after 500 steps, which D did not know by heart'),
  (math.inf, '3,786 emoji gave shapes and colours after 500 steps, and scores improved for 10,000'),
)


def run(
  chosen: Settings,
  folder: Path,
  allow_config_change: bool = False,
  profile: bool = False,
  init_from: Origin | None = None,
) -> None:
  """Trains to the end, or until a signal, see `signals`; the same call then resumes, bit for bit.

  Each process of a run calls this, with the same arguments.

  Args:
    chosen: The run's settings.
    folder: The workdir, see `workdir`.
    allow_config_change: Whether a run may be resumed with other hyper-parameters.
    profile: Whether to trace some steps, for TensorBoard or Perfetto.
    init_from: Checkpoint to initialise the networks from; None for random initialisation.

  Raises:
    InputError: One line, before anything is compiled; or the run diverged, collapsed or could not be saved.
    SystemExit: 128 and the number of the signal that stopped the run, after everything was saved.
  """
  # Check: whatever is wrong with the settings or the workdir.
  collapse.check_rates(folder, chosen)
  settings.check_retired(chosen)
  settings.check_devices(chosen, len(processes.devices()), workdir.is_trained(folder))
  workdir.check_unchanged(folder, chosen, allow_config_change)
  tracking.check(chosen.log.tracker)

  # Build the parts, open the images, and lock the workdir.
  experiment = build(chosen)
  init_from = starting.check(init_from, folder, experiment)
  with contextlib.ExitStack() as until_the_end:
    with processes.main_first():  # What is downloaded or written at the start is done by process 0 alone.
      # They refuse images without such classes.
      num_images, labels = experiment.num_images, experiment.labels
      if processes.is_main():
        until_the_end.enter_context(lock.held(folder))

    # Make or restore the state.
    cache.keep_compiled_programs()
    mesh = placement.mesh()
    state = starting.first_state(experiment, folder, mesh, init_from)
    # Only now is it known that the checkpoint fits; a refused command leaves the run unchanged.
    with processes.main_first():
      workdir.write_settings(folder, chosen, labels.names if labels else (), experiment.latents.counts)

    # Prepare the rounds, and what is recorded of them.
    schedule = of_run(chosen, num_images, int(state.step))
    distance, charts = scores.DISTANCE[chosen.eval.features], scores.charts()
    if schedule.start >= schedule.num_steps:
      _report_trained(folder, schedule.start, distance, charts)
      return
    score = scoring.make_scorer(experiment, mesh, folder) if schedule.score_every else None
    _announce(folder, schedule, chosen, num_images)
    take_round, feed = rounds.prepare(experiment, folder, schedule, mesh)
    until_the_end.enter_context(contextlib.closing(feed))
    inputs = next(feed)  # Whatever is wrong with the images is said before anything is compiled or written.

    # Train.
    step, stopped, draw = schedule.start, None, _make_draw(experiment)
    with (
      contextlib.closing(Journal(folder, chosen, schedule, draw, score, distance, charts, profile)) as log,
      signals.stop_requests() as stop,
      processes.leaving_when_others_do(),  # Innermost, because the journal would wait for a dead process.
    ):
      log.begin(state)
      while step < schedule.num_steps and log.healthy and not log.collapse and not (stopped := stop()):
        if take_round.must_compile(inputs.batches):
          log.wait(0)  # So that compiling does not count as time of the rounds in flight.
          with log.clock.spent('compilation'):
            take_round.compile(state, inputs.batches)
        with log.clock.spent('device'):
          state, sums, last = take_round(state, inputs.batches)
        step += inputs.steps
        if step < schedule.num_steps:  # The next input is made ready while the devices work on this one.
          with log.clock.waiting(last):
            inputs = next(feed)
        log.record(state, step, sums, last)
        log.wait(rounds.most_in_flight())
      log.finish(state)
    log.summarize()
    _conclude(folder, log, state, step, stopped if step < schedule.num_steps else None)


def _conclude(folder: Path, log: Journal, state: GanState, step: int, stopped: signal.Signals | None) -> None:
  """Says how training has ended.

  Raises:
    InputError: The run diverged, could not be saved, or collapsed.
    SystemExit: A signal stopped the run.
  """
  if not log.healthy:
    raise InputError(log.divergence(state))
  if log.unsaved:
    raise InputError(f'workdir={folder}: {log.unsaved}')
  if log.collapse:
    raise InputError(
      f'workdir={folder}: stopped at step {step}: {log.collapse}; to continue from there, '
      'set --config.train.on_collapse=continue'
    )
  if stopped:
    print(f'{stopped.name}: saved step {step} in {folder}; run the same command again to continue')
    raise SystemExit(128 + stopped)
  print(f'{folder}: trained to step {step}')


def _report_trained(folder: Path, step: int, distance: str, charts: Charts) -> None:
  """Says that a run is trained, and draws its pictures if it was killed before it had."""
  if processes.is_main() and workdir.samples(folder) and not (folder / 'samples.gif').exists():
    journal.draw_run(folder, distance, charts)
  print(f'{folder}: is trained to step {step}; to train further, set --config.train.num_steps={2 * step}')


def _make_draw(experiment: Experiment) -> journal.Draw:
  """Returns the function that starts to draw samples of a state.

  Their latents are always those of `--mode=sample` with the run's seed; a conditional generator makes a row
  of each class.
  """
  gan, sample = experiment.gan, experiment.settings.sample
  make_images = compiling.jit(sampling.make_images(gan.generator, 'stored', gan.pixels))
  latents = experiment.latents
  z, columns = latents.draw_grid(experiment.settings.seed, sample.num)

  def draw(state: GanState) -> PendingGrid:
    # A single device, which has the whole state, makes them: grids do not depend on how many there are.
    variables = jax.tree.map(lambda x: x.addressable_data(0), state.sampling_variables)
    if sample.statistics == 'population':
      variables = sampling.with_population(gan.generator, latents, variables)
    images = make_images(variables, z)
    return lambda: pictures.sheet(gan.pixels.restore(np.asarray(images)), gan.pixels, columns)

  return draw


def _announce(folder: Path, schedule: Schedule, chosen: Settings, num_images: int) -> None:
  """Prints what is about to be trained, and on what."""
  devices = f'{jax.device_count()} {jax.default_backend()} device{"s" * (jax.device_count() > 1)}'
  of_processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  kind = '' if jax.default_backend() == 'cpu' else f' ({jax.devices()[0].device_kind})'
  if processes.is_main():
    versions.note(folder, f'{devices}{kind}{of_processes}')
  each = chosen.train.images_per_step
  steps = f'steps {schedule.start} to {schedule.num_steps} of {each} images'
  steps += f' ({schedule.num_steps * each / num_images:,.1f} epochs of {num_images:,})'
  print(f'{folder}: {steps}, on {devices}{of_processes}', flush=True)
  if chosen.data.source.startswith(('folder:', 'npy:')) and not schedule.start:
    print(f'similar sets: {next(gave for most, gave in SIMILAR_SETS if num_images <= most)}', flush=True)
  lipschitz = chosen.train.gradient_penalty or chosen.discriminator.spectral_norm
  if chosen.train.loss == 'wasserstein' and not lipschitz:
    print(
      'train.loss=wasserstein: nothing keeps D Lipschitz continuous, without which this loss means little; '
      'set train.gradient_penalty=10 or discriminator.spectral_norm=True',
      flush=True,
    )
