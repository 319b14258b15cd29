"""Training images: sources, order as a function of (seed, step), and transfer to the devices."""

from dcgan_jax.data.decode import Fit
from dcgan_jax.data.sources import Source, load, open_source

__all__ = ['Fit', 'Source', 'load', 'open_source']
