"""ONNX models of both networks, written layer by layer from their architecture."""

import math
from collections.abc import Mapping
from typing import Any

from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.trained.interop.onnx.graph import Graph, Pair, Shape


def generator_bytes(
  generator: Generator,
  variables: Mapping[str, Any],
  width: int,
  half: bool = False,
  metadata: Mapping[str, str] | None = None,
) -> bytes:
  """Returns the ONNX model of a generator, serialized.

  Its input is 'z', float32 [batch, width], and its output 'images', float32 [batch, H, W, C] in [-1, 1].

  Args:
    generator: The generator.
    variables: 'params' and the 'batch_stats' to normalise by.
    width: Length of its input for each image, see `Latents.width`; class weights come last.
    half: Whether to store kernels as float16; the model computes in float32 all the same.
    metadata: Names and texts to keep in the model.

  Raises:
    InputError: the package onnx is missing.
  """
  net = Graph(generator, variables, half)
  size = _divided(generator.image_size, generator.strides)
  z, y = 'z', ''
  if generator.classes:
    z, y = net.told(z, width)
  x = net.hidden(z, y, generator.norm[0])
  x = net.dense(x, 'dense', 'norm0' if generator.norm[0] else '', outputs=size)
  x = net.reshaped('base', x, -1, generator.widths[0], *size)
  x = net.activated(x, 'activation0')
  upsample = {
    'transposed': net.conv_transpose,
    'filtered': net.filtered_conv_transpose,
    'bilinear': net.resize_conv,
  }[generator.upsample]
  for i, stride in enumerate(generator.strides, 1):
    x = net.beside(x, y, f'beside{i}', size) if y else x
    norm = f'norm{i}' if i < len(generator.norm) and generator.norm[i] else ''
    x, size = upsample(x, i, norm, size, stride)
    if i < len(generator.strides):
      x = net.activated(x, f'activation{i}')
  x = net.node('Tanh', 'tanh', x)
  net.node('Transpose', 'images', x, perm=[0, 2, 3, 1])
  image: Shape = [*generator.image_size, generator.channels]
  return net.model({'z': ['batch', width]}, {'images': ['batch', *image]}, metadata)


def discriminator_bytes(
  discriminator: Discriminator,
  variables: Mapping[str, Any],
  image_shape: tuple[int, int, int],
  half: bool = False,
  metadata: Mapping[str, str] | None = None,
) -> bytes:
  """Returns the ONNX model of a discriminator, serialized.

  Its input is 'images', float32 [batch, H, W, C] in [-1, 1], and its output 'logits', float32 [batch], or
  [batch / packing] if it judges several images together. A conditional one has a second input,
  'classes', float32 [batch, classes], one-hot; zeros mean no class.

  Args:
    discriminator: The discriminator.
    variables: 'params' and 'batch_stats' of the network.
    image_shape: Height, width and channels.
    half: Whether to store kernels as float16; the model computes in float32 all the same.
    metadata: Names and texts to keep in the model.

  Raises:
    InputError: the package onnx is missing.
  """
  net = Graph(discriminator, variables, half)
  packing, (height, width, channels) = discriminator.packing, image_shape
  size: Pair = (height, width)
  x, y = 'images', ''
  inputs: dict[str, Shape] = {'images': ['batch', *image_shape]}
  if packing > 1:
    x = net.reshaped('packs', x, -1, packing, *image_shape)
    x = net.node('Transpose', 'channels_first', x, perm=[0, 1, 4, 2, 3])
    x = net.reshaped('packed', x, -1, packing * channels, *size)
  else:
    x = net.node('Transpose', 'channels_first', x, perm=[0, 3, 1, 2])
  if discriminator.classes:
    inputs['classes'] = ['batch', discriminator.classes]
    y = net.reshaped('packed_classes', 'classes', -1, packing * discriminator.classes)
  beside = y if discriminator.condition == 'concat' else ''
  for i, (stride, norm) in enumerate(zip(discriminator.strides, discriminator.norm), 1):
    x = net.beside(x, beside, f'beside{i}', size) if beside else x
    x, size = net.conv(x, i, f'norm{i}' if norm else '', size, stride)
    x = net.activated(x, f'activation{i}')
  x = net.reshaped('features', x, -1, discriminator.widths[-1] * math.prod(size))
  x = net.node('Concat', 'beside_features', x, beside, axis=1) if beside else x
  x = net.hidden(x, beside, discriminator.norm[-1], inputs=size)
  last = (1, 1) if discriminator.dense_widths else size
  logits = net.dense(x, 'dense', inputs=last)
  if y and not beside:
    by_class = net.node('Mul', 'chosen', net.dense(x, 'projection', inputs=last), y)
    by_class = net.node('ReduceSum', 'of_class', by_class, net.constant('axis', [1]))
    logits = net.node('Add', 'logits_of_class', logits, by_class)
  net.node('Reshape', 'logits', logits, net.constant('logits_shape', [-1]))
  return net.model(inputs, {'logits': ['batch' if packing == 1 else 'packs']}, metadata)


def _divided(size: Pair, strides: tuple[int, ...]) -> Pair:
  """Returns the height and width of a generator's first features."""
  return size[0] // math.prod(strides), size[1] // math.prod(strides)
