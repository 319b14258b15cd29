"""`--mode=train`: trains a DCGAN, and goes on where it was stopped."""

import contextlib
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from dcgan_jax import cache, checkpoints, data, distributed
from dcgan_jax.commands import build, scoring, validation, workdir
from dcgan_jax.commands.diary import Diary, draw_run
from dcgan_jax.errors import InputError
from dcgan_jax.programs import (
  Batches,
  all_devices,
  compile_steps,
  mesh_axis,
  own_rows,
  put_batches,
  replicated,
)
from dcgan_jax.state import GanState

SMALL = 64 * 16 * 16 * 256  # pixels of a batch times the generator's widest layer


def run(config: ConfigDict, folder: Path, allow_config_change: bool = False, profile: bool = False) -> None:
  """Trains to the end, or until Ctrl-C or SIGTERM; the same call then goes on, bit for bit.

  Each process of a run that is several calls this, with the same arguments.

  Args:
    config: validated, see `configs/base.py`.
    folder: the workdir, see `workdir`.
    allow_config_change: go on with a run that was started with other hyper-parameters.
    profile: write a trace of some steps to the workdir, for TensorBoard or Perfetto.

  Raises:
    InputError: in one line, before anything is compiled.
    SystemExit: 130 or 143, stopped by a signal, after everything was saved.
  """
  validation.check_devices(config, jax.device_count())
  workdir.check_unchanged(folder, config, allow_config_change)
  with distributed.main_first():  # what is downloaded, or written at the start, is so once
    source = build.source(config)
    workdir.write_config(folder, config)

  create = build.initial_state(config)
  done = checkpoints.steps(folder / 'checkpoints')
  begun = int(distributed.agreed(done[-1] if done else -1))  # 0: with weights from elsewhere
  start = max(0, begun)
  batch_size = config.train.batch_size * config.train.d_steps  # images a step
  num_steps = config.train.num_steps or math.ceil(config.train.num_epochs * len(source) / batch_size)
  if start >= num_steps:
    print(f'{folder}: is trained to step {start}; --config.train.num_steps={2 * start} would go on')
    return

  cache.keep_compiled_programs()
  mesh = all_devices()
  score = scoring.make(config, source, mesh) if config.eval.every_steps else None
  if begun >= 0:
    state = checkpoints.restore(folder / 'checkpoints', start, jax.eval_shape(create), replicated(mesh))
  else:
    state = jax.jit(create, out_shardings=replicated(mesh))()
  processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  print(
    f'{folder}: steps {start} to {num_steps} of {batch_size} images, on {jax.device_count()} '
    f'{jax.default_backend()} device{"s" * (jax.device_count() > 1)}{processes}',
    flush=True,
  )
  with contextlib.closing(_feed(source, config, mesh, start, num_steps, batch_size)) as feed:
    _train(config, folder, mesh, state, start, num_steps, feed, batch_size, score, profile)


def steps_per_dispatch(config: ConfigDict) -> int:
  """How many steps are one program: as configured or, by default, up to 10 of a small model's.

  Always a divisor of the steps between whatever else happens in a run, so that a run that was stopped
  goes on with the very programs of one that was not.
  """
  every = math.gcd(*(config[key].every_steps for key in ('log', 'sample', 'eval', 'checkpoint')))
  most = config.train.steps_per_dispatch
  if not most:
    height, width = validation.image_size(config)
    pixels = config.train.batch_size * config.train.d_steps * height * width
    small = pixels * max(config.generator.widths) <= SMALL
    most = 10 if small and jax.default_backend() != 'cpu' else 1  # XLA:CPU runs loops at half the speed
  return max(n for n in range(1, most + 1) if every % n == 0)


