"""What feature maps stand for: pictures of them (the paper's figure 5), networks without them (figure 6).

The networks themselves stay as they are: flax lets their activations be intercepted.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from dcgan_jax.evaluation.probe import normalize
from dcgan_jax.models import Discriminator, Generator


@jax.custom_vjp
def _guide(x: Array, y: Array) -> Array:
  return y


def _guide_forward(x: Array, y: Array) -> tuple[Array, Array]:
  return y, x


def _guide_backward(x: Array, gradient: Array) -> tuple[Array, Array]:
  passed = jnp.where((x > 0) & (gradient > 0), gradient, jnp.zeros((), gradient.dtype))
  return passed, jnp.zeros_like(passed)


_guide.defvjp(_guide_forward, _guide_backward)


def _with_guided_activations(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
  y = next_fun(*args, **kwargs)
  return _guide(args[0], y) if context.method_name == 'activate' else y


def make_guided_gradients(discriminator: Discriminator) -> Callable[[Any, Array, Array], Array]:
  """Guided backpropagation (Springenberg et al. 2014) from maps of D's last hidden layer to the image.

  Forward D is what it is. On the way back an activation passes on what is positive, to inputs that were
  positive: the rule for ReLU, taken for leaky ones as well. It starts at the map's maximum over positions.

  Returns:
    (variables, uint8 images [B, H, W, C], maps [B], integers) -> float32 [B, H, W, C], to be jitted.
  """
  module = discriminator.clone(dropout=0.0)

  def of_image(variables: Any, image: Array, index: Array) -> Array:
    with nn.intercept_methods(_with_guided_activations):
      outputs: Any = module.apply(variables, image[None])
    return outputs[1][-1][0, :, :, index].max().astype(jnp.float32)

  def gradients(variables: Any, images: Array, maps: Array) -> Array:
    return jax.vmap(jax.grad(of_image, argnums=1), (None, 0, 0))(variables, normalize(images), maps)

  return gradients


def make_responses(discriminator: Discriminator) -> Callable[[Any, Array], Array]:
  """(variables, uint8 images [B, H, W, C]) -> the last hidden layer's maxima, float32 [B, maps]."""
  module = discriminator.clone(dropout=0.0)

  def respond(variables: Any, images: Array) -> Array:
    outputs: Any = module.apply(variables, normalize(images))
    return outputs[1][-1].max((1, 2)).astype(jnp.float32)

  return respond


def maximal(responses: np.ndarray, maps: int, images: int) -> tuple[np.ndarray, np.ndarray]:
  """The maps with the strongest responses, and the images that give them.

  Args:
    responses: [N, C], each image's maximum in each map.
    maps: how many.
    images: of each map, how many.

  Returns:
    Maps [maps], the strongest first; indices of images [maps, images], the strongest first.
  """
  chosen = np.argsort(-responses.max(0), kind='stable')[:maps]
  return chosen, np.argsort(-responses[:, chosen], axis=0, kind='stable')[:images].T


def make_hidden(generator: Generator, layer: int) -> Callable[[Any, Array], Array]:
  """(variables, z [B, z_size]) -> G's activations of a hidden layer, averaged over positions, [B, C].

  Layer 0 is the dense one.
  """

  def hidden(variables: Any, z: Array) -> Array:
    _, kept = generator.apply(
      variables, z, capture_intermediates=lambda _, method: method == 'activate', mutable=['intermediates']
    )
    return kept['intermediates']['activate'][layer].mean((1, 2)).astype(jnp.float32)

  return hidden


def make_without(generator: Generator, layer: int) -> Callable[[Any, Array, Array], Array]:
  """G without some maps of a hidden layer (the paper's section 6.3.1).

  Returns:
    (variables, z [B, z_size], kept [C]) -> images float32 [B, H, W, channels]. Where `kept` is 0, the map is
    0 at all positions; where it is 1, it is as it was.
  """

  def without(variables: Any, z: Array, kept: Array) -> Array:
    def intercept(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
      y = next_fun(*args, **kwargs)
      if context.method_name == 'activate' and args[2] == f'dropout{layer}':  # a layer's one name of its own
        y = y * kept.astype(y.dtype)
      return y

    with nn.intercept_methods(intercept):
      made: Any = generator.apply(variables, z)
    return made

  return without


def responsible(features: np.ndarray, of_class: np.ndarray) -> np.ndarray:
  """Weights of a logistic regression that tells a class by the maps' averages (the paper's section 6.3.1).

  Args:
    features: [N, C]; each is scaled to deviation 1, so that weights can be compared.
    of_class: [N], bool; both kinds among them, which count alike.

  Returns:
    [C], positive where more of a map makes the class more likely.
  """
  from sklearn.linear_model import LogisticRegression  # slow to import

  features = np.asarray(features, np.float64)
  scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
  found = LogisticRegression(C=0.01, class_weight='balanced', max_iter=1000).fit(scaled, of_class)
  return found.coef_[0]
