"""What a run writes and says on its way: metrics, scores, pictures, signs of collapse."""

import datetime
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict
from tqdm import tqdm

from dcgan_jax import collapse, conv, images, latents, losses, metrics
from dcgan_jax.commands import build, scoring, workdir
from dcgan_jax.commands.sample import make_images
from dcgan_jax.state import GanState


class Diary:
  """To be kept by one process of the run, and closed.

  Args:
    config: of the run.
    folder: its workdir.
    start: step that it goes on from.
    bar: of its progress, shown on a terminal only.
  """

  def __init__(self, config: ConfigDict, folder: Path, start: int, bar: tqdm):
    self._config, self._folder, self._bar = config, folder, bar
    self._writer = metrics.MetricsWriter(folder, start, config.log.tensorboard)
    self._signs: collapse.Signs = {}
    self._draw = _picture_of(config)

  def progress(self, step: int, values: dict[str, Array], speed: dict[str, float]) -> None:
    """Writes a row of metrics, of the last of some steps, and shows it."""
    row = {name: float(value[-1]) for name, value in jax.device_get(values).items()} | speed
    self._writer.write(step, row)
    self._report(step, row)
    self._warn(step)

  def scores(self, step: int, row: dict[str, float]) -> None:
    """Writes a row of scores, and says what they tell."""
    self._writer.write(step, row)
    distance = scoring.DISTANCE[self._config.eval.features]
    names = (distance, 'precision', 'recall', 'coverage')
    self._say(f'step {step}  ' + '  '.join(f'{name.replace("_", " ")} {row[name]:.4g}' for name in names))
    self._warn(step)

  def picture(self, step: int, state: GanState) -> None:
    """Draws samples, if the run has pictures."""
    if not self._config.sample.every_steps:
      return
    made = self._draw(state)
    images.save_png(workdir.sample(self._folder, step), images.zoom(made))
    self._writer.add_image(step, made)

  def close(self) -> None:
    self._writer.close()

  def _warn(self, step: int) -> None:
    """Says what signs of collapse are new."""
    rows, config = self._writer.rows, self._config
    signs = collapse.of_scores(rows, scoring.DISTANCE[config.eval.features])
    if losses.LOSSES[config.train.loss].output is jax.nn.sigmoid:  # D's outputs are probabilities
      signs |= collapse.of_outputs(rows)
    for name in sorted(signs.keys() - self._signs.keys()):
      self._say(f'step {step}: {signs[name]}')
    self._signs = signs

  def _say(self, line: str) -> None:
    self._bar.write(line)  # above the bar, if there is one
    sys.stdout.flush()

  def _report(self, step: int, row: dict[str, float]) -> None:
    """On a terminal in the progress bar, elsewhere as a line."""
    told = f'loss_d {row["loss_d"]:.3f}  loss_g {row["loss_g"]:.3f}'
    speed = f'{row["images_per_second"]:.0f} images/s'
    if not self._bar.disable:
      self._bar.set_postfix_str(f'{told}  {speed}', refresh=False)
      return
    train, num_steps = self._config.train, self._bar.total
    seconds = (num_steps - step) * train.batch_size * train.d_steps / row['images_per_second']
    print(
      f'step {step}/{num_steps}  {told}  {speed}  {datetime.timedelta(seconds=round(seconds))} left',
      flush=True,
    )


def _picture_of(config: ConfigDict) -> Callable[[GanState], np.ndarray]:
  """Makes the function from a state to its grid of samples: always of the latents that `--mode=sample`
  draws for the same seed."""
  generate = jax.jit(
    make_images(build.networks(config)[0], 'stored'), compiler_options=conv.compiler_options()
  )
  indices = jnp.arange(config.sample.num)
  z = latents.sample(jax.random.key(config.seed), indices, config.latent.size, config.latent.prior)

  def draw(state: GanState) -> np.ndarray:
    # on one device, which has the whole state: the same picture however many there are
    variables = jax.tree.map(lambda x: x.addressable_data(0), state.sampling_variables)
    return images.grid(np.asarray(generate(variables, z)))

  return draw


def draw_run(folder: Path, config: ConfigDict) -> None:
  """The pictures of the whole run."""
  rows = metrics.read(folder / 'metrics.jsonl')
  if any('loss_d' in row for row in rows):
    metrics.plot_losses(folder / 'losses.png', rows)
  distance = scoring.DISTANCE[config.eval.features]
  if any(distance in row for row in rows):
    metrics.plot_scores(folder / 'scores.png', rows, distance)
  frames = workdir.samples(folder)
  if frames:
    images.save_gif(folder / 'samples.gif', frames)
