"""`--mode=probe`: what D has learned, by a linear classifier of its activations (the paper's section 5).

table on the terminal, probe.json, features.png (what maps of D's last hidden layer look for)
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from dcgan_jax import cache, data, images, norm_statistics
from dcgan_jax.commands import build, trained, workdir
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import attribution, probe, svm
from dcgan_jax.models import Discriminator
from dcgan_jax.programs import all_devices, map_rows

LABELS, DRAWS = 1000, 10  # the paper's few labels, and how often they are drawn
HELD_OUT, MOST_HELD_OUT = 5, 10_000  # a fifth for validation, at most as many as the paper's
BATCH_SIZE = 128  # images that D looks at together
MAPS, SHOWN, LOOKED_AT = 6, 4, 10_000  # of features.png: maps, images for each, images to choose from


class Part(NamedTuple):
  """Some images of a data set, in an order of their own."""

  images: np.ndarray  # uint8 [M, H, W, C], maybe mapped from disk
  indices: np.ndarray  # [N]
  classes: np.ndarray  # [N]

  def __len__(self) -> int:
    return len(self.indices)

  def batches(self, size: int) -> Iterator[np.ndarray]:
    """The images, `size` at a time."""
    return (self.images[self.indices[i : i + size]] for i in range(0, len(self), size))

  def inputs(self, size: int) -> Iterator[Array]:
    """The same as a network takes them."""
    return (probe.normalize(jnp.asarray(batch)) for batch in self.batches(size))


class Split(NamedTuple):
  """The images that models learn from, those that C is chosen by, and those that figures are of."""

  train: Part
  validation: Part
  test: Part
  classes: int


def run(folder: Path, num: int | None, checkpoint: str, data_name: str | None) -> None:
  """Probes a run's D and writes what it found to the workdir.

  Args:
    folder: the workdir.
    num: of images to use, at most, and as many of a test split; None for all.
    checkpoint: 'last', 'best' or the number of a step.
    data_name: another labelled source, made to fit the run's images; None for the run's own.

  Raises:
    InputError: in one line.
  """
  config, step, state = trained.open_run(folder, checkpoint)
  split = _split(config, data_name, num)
  cache.keep_compiled_programs()
  _, discriminator = build.networks(config)
  random = jax.jit(build.initial_state(config))().discriminator
  networks = {f'D, step {step}': state.discriminator.params, 'D, random': random.params}
  rows, pictures = {}, {}
  for name, params in networks.items():
    # the paper's "re-estimated over the train set": running ones are of the fakes, too
    stats = norm_statistics.estimate(discriminator, params, {}, lambda: split.train.inputs(BATCH_SIZE))
    variables = {'params': params, 'batch_stats': stats}
    rows[name] = _measure(name, probe.make_features(discriminator), variables, split)
    pictures[name] = _picture(discriminator, variables, split.train)
  rows['pixels'] = _measure('pixels', probe.to_pixels, {}, split)
  report = {
    'checkpoint': f'step {step} of {folder}',
    'data': data_name or config.data.source,
    'images': {part: len(getattr(split, part)) for part in ('train', 'validation', 'test')},
    'protocol': f'activations of all layers max-pooled to {probe.POOLED}x{probe.POOLED}, linear L2-SVM, C of '
    f'{svm.COSTS} by the validation images; {LABELS} labels: mean and deviation of {DRAWS} draws',
    'accuracy': rows,
  }
  print(_table(report))
  workdir.write_json(folder / 'probe.json', report)
  _draw(folder / 'features.png', pictures)
  print(f'{folder / "probe.json"} and {folder / "features.png"}')


def _split(config: ConfigDict, data_name: str | None, num: int | None) -> Split:
  """Shuffled always in the same way; tested on the test split of tfds, else on a fifth.

  Raises:
    InputError: no labels, or too few images.
  """
  source, field = data_name or config.data.source, 'data' if data_name else 'data.source'
  split = 'train' if data_name else config.data.split
  try:
    known = data.open_source(source, split, build.fit(config))
    names, real, classes = _labelled(known, source)
  except InputError as error:
    raise InputError(str(error).replace('data.source', field)) from None
  order = np.random.default_rng(0).permutation(len(real))[:num]
  held_out = min(MOST_HELD_OUT, len(order) // HELD_OUT)
  test = _test(source, known.fit, num) if _is_of_train(split) else None
  if test is None:
    chosen, order = np.split(order, [held_out])
    test = Part(real, chosen, classes[chosen])
  validation, train = np.split(order, [held_out])
  found = len(np.unique(classes[train]))
  if len(train) < LABELS or found < 2:
    raise InputError(
      f'{field}={source}: {len(train)} images of {found} classes to learn from, beside those for validation '
      f'and test; a probe takes {LABELS} or more of 2 or more'
    )
  return Split(
    Part(real, train, classes[train]), Part(real, validation, classes[validation]), test, len(names)
  )


def _is_of_train(split: str) -> bool:
  """Whether a split, in tfds's notation, has nothing of the test split in it."""
  return all(part.strip().startswith('train') for part in split.split('+'))


