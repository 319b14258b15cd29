"""Measures what a discriminator has learned, by a linear classifier of its activations (paper, section 5).

It prints a table, and writes probe.json and features.png: what the maps of D's last hidden layer respond to.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from dcgan_jax import files
from dcgan_jax.core import compiling, norm_statistics
from dcgan_jax.core.models import Discriminator, alone
from dcgan_jax.data import cache
from dcgan_jax.devices import placement
from dcgan_jax.devices.programs import map_rows
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures, plots
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment
from dcgan_jax.trained.analysis import attribution, features, labelled, svm
from dcgan_jax.trained.analysis.labelled import Part, Split

LABELS, DRAWS = 1000, 10  # the paper's few labels, and the number of draws
FEW_ITERATIONS, FEW_TOLERANCE = 600, 1e-5  # of a fit to few images; at least as good as liblinear's default
BATCH_SIZE = 128  # images in a device's batch
MAPS, SHOWN, LOOKED_AT = 6, 4, 10_000  # of features.png: maps, images for each, images to choose from


def run(folder: Path, num: int | None, checkpoint: str, data_name: str | None) -> None:
  """Probes a run's discriminator and writes the results to the workdir.

  For reference, so are a randomly initialised discriminator, and the pixels as features.

  Args:
    folder: The workdir.
    num: Largest number of images, and of images of a test split; None for all.
    checkpoint: 'last', 'best' or the number of a step.
    data_name: Another labelled source, made to fit the run's images; None for the run's own.

  Raises:
    InputError: in one line.
  """
  files.to_be_written('DCGAN_JAX_CACHE', str(cache.folder() / 'probe'))  # the place of the features
  parts, step, state, _ = experiment.open_run(folder, checkpoint)
  split = labelled.divide(parts, data_name, num, LABELS)
  cache.keep_compiled_programs()
  discriminator = parts.gan.discriminator
  random = parts.first_state().discriminator
  networks = {f'D, step {step}': state.discriminator, 'D, random': random}
  rows, drawn = {}, {}

  def inputs() -> Iterator[Array]:
    return (alone(batch, discriminator) for batch in split.train.inputs(BATCH_SIZE))

  for name, net in networks.items():
    # The paper re-estimates the statistics over the training images; the running ones are of the fakes, too.
    others = {key: value for key, value in net.batch_stats.items() if not key.startswith('norm')}
    stats = norm_statistics.estimate(discriminator, net.params, others, inputs)
    variables = {'params': net.params, 'batch_stats': stats}
    rows[name] = _measure(name, features.make_features(discriminator, parts.gan.pixels), variables, split)
    drawn[name] = _picture(discriminator, variables, split.train)
  rows['pixels'] = _measure('pixels', features.make_pixel_features(parts.gan.pixels), {}, split)
  pooled = f'{features.POOLED}x{features.POOLED}'
  report = {
    'checkpoint': f'step {step} of {folder}',
    'data': data_name or parts.settings.data.source,
    'images': {part: len(getattr(split, part)) for part in ('train', 'validation', 'test')},
    'protocol': f'activations of all layers max-pooled to {pooled}, linear L2-SVM, C of '
    f'{svm.COSTS} by the validation images; {LABELS} labels: mean and deviation of {DRAWS} draws',
    'accuracy': rows,
  }
  print(_table(report))
  with workdir.said_if_not_written(folder / 'probe.json'):
    workdir.write_json(folder / 'probe.json', report)
    _draw(folder / 'features.png', drawn)
    print(f'{folder / "probe.json"} and {folder / "features.png"}')


def _measure(name: str, look: Callable[..., Any], variables: Any, split: Split) -> dict[str, Any]:
  """Measures the accuracies by one kind of features, which are kept in a temporary file.

  Args:
    name: Name of the features, for the terminal.
    look: Function (variables, images [B, H, W, C]) -> features float16 [B, D].
    variables: Variables for `look`.
    split: The images.

  Returns:
    The number of 'features'; the accuracies with 'few' labels, see `_few`; and with 'all', 'mean' and 'c'.

  Raises:
    InputError: the disk has no room for the features.
  """
  print(f'{name}: features', end='', flush=True)
  cache.folder().mkdir(mode=0o700, parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix='probe', dir=cache.folder()) as folder:
    parts = [split.train, split.validation, split.test]
    found = _store(Path(folder) / 'features', look, variables, parts)
    train, validation, test = np.split(found, np.cumsum([len(part) for part in parts])[:2])
    print(f', {LABELS} labels', end='', flush=True)
    few = _few(train, validation, test, split)
    print(f', {len(train)} labels', flush=True)
    models = svm.fit(train, split.train.classes, split.classes, svm.COSTS)
    best = int(svm.accuracies(validation, split.validation.classes, models).argmax())
    many = svm.accuracies(test, split.test.classes, models[best : best + 1])[0]
    size = found.shape[1]
    del found, train, validation, test  # Windows cannot remove a file that is still mapped
  return {'features': size, 'few': few, 'all': {'mean': float(many), 'c': svm.COSTS[best]}}


def _few(train: np.ndarray, validation: np.ndarray, test: np.ndarray, split: Split) -> dict[str, float]:
  """Measures the accuracy of models that learn from `LABELS` images.

  Args:
    train, validation, test: Features of the parts of the split, [N, D] each.
    split: The images.

  Returns:
    'mean' and 'deviation' of the accuracy over `DRAWS` draws of images, and 'c', chosen by the validation
    images for the first draw.
  """
  random = np.random.default_rng(0)
  draws = [np.sort(svm.draw(split.train.classes, LABELS, random)) for _ in range(DRAWS)]

  def fit(draw: np.ndarray, costs: tuple[float, ...]) -> np.ndarray:
    labels = split.train.classes[draw]
    return svm.fit(train[draw], labels, split.classes, costs, FEW_ITERATIONS, FEW_TOLERANCE)

  tried = fit(draws[0], svm.COSTS)
  best = int(svm.accuracies(validation, split.validation.classes, tried).argmax())
  models = np.stack([tried[best], *(fit(draw, svm.COSTS[best : best + 1])[0] for draw in draws[1:])])
  found = svm.accuracies(test, split.test.classes, models)
  return {'mean': float(found.mean()), 'deviation': float(found.std(ddof=1)), 'c': svm.COSTS[best]}


def _store(path: Path, look: Callable[..., Any], variables: Any, parts: list[Part]) -> np.ndarray:
  """Returns the features of all parts, float16 [N, D], mapped from a file.

  Memory holds those of 4,096 images at a time.

  Raises:
    InputError: the disk has no room for them.
  """
  mapped = map_rows(look, placement.mesh())
  try:
    with path.open('wb') as file:
      for part in parts:
        for batch in part.batches(4096):
          found = np.ascontiguousarray(mapped(variables, batch, BATCH_SIZE))
          file.write(found.data)
  except OSError as error:
    raise InputError(
      f'{path.parent.parent}: no room for features: {error.strerror}; free some, or set DCGAN_JAX_CACHE'
    ) from error
  return np.memmap(path, np.float16, 'r', shape=(sum(map(len, parts)), found.shape[1]))


def _table(report: dict[str, Any]) -> str:
  """Returns the report as text."""
  counts = report['images']
  few_labels, all_labels = f'{LABELS} labels', f'{counts["train"]} labels'
  lines = [
    f'{report["checkpoint"]} on {report["data"]}: right of {counts["test"]} test images',
    f'C by {counts["validation"]} others; {LABELS} labels: mean and deviation of {DRAWS} draws',
    '',
    f'{"":16}{"features":>9}{few_labels:>16}{"C":>8}{all_labels:>15}{"C":>8}',
  ]
  for name, row in report['accuracy'].items():
    few, many = row['few'], row['all']
    share = f'{few["mean"]:.2%} +- {100 * few["deviation"]:.2f}'
    lines.append(f'{name:16}{row["features"]:9}{share:>16}{few["c"]:8g}{many["mean"]:>15.2%}{many["c"]:8g}')
  return '\n'.join(lines)


def _picture(discriminator: Discriminator, variables: Any, part: Part) -> np.ndarray:
  """Draws a row for each map: the images that it responds to most, and their guided gradients.

  Args:
    discriminator: The discriminator.
    variables: Its variables.
    part: Images to choose from.

  Returns:
    The grid, uint8 [h, w, 1 or 3].
  """
  pixels = part.pixels
  chosen = Part(part.images, part.indices[:LOOKED_AT], part.classes[:LOOKED_AT])
  respond = map_rows(attribution.make_responses(discriminator, pixels), placement.mesh())
  responses = np.concatenate([respond(variables, x, BATCH_SIZE) for x in chosen.batches(4096)])
  maps, strongest = attribution.maximal(responses, MAPS, SHOWN)
  shown = part.images[chosen.indices[strongest.ravel()]]
  gradients = compiling.jit(attribution.make_guided_gradients(discriminator, pixels))
  found = np.asarray(gradients(variables, shown, np.repeat(maps, SHOWN)))
  scale = np.maximum(np.abs(found).max((1, 2, 3), keepdims=True), 1e-12)
  guided = np.rint(127.5 * (1.0 + found / scale)).astype(np.uint8)
  drawn = pictures.drawable(pixels.restore(shown), pixels)
  guided = pictures.drawable(guided[..., :3] if pixels.transparent else guided)
  by_map = (len(maps), -1, *drawn.shape[1:])
  both = np.concatenate([drawn.reshape(by_map), guided.reshape(by_map)], axis=1)
  return pictures.grid(both.reshape(-1, *drawn.shape[1:]), columns=2 * SHOWN)


def _draw(path: Path, drawn: dict[str, np.ndarray]) -> None:
  """Writes a figure of the pictures of the networks, side by side under their names."""
  from matplotlib.figure import Figure  # without pyplot, which has global state and wants a display

  figure = Figure(figsize=(10, 4.2), layout='constrained')
  panels: Any = figure.subplots(1, len(drawn))
  for panel, (name, picture) in zip(panels, drawn.items()):
    plots.show(panel, picture, name)
  figure.suptitle(
    'a row for each map of the last hidden layer: its strongest images, and guided backpropagation',
    fontsize=10,
  )
  plots.save_figure(path, figure)
