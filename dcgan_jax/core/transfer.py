"""Initialises networks from the parameters and statistics of other ones, as far as they fit.

Layers are matched by position: the generator's counting from z, the discriminator's counting from the logit,
so that a network for larger images gets its additional layers next to the image. The layer next to the image
is matched with its counterpart. A layer fits if its kernel has the same shape, apart from class inputs, which
are matched by class. A dense layer next to the base, the smallest of the feature maps, fits only a base of
the same height, width and channels, because its units are those of the base. Bias, batch norm and statistics
come with their layer. A conditional batch norm takes each class from the same class, or all of them from an
unconditional one.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dcgan_jax.core.models import Discriminator, Generator, Pair
from dcgan_jax.core.train_state import GanState, NetState, PyTree

Key = tuple[str, ...]  # the path of an array in the variables of a network
Shape = tuple[int, ...]


class Side(NamedTuple):
  """One of the two networks of a transfer.

  Attributes:
    module: The network.
    variables: 'params' and 'batch_stats', arrays or their shapes (`jax.eval_shape`).
    image_size: Height and width of the images.
    classes: Class names; () to match classes by number.
  """

  module: Generator | Discriminator
  variables: PyTree
  image_size: Pair
  classes: tuple[str, ...] = ()


class Piece(NamedTuple):
  """The part of an array of the old network that one of the new network takes.

  Attributes:
    source: Path of the old array.
    axis: Axis along which parts are taken.
    new: Indices in the new array; None for the whole array, or for many copies of it.
    old: Indices of the same parts in the old array.
  """

  source: Key
  axis: int = 0
  new: tuple[int, ...] | None = None
  old: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transfer:
  """The part of a network that another one takes.

  Attributes:
    pieces: Pieces by the path of the new array.
    taken: Layers of the new network that are taken, in words.
    new: Layers and parameters that are initialised, in words.
    left_out: Unused parts of the old network, in words.
    whole: Whether the whole network is taken and nothing is initialised.
  """

  pieces: dict[Key, Piece]
  taken: tuple[str, ...]
  new: tuple[str, ...]
  left_out: tuple[str, ...]
  whole: bool

  def apply(self, variables: PyTree, old: PyTree) -> PyTree:
    """Returns a copy of the new network's variables with the parts taken from the old ones."""
    made, source = traverse_util.flatten_dict(variables), traverse_util.flatten_dict(old)
    for key, piece in self.pieces.items():
      value = source[piece.source]
      if piece.new is None:
        # A train state is donated, and no two of its leaves may be one buffer.
        made[key] = jnp.copy(jnp.broadcast_to(value, made[key].shape))
      else:
        before = (slice(None),) * piece.axis
        part = value[(*before, np.array(piece.old))]
        made[key] = made[key].at[(*before, np.array(piece.new))].set(part)
    return dict(variables) | traverse_util.unflatten_dict(made)  # An empty collection stays.


def match(old: Side, new: Side) -> Transfer:
  """Matches two networks of the same kind."""
  shapes, old_shapes = _shapes(new.variables), _shapes(old.variables)
  pieces: dict[Key, Piece] = {}
  taken: list[str] = []
  fresh: list[str] = []
  left_out: list[str] = []
  answers, used = _answers(old.module, new.module), set()
  for layer in _layers(shapes, new.module):
    was = answers.get(layer, layer)
    shape, old_shape = (x.get(('params', name, 'kernel')) for x, name in ((shapes, layer), (old_shapes, was)))
    if shape is None or old_shape is None:
      fresh.append(layer)
      continue
    kernels = Kernel(old, was, old_shape), Kernel(new, layer, shape)
    kernel = _fit(*kernels)
    if kernel is None:
      fresh.append(_unlike(*kernels))
      continue
    all_of_it = _belonging(shapes, new.module, layer)
    own: dict[Key, Piece] = {('params', layer, 'kernel'): kernel}
    for key in all_of_it - own.keys():
      source = _renamed(key, _names(new.module, layer), _names(old.module, was))
      piece = _beside_kernel(old, new, source, old_shapes.get(source), shapes[key])
      own |= {key: piece} if piece else {}
    fresh += _parameters(all_of_it - own.keys()) + _new_classes(own, shapes)
    left_out += _parameters(
      _belonging(old_shapes, old.module, was) - {piece.source for piece in own.values()}
    )
    taken.append(_described(layer, was, kernel, shape, old_shape))
    pieces |= own
    used.add(was)
  left_out += [layer for layer in _layers(old_shapes, old.module) if layer not in used]
  whole = pieces.keys() == shapes.keys() and all(piece.new is None for piece in pieces.values())
  return Transfer(pieces, tuple(taken), tuple(fresh), tuple(left_out), whole)


