"""The classifier of a run's data, or its network of rotations: kept by the run, in the cache, or trained now.

A run keeps the classifier that first scored it in WORKDIR/classifier.npz. So all its scores are by the same
classifier, also on another machine, with another version of JAX, or without the cache. The file holds an
array for each variable of the network, named by its path in the tree; 'accuracy'; and 'about', JSON as uint8,
with the version of the network and the number of rotations; or the names of the classes and a hash of the
class of each image, so that a run whose data was replaced does not keep the classifier of the data before.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dcgan_jax import files
from dcgan_jax.core.pixels import BYTES, Pixels
from dcgan_jax.data import arrays, cache
from dcgan_jax.data.labels import Labels
from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier

FILE = 'classifier.npz'

Arrays = dict[str, np.ndarray]


class Learned(NamedTuple):
  """A trained classifier.

  Attributes:
    variables: Variables of `classifier.Classifier`.
    accuracy: Accuracy on held-out images, in [0, 1].
    fingerprint: Hash of the variables, 8 hexadecimal digits.
  """

  variables: Any
  accuracy: float
  fingerprint: str


def classifier_for_run(
  description: str,
  images: np.ndarray,
  labels: Labels | None,
  folder: Path | None,
  pixels: Pixels = BYTES,
) -> Learned:
  """Returns the classifier kept by a run, else one of its data, which the run then keeps.

  Args:
    description: Key of the images in the cache.
    images: All images of the data, [N, H, W, C] in the pixel format of the run.
    labels: Classes of the images; None for a network that learns their rotations.
    folder: Workdir, possibly read-only; None for no run.
    pixels: Pixel format.

  Raises:
    InputError: There is a single class, or the classifier is not accurate enough; any accuracy will do for
      rotations.
  """
  names = None if labels is None else labels.names
  if names is not None and len(names) < 2:
    raise InputError(
      'features=classifier: the data has a single class, from which a classifier learns nothing; take '
      'features=inception'
    )
  module = (
    classifier.of_rotations(images, pixels) if names is None else classifier.Classifier(len(names), pixels)
  )
  image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  shapes = jax.eval_shape(module.init, jax.random.key(0), image)
  if names is not None and keeps_rotations(folder):
    folder = None  # The scores of this run stay those by rotations.
  about = _about(labels)
  own = None if folder is None else _read(folder / FILE, shapes, about)
  found = processes.agreed(own or _cached_or_trained(description, images, labels, shapes, module))
  accuracy = float(found['accuracy'])
  if names is not None and accuracy < classifier.LEAST_ACCURACY:
    raise InputError(
      f'features=classifier: its accuracy on held-out images is {accuracy:.1%}; below '
      f'{classifier.LEAST_ACCURACY:.0%} its features mean nothing; take features=inception'
    )
  if folder is not None and own is None and processes.is_main():
    _write(folder / FILE, found, about)
  leaves = [np.asarray(found[path]) for path in _paths(shapes)]
  fingerprint = hashlib.sha256(b''.join(leaf.tobytes() for leaf in leaves)).hexdigest()[:8]
  return Learned(jax.tree.unflatten(jax.tree.structure(shapes), leaves), accuracy, fingerprint)


def keeps_rotations(folder: Path | None) -> bool:
  """Returns whether what a run keeps is a network of rotations."""
  return bool(processes.agreed(folder is not None and _is_of_rotations(folder / FILE)))


def _is_of_rotations(path: Path) -> bool:
  """Returns whether a file is that of a network of rotations, of any version."""
  try:
    with arrays.opened_npz(path, 'about') as array:
      return 'rotations' in json.loads(array.read().tobytes())
  except (ValueError, TypeError):  # There is no such file, or what it has is not JSON, or a number.
    return False


def _cached_or_trained(
  description: str, images: np.ndarray, labels: Labels | None, shapes: Any, module: classifier.Classifier
) -> Arrays:
  """Returns the classifier in the cache; trains one if there is none."""

  def train() -> Arrays:
    what = 'network that tells rotations' if labels is None else f'classifier of {module.classes} classes'
    print(f'training a {what}, once for this data (a minute or two on a CPU)', flush=True)
    trained = classifier.train(images, None if labels is None else labels.classes, module)
    kept = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(trained.variables))}
    return kept | {'accuracy': np.array(trained.accuracy)}

  expected = {str(i): leaf.shape for i, leaf in enumerate(jax.tree.leaves(shapes))} | {'accuracy': ()}

  def fits(kept: Arrays) -> bool:
    return {key: x.shape for key, x in kept.items()} == expected

  version = f'rotations {classifier.ROTATIONS_VERSION}' if labels is None else classifier.VERSION
  kept = cache.arrays('classifiers', f'{version} {description}', train, fits)
  variables = {path: kept[str(i)] for i, path in enumerate(_paths(shapes))}
  return variables | {'accuracy': kept['accuracy']}


def _paths(variables: Any) -> list[str]:
  """Returns the paths of the leaves of a tree, like 'params/Conv_0/kernel'."""
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]


def _read(path: Path, shapes: Any, about: dict[str, Any]) -> Arrays | None:
  """Reads the file of a run; None if there is none or, with a line that says why, if it cannot be used."""
  if not path.exists():
    return None
  try:
    found = arrays.read_npz(path)
    problem = _problem(found, shapes, about)
  except ValueError as error:
    problem = f'is not a complete classifier ({error})'
  if problem:
    print(f'{path}: {problem}; it is replaced', flush=True)
    return None
  del found['about']
  return found


def _problem(found: Arrays, shapes: Any, about: dict[str, Any]) -> str:
  """Returns why the arrays of a file are not a classifier of these classes, or of rotations; '' if they are.

  Raises:
    ValueError: 'about' is not JSON.
  """
  if 'about' in found:
    kept = json.loads(found['about'].tobytes())
    # Files of earlier versions have no labels.
    if not isinstance(kept, dict) or about not in (kept, {'labels': about.get('labels')} | kept):
      return f'is a classifier of another version, or of other classes or images ({str(kept)[:80]})'
  wanted = dict(zip(_paths(shapes), jax.tree.leaves(shapes)))
  for name, leaf in wanted.items():
    if name not in found or found[name].shape != leaf.shape or found[name].dtype != leaf.dtype:
      return f'is not a classifier of these images: {name} should be {leaf.dtype} {leaf.shape}'
  if found.keys() != wanted.keys() | {'accuracy', 'about'} or found['accuracy'].shape != ():
    return f'is not a complete classifier (it has {", ".join(sorted(found))})'
  return ''


def _about(labels: Labels | None) -> dict[str, Any]:
  """Returns the content of 'about' for a classifier of these classes; None for rotations."""
  if labels is None:
    return {'version': classifier.ROTATIONS_VERSION, 'rotations': classifier.ROTATIONS}
  digest = hashlib.sha256(np.asarray(labels.classes, '<i4').tobytes()).hexdigest()[:16]
  return {'version': classifier.VERSION, 'classes': list(labels.names), 'labels': digest}


def _write(path: Path, found: Arrays, about: dict[str, Any]) -> None:
  """Writes the file of a run atomically; a read-only folder is left as it is."""
  text = np.frombuffer(json.dumps(about).encode(), np.uint8)
  with contextlib.suppress(OSError), files.whole(path) as part, part.open('wb') as file:
    np.savez(file, about=text, **found)  # type: ignore[arg-type]