def _feed(
  source: data.Source, config: ConfigDict, mesh: Mesh, step: int, num_steps: int, batch_size: int
) -> Generator[Batches, None, None]:
  """Batches from a step on: of images on the devices if the data set fits, streamed if not."""
  rows = own_rows(mesh, batch_size)
  height, width = validation.image_size(config)
  mebibytes = len(source) * height * width * config.data.channels / 2**20
  if mebibytes > config.data.memory_limit:
    stream = data.batches_streamed(source, config.seed, step, batch_size, config.data.workers, rows)
    with contextlib.closing(stream):
      for images in stream:
        yield put_batches(mesh, None, images[None])
  images = cache.load(source, config.data.source)
  resident = jax.make_array_from_process_local_data(replicated(mesh), images, images.shape)
  together = steps_per_dispatch(config)
  while True:
    # single steps to where blocks begin and from where they do not fit any more
    count = together if step % together == 0 and step + together <= num_steps else 1
    indices = [data.batch_indices(config.seed, step + i, batch_size, len(images)) for i in range(count)]
    yield put_batches(mesh, resident, np.stack(indices)[:, rows])
    step += count


def _train(
  config: ConfigDict,
  folder: Path,
  mesh: Mesh,
  state: GanState,
  start: int,
  num_steps: int,
  feed: Iterator[Batches],
  batch_size: int,
  score: scoring.Scorer | None,
  profile: bool,
) -> None:
  """The loop."""
  run_steps = compile_steps(build.train_step(config, mesh_axis(mesh)), mesh)
  main = distributed.is_main()
  batches = next(feed)  # whatever is wrong with the images is said before anything is compiled or written
  saver = checkpoints.open_for_writing(folder / 'checkpoints', config.checkpoint.keep)
  best = checkpoints.best(saver)
  least = best[1] if best else math.inf  # score so far
  tracer = _Tracer(folder / 'profile', start) if profile and main else None

  def every(steps: int) -> bool:
    return steps > 0 and (step % steps == 0 or step == num_steps)

  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(stop_requests())
    stack.enter_context(contextlib.closing(saver))
    bar = stack.enter_context(
      tqdm(total=num_steps, initial=start, unit='step', disable=None if main else True)
    )
    diary = stack.enter_context(contextlib.closing(Diary(config, folder, start, bar))) if main else None
    stack.enter_context(distributed.leaving_when_others_do())  # the saver would wait for them
    step, saved, values, finite = start, start, None, True
    if diary and start == 0:
      diary.picture(0, state)
    clock = _Clock(start)
    while step < num_steps and finite and not (stopped := stop()):
      state, new_values = run_steps(state, batches)
      count = len(batches.xs)
      if step + count < num_steps:  # the next ones are made ready while the devices work on these
        with clock.waiting(new_values):
          batches = next(feed)
      # of the program before: one in flight is enough, and a signal is met soon
      jax.block_until_ready(values)
      step, values = step + count, new_values
      bar.update(count)
      if tracer:
        tracer.step(step, state)
      logs, scores, saves = (every(config[key].every_steps) for key in ('log', 'eval', 'checkpoint'))
      if (logs or scores or saves) and not (finite := bool(_is_finite(state))):
        break  # before any of it is written
      if diary and logs:
        diary.progress(step, values, clock.lap(step, batch_size))
      if diary and every(config.sample.every_steps):
        diary.picture(step, state)
      distance = None
      if score and scores:
        with clock.paused():
          row = score(state)
        distance = row[scoring.DISTANCE[config.eval.features]]
        if diary:
          diary.scores(step, row)
      better = distance is not None and bool(distributed.agreed(distance < least))
      if saves or better:
        checkpoints.save(saver, state, distance)
        saved = step
      if distance is not None:
        least = min(least, distance)
    if finite and step > saved and (finite := bool(_is_finite(state))):
      checkpoints.save(saver, state)
  if tracer:
    tracer.close(step)
  if main:
    draw_run(folder, config)
  if not finite:
    raise InputError(_divergence(folder, step, state))
  if step < num_steps and stopped:
    print(f'{stopped.name}: saved step {step} in {folder}; the same command goes on from there')
    raise SystemExit(128 + stopped)
  print(f'{folder}: trained to step {step}')


