"""A complete DCGAN on handwritten digits from the library's parts alone, without config and flags.

python examples/minimal.py

It trains for a minute on two CPU cores, prints the losses and writes 64 digits to minimal.png.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import data
from dcgan_jax.core import compiling
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Discriminator, Generator, to_pixels
from dcgan_jax.core.train_state import Gan, create, make_optimizer
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.data.order import batch_indices
from dcgan_jax.media import pictures

STEPS, BATCH_SIZE = 1500, 64


def main() -> None:
  """Trains, and writes a grid of samples."""
  # The images: uint8 [1797, 16, 16, 1].
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((16, 16), channels=1)), 'digits')

  # Two networks, an optimizer for each, and the latents z.
  gan = Gan(
    Generator(widths=(128, 64), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(16, 16), channels=1),
    Discriminator(widths=(64, 128), strides=(2, 2), norm=(False, True)),
    make_optimizer(2e-4, b1=0.5),
    make_optimizer(1e-4, b1=0.5),  # At G's rate D would memorise the 1,797 images.
    Latents(size=100, prior='normal'),
  )
  # Everything that training changes: parameters, statistics, Adam's averages, the number of steps.
  state = jax.jit(lambda: create(gan, seed=0))()

  # A step is a pure function of state and images. Donation reuses the memory of the old state.
  recipe = Recipe(LOSSES['non_saturating'], order='alternating')
  step = compiling.jit(make_train_step(gan, recipe), donate_argnums=0)
  for i in range(STEPS):
    batch = images[batch_indices(0, i, BATCH_SIZE, len(images))]
    state, metrics = step(state, batch)
    if i % 100 == 99:
      print(f'step {i + 1}  loss_d {metrics["loss_d"]:.3f}  loss_g {metrics["loss_g"]:.3f}', flush=True)

  # Image i depends on latent i alone, because batch norm uses running statistics.
  z = gan.latents.sample(jax.random.key(0), jnp.arange(64))
  made = jax.jit(gan.generator.apply)(state.generator.variables, z)
  pictures.save_png(Path('minimal.png'), pictures.zoom(pictures.grid(np.asarray(to_pixels(made)))))


if __name__ == '__main__':
  main()
