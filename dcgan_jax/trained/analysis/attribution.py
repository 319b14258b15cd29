"""What feature maps respond to (paper, figure 5), and images without some of them (figure 6).

The networks need no changes for this, because flax can intercept their activations.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from dcgan_jax.core.models import Discriminator, alone, normalize
from dcgan_jax.core.pixels import BYTES, Pixels

# A generator at work, as of `sampling.make_images`: (variables, z float [B, z_size]) -> an array [B, ...].
Generate = Callable[[Any, Array], Array]


@jax.custom_vjp
def _guide(x: Array, y: Array) -> Array:
  """Returns the activation y of the input x; the gradient is that of guided backpropagation."""
  return y


def _guide_forward(x: Array, y: Array) -> tuple[Array, Array]:
  """Returns the activation, and the input for the backward pass."""
  return y, x


def _guide_backward(x: Array, gradient: Array) -> tuple[Array, Array]:
  """Passes on the positive part of the gradient where the input was positive."""
  passed = jnp.where((x > 0) & (gradient > 0), gradient, jnp.zeros((), gradient.dtype))
  return passed, jnp.zeros_like(passed)


_guide.defvjp(_guide_forward, _guide_backward)


def _with_guided_activations(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
  """Intercepts the calls of a network's methods and guides the gradients of its activations."""
  y = next_fun(*args, **kwargs)
  return _guide(args[0], y) if context.method_name == 'activate' else y


def make_guided_gradients(
  discriminator: Discriminator, pixels: Pixels = BYTES
) -> Callable[[Any, Array, Array], Array]:
  """Makes guided backpropagation (Springenberg et al. 2014) from maps of D's last hidden layer to the image.

  The forward pass is that of D. In the backward pass, which starts at the map's maximum over positions, an
  activation passes on positive gradients to positive inputs alone. This is the rule for ReLU, applied to
  leaky ones as well.

  Args:
    discriminator: The discriminator.
    pixels: Pixel format of the images.

  Returns:
    The function (variables, images [B, H, W, C], maps integers [B]) -> float32 [B, H, W, C], to be jitted.
  """
  module = discriminator.clone(dropout=0.0)

  def of_image(variables: Any, image: Array, index: Array) -> Array:
    """Returns the maximum of one map on one image."""
    with nn.intercept_methods(_with_guided_activations):
      outputs: Any = module.apply(variables, alone(image[None], module))
    return outputs[1][-1][0, :, :, index].max().astype(jnp.float32)

  def gradients(variables: Any, images: Array, maps: Array) -> Array:
    return jax.vmap(jax.grad(of_image, argnums=1), (None, 0, 0))(variables, normalize(images, pixels), maps)

  return gradients


def make_responses(discriminator: Discriminator, pixels: Pixels = BYTES) -> Callable[[Any, Array], Array]:
  """Makes the function from images to the maxima of the maps in D's last hidden layer.

  Args:
    discriminator: The discriminator.
    pixels: Pixel format of the images.

  Returns:
    The function (variables, images [B, H, W, C]) -> float32 [B, maps], to be jitted.
  """
  module = discriminator.clone(dropout=0.0)

  def respond(variables: Any, images: Array) -> Array:
    outputs: Any = module.apply(variables, alone(normalize(images, pixels), module))
    return outputs[1][-1].max((1, 2)).astype(jnp.float32)

  return respond


def maximal(responses: np.ndarray, maps: int, images: int) -> tuple[np.ndarray, np.ndarray]:
  """Finds the maps with the strongest responses, and the images that cause them.

  Args:
    responses: Maximum of each image in each map, [N, C].
    maps: Number of maps to find.
    images: Number of images to find for each map.

  Returns:
    The maps [maps] and, for each of them, the indices of its images [maps, images]; the strongest come first.
  """
  chosen = np.argsort(-responses.max(0), kind='stable')[:maps]
  return chosen, np.argsort(-responses[:, chosen], axis=0, kind='stable')[:images].T


def make_hidden(generate: Generate, layer: int) -> Generate:
  """Makes the function from latents to the activations of a hidden layer of G, averaged over positions.

  Args:
    generate: The generator at work, see `Generate`.
    layer: Number of the hidden layer; 0 is the dense one that makes the first maps.

  Returns:
    The function (variables, z float [B, z_size]) -> float32 [B, C], to be jitted.
  """

  def hidden(variables: Any, z: Array) -> Array:
    found: list[Array] = []

    def look(maps: Array) -> Array:
      found.append(maps)
      return maps

    with _changed_maps(layer, look):
      generate(variables, z)
    (maps,) = found
    return maps.mean((1, 2)).astype(jnp.float32)

  return hidden


def make_without(generate: Generate, layer: int) -> Callable[[Any, Array, Array], Array]:
  """Makes a generator without some maps of a hidden layer (section 6.3.1 of the paper).

  Args:
    generate: The generator at work, see `Generate`.
    layer: Number of the hidden layer; 0 is the dense one that makes the first maps.

  Returns:
    The function (variables, z float [B, z_size], kept [C]) -> the output of `generate`, to be jitted. A map
    is 0 at all positions where `kept` is 0, and unchanged where it is 1.
  """

  def without(variables: Any, z: Array, kept: Array) -> Array:
    with _changed_maps(layer, lambda maps: maps * kept.astype(maps.dtype)):
      return generate(variables, z)

  return without


@contextlib.contextmanager
def _changed_maps(layer: int, change: Callable[[Array], Array]) -> Iterator[None]:
  """Changes the activations of a hidden layer of G, [B, h, w, C], in calls within the block."""

  def intercept(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    y = next_fun(*args, **kwargs)
    # The layer is identified by the name of its dropout; the order does not, since `dense_widths` come first.
    is_asked = context.method_name == 'activate' and args[2] == f'dropout{layer}'
    return change(y) if is_asked else y

  with nn.intercept_methods(intercept):
    yield


def responsible(features: np.ndarray, of_class: np.ndarray) -> np.ndarray:
  """Fits a logistic regression that predicts a class from the averages of the maps (section 6.3.1).

  Args:
    features: Averages of the maps, [N, C]; each is scaled to a deviation of 1, so that the weights can be
      compared.
    of_class: Membership of each sample in the class, bool [N]; both values occur, and count alike.

  Returns:
    The weights [C], positive where more of a map makes the class more likely.
  """
  from sklearn.linear_model import LogisticRegression  # slow to import

  features = np.asarray(features, np.float64)
  scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
  found = LogisticRegression(C=0.01, class_weight='balanced', max_iter=1000).fit(scaled, of_class)
  return found.coef_[0]
