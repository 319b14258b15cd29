"""Directions of the latent space along which images change, found without labels."""

from typing import Any

import numpy as np

from dcgan_jax.models import Generator


def of_first_layer(generator: Generator, variables: Any, size: int, count: int = 8) -> np.ndarray:
  """Finds the directions of z that change the generator's first layer most.

  These are the first singular vectors of that layer's kernel (SeFa, Shen and Zhou 2021, arXiv:2007.06600,
  section 3), here with the batch norm that follows it: a unit that batch norm enlarges counts for more.

  Args:
    generator: the module.
    variables: its 'params' and 'batch_stats'.
    size: how many numbers z has; the class beside it is left alone.
    count: how many directions to return at most.

  Returns:
    Unit vectors perpendicular to each other, float32 [min(count, size), size], the strongest first. The
    largest number of each is positive.
  """
  layer = 'hidden1' if generator.dense_widths else 'dense'
  kernel = np.asarray(variables['params'][layer]['kernel'], np.float64)[:size]
  for norm, normalized in generator.norms:
    if normalized == layer:
      scale = np.asarray(variables['params'][norm]['scale'], np.float64)
      variance = np.asarray(variables['batch_stats'][norm]['var'], np.float64)
      scale = scale / np.sqrt(variance + generator.norm_epsilon)
      kernel = kernel * np.tile(scale, kernel.shape[1] // len(scale))
  _, vectors = np.linalg.eigh(kernel @ kernel.T)
  strongest = vectors.T[::-1][:count]
  largest = np.abs(strongest).argmax(1)
  signs = np.sign(strongest[np.arange(len(strongest)), largest])
  return (strongest * signs[:, None]).astype(np.float32)
