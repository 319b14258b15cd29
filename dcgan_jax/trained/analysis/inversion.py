"""From images back to latents: gradient descent in z, and how well the generator can reproduce an image.

The distance between an image x and the generator's G(z) is

  residual + KAPPA * feature_error,

the mean squared difference of their pixels, in [-1, 1], and that of their activations in the discriminator's
last hidden layer. The distance after the descent is the anomaly score of f-AnoGAN (Schlegl et al. 2019,
Medical Image Analysis 54: A_R + kappa * A_D with kappa = 1), which is large for what the generator cannot
make. As in AnoGAN (Schlegl et al. 2017, arXiv:1703.05921), z is found by descent; f-AnoGAN trains an encoder.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Discriminator, Generator, alone, normalize
from dcgan_jax.core.pixels import BYTES, Pixels

KAPPA = 1.0  # weight of the features
CANDIDATES = 1024  # random images; the descent starts from those nearest to an image
CHUNK = 64  # of them, made at a time
DEVIATIONS = 3.0  # of the squared length of z above its mean, at most


@dataclass(frozen=True)
class Search:
  """Effort of the search for a z.

  Attributes:
    steps: Steps of gradient descent.
    starts: Starts for each image; the one that ends nearest counts.
    rate: Adam's first learning rate, with cosine decay to 0.
  """

  steps: int = 200
  starts: int = 4
  rate: float = 0.1


def make_projection(
  generator: Generator,
  discriminator: Discriminator | None,
  latents: Latents,
  search: Search,
  pixels: Pixels = BYTES,
) -> Callable[[dict[str, Any], Array], dict[str, Array]]:
  """Makes the search for the latents of many images at once, from several starts each.

  The starts of an image are the random latents whose images are nearest in pixels. A conditional generator
  keeps the class of the start, so that the classes compete. Without a discriminator only pixels are compared.

  Returns:
    The function (variables, images [B, H, W, C] as they are kept) -> 'z' float32 [B, width], 'residual' [B]
    and 'feature_error' [B], to be jitted. The result for an image depends on that image alone. The
    variables are those of the 'generator' and the 'discriminator', and 'candidates', float32
    [n, CHUNK, width].
  """
  generator = generator.clone(dtype=jnp.float32)
  discriminator = discriminator and discriminator.clone(dtype=jnp.float32)

  def project(variables: dict[str, Any], images: Array) -> dict[str, Array]:
    def generate(z: Array) -> Array:
      made: Any = generator.apply(variables['generator'], z)
      return made

    def features(x: Array, y: Array | None) -> Array:
      if discriminator is None:
        return jnp.zeros((x.shape[0], 1))
      told = None if y is None else alone(y, discriminator)
      outputs: Any = discriminator.apply(variables['discriminator'], alone(x, discriminator), told)
      return outputs[1][-1].reshape(x.shape[0], -1)

    wanted = normalize(images, pixels)
    starts = nearest(generate, variables['candidates'], wanted, search.starts)
    starts = starts.reshape(-1, latents.width)  # Those of an image are one after the other.
    z, classes = starts[:, : latents.size], starts[:, latents.size :]
    wanted = jnp.repeat(wanted, search.starts, 0)
    y = classes if latents.classes else None
    wanted_features = features(wanted, y)

    def errors(z: Array) -> tuple[Array, Array]:
      made = generate(jnp.concatenate([z, classes], 1))
      return _mean_square(made - wanted), _mean_square(features(made, y) - wanted_features)

    def distance(z: Array) -> Array:
      return score(*errors(z))

    z, distances = descend(distance, z, lambda z: within(z, latents.prior), search)
    best = jnp.argmin(distances[-1].reshape(-1, search.starts), 1)
    best += search.starts * jnp.arange(images.shape[0])
    residual, feature_error = errors(z)
    found = {'z': jnp.concatenate([z, classes], 1), 'residual': residual, 'feature_error': feature_error}
    return {name: x[best] for name, x in found.items()}

  return project


def nearest(generate: Callable[[Array], Array], candidates: Array, wanted: Array, count: int) -> Array:
  """Finds the candidates whose images are nearest to each wanted one in pixels.

  Args:
    generate: Function from latents [C, width] to images [C, H, W, channels].
    candidates: Latents, float [n, C, width].
    wanted: Images, float [B, H, W, channels].
    count: Number of candidates for each image, n * C at most.

  Returns:
    Latents, float [B, count, width], the nearest first.
  """
  flat = wanted.reshape(wanted.shape[0], -1)

  def distances(z: Array) -> Array:
    made = generate(z).reshape(z.shape[0], -1)
    products = jnp.matmul(flat, made.T, precision=lax.Precision.HIGHEST)
    return jnp.square(made).sum(1) - 2 * products  # The square of the wanted image is the same for all.

  found = jnp.moveaxis(lax.map(distances, candidates), 0, 1).reshape(wanted.shape[0], -1)
  return candidates.reshape(-1, candidates.shape[-1])[lax.top_k(-found, count)[1]]


def descend(
  distance: Callable[[Array], Array], z: Array, keep: Callable[[Array], Array], search: Search
) -> tuple[Array, Array]:
  """Descends with Adam from many latents at once, each by itself.

  Args:
    distance: Function to minimise, of each latent by itself, [M, size] -> [M].
    z: Starts, float [M, size].
    keep: Function that clamps latents to the allowed ones, see `within`.
    search: Steps and learning rate.

  Returns:
    The best z of each descent, [M, size]; and the least distance up to each step, [steps + 1, M], of which
    the last is that of this z.
  """
  optimizer = optax.adam(optax.cosine_decay_schedule(search.rate, search.steps))

  def total(z: Array) -> tuple[Array, Array]:
    distances = distance(z)
    return distances.sum(), distances

  def better(z: Array, distances: Array, best: Array, least: Array) -> tuple[Array, Array]:
    return jnp.where((distances < least)[:, None], z, best), jnp.minimum(distances, least)

  def step(carry: Any, _: None) -> tuple[Any, Array]:
    z, state, best, least = carry
    (_, distances), slope = jax.value_and_grad(total, has_aux=True)(z)
    best, least = better(z, distances, best, least)
    updates, state = optimizer.update(slope, state)
    return (keep(optax.apply_updates(z, updates)), state, best, least), least

  first = (z, optimizer.init(z), z, jnp.full(z.shape[0], jnp.inf, z.dtype))
  (z, _, best, least), history = lax.scan(step, first, length=search.steps)
  best, least = better(z, distance(z), best, least)
  return best, jnp.concatenate([history, least[None]])


def within(z: Array, prior: str) -> Array:
  """Clamps latents [M, size] to the region that the generator has seen in training.

  A uniform z is clamped to [-1, 1]. The squared length of a normal z has the mean `size` and the variance
  2 * size; it is clamped to three deviations above the mean.
  """
  if prior == 'uniform':
    return jnp.clip(z, -1.0, 1.0)
  longest = math.sqrt(z.shape[1] + DEVIATIONS * math.sqrt(2 * z.shape[1]))
  length = jnp.linalg.norm(z, axis=1, keepdims=True)
  return z * jnp.minimum(1.0, longest / jnp.maximum(length, jnp.finfo(z.dtype).tiny))


def score(residual: Any, feature_error: Any) -> Any:
  """Returns the anomaly score of f-AnoGAN, large for images that the generator cannot make."""
  return residual + KAPPA * feature_error


def _mean_square(x: Array) -> Array:
  """Returns the mean of the squares of each row: [M, ...] -> [M]."""
  return jnp.square(x).reshape(x.shape[0], -1).mean(1)