def _labelled(source: data.Source, title: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
  """Names of the classes, images and their classes."""
  classes, names = source.labels()
  if not len(classes) or classes.min() < 0:
    raise InputError(f'data.source={title}: some of its labels are kept secret')
  real = cache.load(source, title)
  if len(real) != len(classes):
    raise InputError(f'data.source={title}: images that cannot be decoded have labels; remove them')
  return names, real, classes


def _test(source: str, fit: data.Fit, num: int | None) -> Part | None:
  """The test split, where there is one with labels."""
  if not source.startswith('tfds:'):
    return None
  try:
    _, real, classes = _labelled(data.open_source(source, 'test', fit), source)
  except InputError:
    return None
  return Part(real, np.arange(len(real))[:num], classes[:num])


def _measure(name: str, look: Callable[..., Any], variables: Any, split: Split) -> dict[str, Any]:
  """Accuracies of a kind of features, which lie on the disk meanwhile.

  Args:
    name: what to call it.
    look: (variables, uint8 [B, H, W, C]) -> [B, D].
    variables: for that.
    split: the images.
  """
  print(f'{name}: features', end='', flush=True)
  cache.folder().mkdir(mode=0o700, parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix='probe', dir=cache.folder()) as folder:
    parts = [split.train, split.validation, split.test]
    features = _store(Path(folder) / 'features', look, variables, parts)
    train, validation, test = np.split(features, np.cumsum([len(part) for part in parts])[:2])
    print(f', {LABELS} labels', end='', flush=True)
    few = _few(train, validation, test, split)
    print(f', {len(train)} labels', flush=True)
    models = svm.fit_many(train, split.train.classes, split.classes, svm.COSTS)
    best = int(svm.accuracies(validation, split.validation.classes, models).argmax())
    many = svm.accuracies(test, split.test.classes, models[best : best + 1])[0]
    size = features.shape[1]
    del features, train, validation, test  # or Windows would not remove the file
  return {'features': size, 'few': few, 'all': {'mean': float(many), 'c': svm.COSTS[best]}}


def _few(train: np.ndarray, validation: np.ndarray, test: np.ndarray, split: Split) -> dict[str, float]:
  """Mean and deviation over draws; C is that of the first."""
  random = np.random.default_rng(0)
  draws = [np.sort(svm.draw(split.train.classes, LABELS, random)) for _ in range(DRAWS)]

  def fit(draw: np.ndarray, cost: float) -> np.ndarray:
    return svm.fit_few(train[draw], split.train.classes[draw], split.classes, cost)

  tried = np.stack([fit(draws[0], cost) for cost in svm.COSTS])
  best = int(svm.accuracies(validation, split.validation.classes, tried).argmax())
  models = np.stack([tried[best], *(fit(draw, svm.COSTS[best]) for draw in draws[1:])])
  found = svm.accuracies(test, split.test.classes, models)
  return {'mean': float(found.mean()), 'deviation': float(found.std(ddof=1)), 'c': svm.COSTS[best]}


def _store(path: Path, look: Callable[..., Any], variables: Any, parts: list[Part]) -> np.ndarray:
  """Features of all parts, float16 [N, D], mapped from a file: memory is that of 4,096 images."""
  mapped = map_rows(look, all_devices())
  try:
    with path.open('wb') as file:
      for part in parts:
        for batch in part.batches(4096):
          found = np.ascontiguousarray(mapped(variables, batch, BATCH_SIZE))
          file.write(found.data)
  except OSError as error:
    raise InputError(f'{path.parent.parent}: no room for features: {error.strerror}') from error
  return np.memmap(path, np.float16, 'r', shape=(sum(map(len, parts)), found.shape[1]))


def _table(report: dict[str, Any]) -> str:
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
  """A row a map: the images that it responds to most, and their guided gradients; uint8 [H, W, C]."""
  chosen = Part(part.images, part.indices[:LOOKED_AT], part.classes[:LOOKED_AT])
  respond = map_rows(attribution.make_responses(discriminator), all_devices())
  responses = np.concatenate([respond(variables, x, BATCH_SIZE) for x in chosen.batches(4096)])
  maps, strongest = attribution.maximal(responses, MAPS, SHOWN)
  shown = part.images[chosen.indices[strongest.ravel()]]
  gradients = jax.jit(attribution.make_guided_gradients(discriminator))
  found = np.asarray(gradients(variables, shown, np.repeat(maps, SHOWN)))
  scale = np.maximum(np.abs(found).max((1, 2, 3), keepdims=True), 1e-12)
  guided = np.rint(127.5 * (1.0 + found / scale)).astype(np.uint8)
  rows = [(len(maps), -1, *shown.shape[1:])] * 2
  return images.grid(
    np.concatenate([shown.reshape(rows[0]), guided.reshape(rows[1])], 1).reshape(-1, *shown.shape[1:]),
    2 * SHOWN,
  )


def _draw(path: Path, pictures: dict[str, np.ndarray]) -> None:
  """The trained network's maps beside those of the random one."""
  from matplotlib.figure import Figure  # no pyplot: no global state, no display

  figure = Figure(figsize=(10, 4.2), layout='constrained')
  panels: Any = figure.subplots(1, len(pictures))
  for panel, (name, picture) in zip(panels, pictures.items()):
    panel.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap='gray', vmin=0, vmax=255)
    panel.set_title(name)
    panel.axis('off')
  figure.suptitle(
    'a row for each map of the last hidden layer: its strongest images, and guided backpropagation',
    fontsize=10,
  )
  images.save_figure(path, figure)