def begin(state: GanState, old: GanState, generator: Transfer, discriminator: Transfer) -> GanState:
  """Returns the state of a new run, initialised from another one; to be jitted.

  The step, the key and Adam's averages stay those of the new run. Its moving average of G is initialised from
  that of the other run, or starts as a copy of G if there is none.

  Args:
    state: State of the new run before its first step.
    old: State of the other run.
    generator: The part that G takes.
    discriminator: The part that D takes.
  """
  made = generator.apply(state.generator.variables, old.generator.variables)
  judge = discriminator.apply(state.discriminator.variables, old.discriminator.variables)
  return with_variables(state, made, judge, None if old.ema is None else generator.apply(made, old.ema))


def with_variables(
  state: GanState, generator: PyTree, discriminator: PyTree, ema: PyTree | None = None
) -> GanState:
  """Returns a state with other parameters and statistics, 'params' and 'batch_stats' of each network.

  Args:
    state: State whose step, key and optimizer states stay.
    generator: Variables of G.
    discriminator: Variables of D.
    ema: Moving average of G's variables, for a state that has one; None starts it as a copy of them.
  """

  def filled(net: NetState, variables: PyTree) -> NetState:
    return dataclasses.replace(net, params=variables['params'], batch_stats=variables['batch_stats'])

  average = None if state.ema is None else jax.tree.map(jnp.copy, generator if ema is None else ema)
  return dataclasses.replace(
    state,
    generator=filled(state.generator, generator),
    discriminator=filled(state.discriminator, discriminator),
    ema=average,
  )


def _shapes(variables: PyTree) -> dict[Key, Shape]:
  return {key: tuple(x.shape) for key, x in traverse_util.flatten_dict(variables).items()}


def _layers(shapes: dict[Key, Shape], module: Generator | Discriminator) -> list[str]:
  """Returns the names of the layers that have a kernel, from input to output."""
  hidden = [f'hidden{i}' for i in range(1, 1 + len(module.dense_widths))]
  convolutions = [f'conv{i}' for i in range(1, 1 + len(module.strides))]
  ends = [*hidden, 'dense']
  both = [*ends, *convolutions] if isinstance(module, Generator) else [*convolutions, *ends]
  return [name for name in ('embedding', *both, 'projection') if ('params', name, 'kernel') in shapes]


def _answers(old: Generator | Discriminator, new: Generator | Discriminator) -> dict[str, str]:
  """Returns the old convolution that each new one is matched with; '' for none."""
  last, was_last = len(new.strides), len(old.strides)
  if isinstance(new, Generator):
    numbers = {i: i if i < was_last else 0 for i in range(1, last)} | {last: was_last}
  else:
    added = last - was_last
    numbers = {1: 1} | {i: i - added if i - added > 1 else 0 for i in range(2, 1 + last)}
  return {f'conv{i}': f'conv{was}' if was else '' for i, was in numbers.items()}


def _names(module: Generator | Discriminator, layer: str) -> tuple[str, str, str]:
  """Returns the names under which a layer has variables: its own, its batch norm's, its spectral norm's."""
  norms = {normalised: norm for norm, normalised in module.norms}
  return layer, norms.get(layer, ''), f'spectral_{layer}'


def _belonging(shapes: dict[Key, Shape], module: Generator | Discriminator, layer: str) -> set[Key]:
  """Returns the paths of a layer's arrays."""
  return {key for key in shapes if key[1] in _names(module, layer)}


def _renamed(key: Key, names: tuple[str, str, str], old_names: tuple[str, str, str]) -> Key:
  """Returns the path of an array of a layer under the layer's old names."""
  collection, name, *rest = key  # The spectral norm's arrays repeat the name of the layer, before a slash.
  renamed = [part.replace(f'{names[0]}/', f'{old_names[0]}/', 1) for part in rest]
  return (collection, old_names[names.index(name)], *renamed)


