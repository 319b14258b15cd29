"""The classifier of a run's data: kept with the run, in the user's cache, or learned now.

A run keeps the classifier that it was first scored by in WORKDIR/classifier.npz. So all its scores are by the
same one, also on another machine, with another version of JAX, or when the cache is gone. The file holds an
array for each of the network's variables, by its path in their tree; 'accuracy'; and 'about', JSON as uint8,
which tells the version of the network and the names of the classes.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import arrays, cache
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier

FILE = 'classifier.npz'

Arrays = dict[str, np.ndarray]


class Learned(NamedTuple):
  """A classifier that has learned.

  Attributes:
    variables: of `classifier.Classifier`.
    accuracy: in [0, 1], on images that it was not trained on.
    fingerprint: a short hash of the variables, 8 hexadecimal digits.
  """

  variables: Any
  accuracy: float
  fingerprint: str


def of_run(
  description: str,
  images: np.ndarray,
  classes: np.ndarray,
  names: Sequence[str],
  folder: Path | None,
  pixels: Pixels = BYTES,
) -> Learned:
  """Returns the classifier of a run, or else that of its data, which the run then keeps.

  Args:
    description: tells the images and how they are made to fit from all others.
    images: all images of the data, as they are kept, [N, H, W, C].
    classes: of the images, integers [N].
    names: of the classes.
    folder: the workdir, which may be one that cannot be written; None takes the data's.
    pixels: what the numbers of the images are.

  Raises:
    InputError: the classifier is not accurate enough.
  """
  module = classifier.Classifier(len(names), pixels)
  image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  shapes = jax.eval_shape(module.init, jax.random.key(0), image)
  own = None if folder is None else _read(folder / FILE, shapes, names)
  found = processes.agreed(own or _of_data(description, images, classes, shapes, module))
  accuracy = float(found['accuracy'])
  if accuracy < classifier.LEAST_ACCURACY:
    raise InputError(
      f'features=classifier: it tells {accuracy:.1%} of the held-out images; below '
      f'{classifier.LEAST_ACCURACY:.0%} its features say nothing; take features=inception'
    )
  if folder is not None and own is None and processes.is_main():
    _write(folder / FILE, found, names)
  leaves = [np.asarray(found[path]) for path in _paths(shapes)]
  fingerprint = hashlib.sha256(b''.join(leaf.tobytes() for leaf in leaves)).hexdigest()[:8]
  return Learned(jax.tree.unflatten(jax.tree.structure(shapes), leaves), accuracy, fingerprint)


def _of_data(
  description: str, images: np.ndarray, classes: np.ndarray, shapes: Any, module: classifier.Classifier
) -> Arrays:
  """Returns the classifier in the cache; one like the module learns if there is none."""

  def train() -> Arrays:
    print(f'training a classifier of {module.classes} classes, once for this data', flush=True)
    trained = classifier.train(images, classes, module.classes, module.pixels)
    kept = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(trained.variables))}
    return kept | {'accuracy': np.array(trained.accuracy)}

  expected = {str(i): leaf.shape for i, leaf in enumerate(jax.tree.leaves(shapes))} | {'accuracy': ()}

  def fits(kept: Arrays) -> bool:
    return {key: x.shape for key, x in kept.items()} == expected

  kept = cache.arrays('classifiers', f'{classifier.VERSION} {description}', train, fits)
  variables = {path: kept[str(i)] for i, path in enumerate(_paths(shapes))}
  return variables | {'accuracy': kept['accuracy']}


def _paths(variables: Any) -> list[str]:
  """Returns the paths of the leaves of a tree, like 'params/Conv_0/kernel'."""
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]


def _read(path: Path, shapes: Any, names: Sequence[str]) -> Arrays | None:
  """Reads the file of a run; returns None, and says in a line what is wrong with one that cannot be used."""
  if not path.exists():
    return None
  try:
    found = arrays.read_npz(path)
    problem = _problem(found, shapes, names)
  except ValueError as error:
    problem = f'is no whole classifier ({error})'
  if problem:
    print(f'{path}: {problem}; another one takes its place', flush=True)
    return None
  del found['about']
  return found


def _problem(found: Arrays, shapes: Any, names: Sequence[str]) -> str:
  """Returns what keeps the arrays of a file from being a classifier of these classes; '' if nothing does.

  Raises:
    ValueError: what should be JSON is not.
  """
  wanted = dict(zip(_paths(shapes), jax.tree.leaves(shapes)))
  for name, leaf in wanted.items():
    if name not in found or found[name].shape != leaf.shape or found[name].dtype != leaf.dtype:
      return f'is no classifier of these images: {name} should be {leaf.dtype} {leaf.shape}'
  if found.keys() != wanted.keys() | {'accuracy', 'about'} or found['accuracy'].shape != ():
    return f'is no whole classifier (it has {", ".join(sorted(found))})'
  about = json.loads(found['about'].tobytes())
  if about != _about(names):
    return f'is a classifier of another version or of other classes ({str(about)[:80]})'
  return ''


def _about(names: Sequence[str]) -> dict[str, Any]:
  """Returns what a file says of its classifier."""
  return {'version': classifier.VERSION, 'classes': list(names)}


def _write(path: Path, found: Arrays, names: Sequence[str]) -> None:
  """Writes the file of a run, whole or not at all; a folder that cannot be written is left as it is."""
  about = np.frombuffer(json.dumps(_about(names)).encode(), np.uint8)
  with contextlib.suppress(OSError), files.whole(path) as part, part.open('wb') as file:
    np.savez(file, about=about, **found)  # type: ignore[arg-type]
