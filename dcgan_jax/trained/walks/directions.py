"""Directions of the latent space along which images change, found without labels.

`of_first_layer` computes them from the weights (SeFa), `of_activations` from activations (GANSpace):

sampler = dcgan_jax.load('runs/mnist')
vectors = directions.of_first_layer(*sampler.network, sampler.latents.size)  # float32 [8, 100]
images = sampler.from_latents(sampler.latents.sample(key, indices) + 3 * vectors[0])
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.core import compiling
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.models import Generator

COUNT = 8  # directions by default
SAMPLES, BATCH_SIZE = 4000, 100  # latents whose activations are taken, and those of a batch


def of_first_layer(generator: Generator, variables: Any, size: int, count: int = COUNT) -> np.ndarray:
  """Finds the directions of z that change the generator's first layer most.

  These are the first eigenvectors of A^T A for that layer's kernel A (SeFa, Shen and Zhou 2021,
  arXiv:2007.06600, section 3.2). Here A includes the batch norm that follows: each unit is multiplied by
  scale / sqrt(variance + epsilon), so that a unit that batch norm enlarges counts for more. Its mean and bias
  move all images alike and have no part in it.

  Args:
    generator: The generator.
    variables: 'params' and 'batch_stats' of the network.
    size: Length of z; the class beside it is left alone.
    count: Largest number of directions.

  Returns:
    Unit vectors perpendicular to each other, float32 [min(count, size), size], the strongest first. The
    largest number of each is positive.
  """
  layer = 'hidden1' if generator.dense_widths else 'dense'
  kernel = np.asarray(variables['params'][layer]['kernel'], np.float64)[:size]
  for norm, normalized in generator.norms:
    if normalized == layer:
      variance = np.asarray(variables['batch_stats'][norm]['var'], np.float64)
      affine = variables['params'].get(norm, {'scale': np.ones_like(variance)})
      scale = np.asarray(affine['scale'], np.float64)
      if scale.ndim == 2:  # one for each class; A^T A is then the mean of theirs
        scale = np.sqrt(np.square(scale).mean(0))
      scale = scale / np.sqrt(variance + generator.norm_epsilon)
      kernel = kernel * np.tile(scale, kernel.shape[1] // len(scale))
  _, vectors = np.linalg.eigh(kernel @ kernel.T)
  return _signed(vectors.T[::-1][:count])


def of_activations(
  generator: Generator, variables: Any, latents: Latents, count: int = COUNT, seed: int = 0
) -> np.ndarray:
  """Finds the directions of z that belong to the principal components of the first layer's activations.

  This is GANSpace (Haerkoenen et al. 2020, arXiv:2004.02546, section 3.2): the activations of 4,000 random
  latents are reduced to their first principal components, and a linear regression from the components back
  to z gives the direction of each. The activations are those after batch norm and ReLU. Before them
  the layer is linear, and its components would be those of `of_first_layer` again.

  Args:
    generator: The generator.
    variables: 'params' and 'batch_stats' of the network.
    latents: Size and prior of z; classes are drawn uniformly.
    count: Largest number of directions.
    seed: Seed of the latents.

  Returns:
    Unit vectors, not quite perpendicular, float32 [min(count, size), size]; those of the components with the
    largest variance come first. The largest number of each is positive.
  """

  def activate(variables: Any, z: jax.Array) -> jax.Array:
    _, kept = generator.apply(
      variables, z, capture_intermediates=lambda _, method: method == 'activate', mutable=['intermediates']
    )
    # The first activation is that of the first layer.
    return kept['intermediates']['activate'][0].reshape(z.shape[0], -1).astype(jnp.float32)

  compiled = compiling.jit(activate)
  z = np.asarray(latents.sample(jax.random.key(seed), jnp.arange(SAMPLES)))
  found = [np.asarray(compiled(variables, z[i : i + BATCH_SIZE])) for i in range(0, SAMPLES, BATCH_SIZE)]
  return regressed(z[:, : latents.size], np.concatenate(found), count)


def regressed(z: np.ndarray, activations: np.ndarray, count: int) -> np.ndarray:
  """Returns the directions of z that belong to the first principal components of activations.

  Args:
    z: Latents, float [N, size].
    activations: Their activations, float [N, units].
    count: Largest number of directions.

  Returns:
    Unit vectors, float32 [min(count, size, units), size], as `of_activations`.
  """
  from sklearn.utils.extmath import randomized_svd  # slow to import

  count = min(count, z.shape[1], activations.shape[1])
  left, _, _ = randomized_svd(activations - activations.mean(0), count, n_iter=10, random_state=0)
  # The coordinates of the components are uncorrelated, so that the regression is one product for each.
  slopes = left.T.astype(np.float64) @ (z - z.mean(0))
  return _signed(slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-30))


def reach(latents: Latents) -> float:
  """Returns the largest shift along a direction: half the length of a typical z."""
  return 0.5 * math.sqrt(latents.size if latents.prior == 'normal' else latents.size / 3)


def _signed(vectors: np.ndarray) -> np.ndarray:
  """Returns vectors [N, size] as float32, each turned so that its largest number is positive."""
  largest = np.abs(vectors).argmax(1)
  signs = np.sign(vectors[np.arange(len(vectors)), largest])
  return (vectors * signs[:, None]).astype(np.float32)