class Kernel(NamedTuple):
  """A layer's kernel in one of the networks."""

  side: Side
  layer: str
  shape: Shape

  @property
  def packs(self) -> int:
    """The number of images, and so of classes, that the network takes together."""
    module = self.side.module
    return module.packing if isinstance(module, Discriminator) else 1

  @property
  def base(self) -> Shape:
    """Returns the height, width and channels of the base, if the layer makes or sees it; () if not."""
    module = self.side.module
    if isinstance(module, Generator):
      beside, channels = ['dense'], module.widths[0]
    else:
      beside = ['hidden1'] if module.dense_widths else ['dense', 'projection']
      channels = module.widths[-1]
    height, width = (size // math.prod(module.strides) for size in self.side.image_size)
    return (height, width, channels) if self.layer in beside else ()

  @property
  def parts(self) -> tuple[int, int, str]:
    """Returns the axis of the inputs, the number of the layer's own, and the kind of the rest.

    That is 'class', 'embedding' (of the class, beside z) or '', if there is no rest.
    """
    module, size = self.side.module, self.shape
    if self.layer in ('embedding', 'projection'):
      return ('embedding', 'projection').index(self.layer), 0, 'class'
    transposed = isinstance(module, Generator) and module.upsample != 'bilinear'
    axis = len(size) - (1 if transposed and len(size) == 4 else 2)
    if module.classes and module.condition == 'concat':
      return axis, size[axis] - self.packs * module.classes, 'class'
    first = 'hidden1' if module.dense_widths else 'dense'
    if module.classes and module.condition == 'embedding' and self.layer == first:
      return axis, size[axis] // 2, 'embedding'
    return axis, size[axis], ''


def _fit(old: Kernel, new: Kernel) -> Piece | None:
  """Matches two kernels; None if they do not fit."""
  (axis, own, rest), (old_axis, old_own, old_rest) = new.parts, old.parts
  modules = (old.side.module, new.side.module)
  bilinear = [getattr(module, 'upsample', '') == 'bilinear' for module in modules]
  if len(new.shape) == 4 and bilinear[0] != bilinear[1]:
    return None  # One is transposed and the other is not.
  others = (new.shape[:axis] + new.shape[axis + 1 :], old.shape[:old_axis] + old.shape[old_axis + 1 :])
  if (axis, own) != (old_axis, old_own) or others[0] != others[1] or old.base != new.base:
    return None
  pairs = [(i, i) for i in range(own)]
  if rest == old_rest == 'embedding':
    pairs += [(i, i) for i in range(own, 2 * own)]
  if rest == old_rest == 'class':
    counts = (old.side.module.classes, new.side.module.classes)
    pairs += [
      (own + pack * counts[0] + was, own + pack * counts[1] + now)
      for pack in range(min(old.packs, new.packs))
      for was, now in same_classes(old.side, new.side)
    ]
  whole = new.shape[axis] if old.shape == new.shape else 0
  return _piece(('params', old.layer, 'kernel'), axis, pairs, whole)


def _beside_kernel(old: Side, new: Side, source: Key, was: Shape | None, shape: Shape) -> Piece | None:
  """Matches two arrays that come with a kernel; None if they do not fit.

  Args:
    old: The other network.
    new: The network.
    source: Path of the old array.
    was: Shape of the old array; None if there is none.
    shape: Shape of the new array.
  """
  of_classes = source[2] in ('scale', 'bias') and len(shape) == 2
  if of_classes and was and was[-1] == shape[-1]:
    pairs = same_classes(old, new) if len(was) == 2 else [(i, i) for i in range(shape[0])]
    return _piece(source, 0, pairs, shape[0] if was in (shape, shape[1:]) else 0)
  return Piece(source) if was == shape else None


def _piece(source: Key, axis: int, pairs: list[tuple[int, int]], whole: int) -> Piece | None:
  """Returns the piece with these indices; None if there are none.

  Args:
    source: Path of the old array.
    axis: Axis of the indices.
    pairs: Pairs of an old index and a new one.
    whole: Length along the axis if both arrays have one shape; 0 for others, of which only parts are taken.
  """
  if not pairs:
    return None
  if pairs == [(i, i) for i in range(whole)]:
    return Piece(source)
  olds, news = zip(*pairs)
  return Piece(source, axis, news, olds)


def same_classes(old: Side, new: Side) -> list[tuple[int, int]]:
  """Returns the pairs of numbers, old and new, of the classes of both networks.

  Classes are matched by name or, where one network has no names, by number.
  """
  sides = (old, new)
  if all(side.classes and len(side.classes) == side.module.classes for side in sides):
    return [(old.classes.index(name), i) for i, name in enumerate(new.classes) if name in old.classes]
  return [(i, i) for i in range(min(side.module.classes for side in sides))]


def _described(layer: str, was: str, piece: Piece, shape: Shape, old_shape: Shape) -> str:
  """Returns a description of a taken layer, with the parts of it that are not."""
  text = layer if layer == was else f'{was} as {layer}'
  if piece.new is None:
    return text
  what = 'classes' if layer in ('embedding', 'projection') else 'inputs'
  count, size, old_size = len(piece.new), shape[piece.axis], old_shape[piece.axis]
  notes = [f'{count} of {size} {what}'] if count < size else []
  notes += [f'{old_size - count} of its {old_size} {what} left out'] if count < old_size else []
  return f'{text} ({", ".join(notes)})' if notes else text


def _unlike(old: Kernel, new: Kernel) -> str:
  """Returns a description of a layer that does not fit, with both shapes or, if they agree, both bases."""
  if old.shape == new.shape and old.base != new.base:
    return f'{new.layer} (base {_text(new.base)}, was {_text(old.base)})'
  return f'{new.layer} ({_text(new.shape)}, was {_text(old.shape)})'


def _parameters(keys: set[Key]) -> list[str]:
  """Returns the names of parameters; statistics go with the parameters of their layer."""
  return sorted(f'{key[1]}.{key[2]}' for key in keys if key[0] == 'params')


def _new_classes(pieces: dict[Key, Piece], shapes: dict[Key, Shape]) -> list[str]:
  """Returns the parameters of batch norms of which only some classes are taken."""
  return sorted(
    f'{key[1]}.{key[2]} ({shapes[key][0] - len(piece.new)} of {shapes[key][0]} classes)'
    for key, piece in pieces.items()
    if key[2] in ('scale', 'bias') and piece.new is not None and len(piece.new) < shapes[key][0]
  )


def _text(shape: Shape) -> str:
  return 'x'.join(map(str, shape)) or 'none'