@jax.jit
def _is_finite(tree: Any) -> Array:
  """Whether every number in it is."""
  numbers = (x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating))
  return jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()


def _divergence(folder: Path, step: int, state: GanState) -> str:
  """What to say of a run whose numbers are not finite any more."""
  networks = ('generator', 'discriminator')
  broken = ' and '.join(name for name in networks if not _is_finite(getattr(state, name)))
  done = checkpoints.steps(folder / 'checkpoints')
  kept = f'the last good checkpoint is of step {done[-1]}' if done else 'there is no checkpoint yet'
  return (
    f'workdir={folder}: training has diverged: at step {step} numbers of {broken} are not finite; '
    f'{kept}; try lower learning rates, with --allow_config_change or in another --workdir'
  )


class _Tracer:
  """Traces ten steps, when the first ones, which compile, are done."""

  def __init__(self, folder: Path, start: int):
    self._folder, self._first, self._running, self._done = folder, start + 10, False, False

  def step(self, step: int, state: GanState) -> None:
    """To be called after each program, with the steps done and the state that they lead to."""
    if self._done or step < self._first:
      return
    if not self._running:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(self._folder))
      self._running, self._first = True, step
    elif step >= self._first + 10:
      jax.block_until_ready(state)
      self.close(step)

  def close(self, step: int) -> None:
    """Ends the trace, if it has not ended yet, or says why there is none."""
    if self._running:
      jax.profiler.stop_trace()
      self._running, self._done = False, True
      print(f'trace of steps {self._first} to {step} in {self._folder}, for TensorBoard or Perfetto')
    elif not self._done:
      print(f'no trace: it takes more than ten steps, to {self._first} at least')


class _Clock:
  """Where the time between two rows of metrics went."""

  def __init__(self, step: int):
    self._restart(step)

  def _restart(self, step: int) -> None:
    self._step, self._start, self._waited = step, time.perf_counter(), 0.0

  @contextlib.contextmanager
  def waiting(self, values: Any) -> Iterator[None]:
    """Counts the time within as waiting for input, unless the devices still work on `values` after it."""
    start = time.perf_counter()
    yield
    if all(value.is_ready() for value in jax.tree.leaves(values)):
      self._waited += time.perf_counter() - start

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves out the time within."""
    start = time.perf_counter()
    yield
    self._start += time.perf_counter() - start

  def lap(self, step: int, batch_size: int) -> dict[str, float]:
    """`images_per_second` since the last lap, and `input_wait`, the share of time spent waiting for input."""
    seconds = time.perf_counter() - self._start
    rate, wait = (step - self._step) * batch_size / seconds, self._waited / seconds
    self._restart(step)
    return {'images_per_second': round(rate, 2), 'input_wait': round(wait, 5)}


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
  """Gives what tells whether Ctrl-C or SIGTERM has come; a second one then acts as usual.

  In a run of several processes it has come when it came to any of them, and all are told at the same of
  their calls: so each must call equally often.
  """
  if jax.process_count() > 1:
    # JAX's runtime has a handler of its own for SIGTERM, by which the processes agree
    previous = signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    calls = itertools.count(1)
    reached = multihost_utils.reached_preemption_sync_point
    try:
      yield lambda: signal.SIGTERM if reached(next(calls)) else None
    finally:
      signal.signal(signal.SIGINT, previous)
  elif threading.current_thread() is not threading.main_thread():
    yield lambda: None  # signals are the main thread's
  else:
    with _stop_signals() as caught:
      yield lambda: caught[0] if caught else None


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[signal.Signals]]:
  """Notes Ctrl-C and SIGTERM in the list instead of dying."""
  caught: list[signal.Signals] = []

  def note(number: int, _: Any) -> None:
    caught.append(signal.Signals(number))
    for name, handler in previous.items():
      signal.signal(name, handler)

  previous = {name: signal.signal(name, note) for name in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield caught
  finally:
    for name, handler in previous.items():
      signal.signal(name, handler)
