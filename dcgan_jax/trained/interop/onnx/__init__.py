"""ONNX models of both networks."""

from dcgan_jax.trained.interop.onnx.graph import library
from dcgan_jax.trained.interop.onnx.networks import discriminator_bytes, generator_bytes

__all__ = ['discriminator_bytes', 'generator_bytes', 'library']
