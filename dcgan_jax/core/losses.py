"""GAN losses as pure functions from logits to scalars, and the table that configs choose from."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import softplus


class Loss(NamedTuple):
  """A pair of losses.

  Attributes:
    discriminator: Function (logits of real images [B], logits of fakes [B], label of real images) -> scalar.
    generator: Function (logits of fakes [B]) -> scalar; if relativistic, also logits of real images.
    output: Function from logits to D(x) as it is reported in metrics: a probability or the raw output.
    relativistic: Whether the generator's loss also compares fakes with real images.
  """

  discriminator: Callable[[Array, Array, float], Array]
  generator: Callable[..., Array]
  output: Callable[[Array], Array]
  relativistic: bool = False


def cross_entropy_d(real: Array, fake: Array, real_label: float = 1.0) -> Array:
  """Computes -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, equation 1).

  A `real_label` below 1 is one-sided label smoothing (Salimans et al. 2016, section 3.4).
  """
  on_real = real_label * softplus(-real) + (1.0 - real_label) * softplus(real)
  return jnp.mean(on_real) + jnp.mean(softplus(fake))


def non_saturating_g(fake: Array) -> Array:
  """Computes -log D(G(z)), the form used in practice (Goodfellow et al. 2014, section 3)."""
  return jnp.mean(softplus(-fake))


def minimax_g(fake: Array) -> Array:
  """Computes log(1 - D(G(z))), the saturating form of the minimax game (Goodfellow et al. 2014, eq. 1)."""
  return -jnp.mean(softplus(fake))


def least_squares_d(real: Array, fake: Array, real_label: float = 1.0) -> Array:
  """Computes half the squared distances to the labels (Mao et al. 2017, equation 9 with a=0 and b=1)."""
  return 0.5 * (jnp.mean((real - real_label) ** 2) + jnp.mean(fake**2))


def least_squares_g(fake: Array) -> Array:
  """Computes half the squared distance to the real label (Mao et al. 2017, equation 9 with c=1)."""
  return 0.5 * jnp.mean((fake - 1.0) ** 2)


def hinge_d(real: Array, fake: Array, real_label: float = 1.0) -> Array:
  """Computes max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim and Ye 2017), which has no labels to smooth."""
  del real_label
  return jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))


def wasserstein_d(real: Array, fake: Array, real_label: float = 1.0) -> Array:
  """Computes D(G(z)) - D(x) (Arjovsky et al. 2017), which has no labels to smooth.

  It is only meaningful if D is kept Lipschitz continuous, by a gradient penalty or spectral normalisation.
  """
  del real_label
  return jnp.mean(fake) - jnp.mean(real)


def raise_output_g(fake: Array) -> Array:
  """Computes -D(G(z)), the generator's loss in the hinge and Wasserstein pairs."""
  return -jnp.mean(fake)


def relativistic_d(real: Array, fake: Array, real_label: float = 1.0) -> Array:
  """Computes -log sigmoid(D(x) - D(G(z))) over pairs of a real image and a fake one.

  This is the pairing loss of Jolicoeur-Martineau 2018, as in R3GAN (Huang et al. 2024, equation 2). It has no
  labels to smooth.
  """
  del real_label
  return jnp.mean(softplus(fake - real))


def relativistic_g(fake: Array, real: Array) -> Array:
  """Computes -log sigmoid(D(G(z)) - D(x)) over the pairs of `relativistic_d`."""
  return jnp.mean(softplus(real - fake))


def _raw(logits: Array) -> Array:
  return logits


LOSSES = {
  'non_saturating': Loss(cross_entropy_d, non_saturating_g, jax.nn.sigmoid),
  'minimax': Loss(cross_entropy_d, minimax_g, jax.nn.sigmoid),
  'least_squares': Loss(least_squares_d, least_squares_g, _raw),
  'hinge': Loss(hinge_d, raise_output_g, _raw),
  'wasserstein': Loss(wasserstein_d, raise_output_g, _raw),
  'relativistic': Loss(relativistic_d, relativistic_g, _raw, relativistic=True),
}
