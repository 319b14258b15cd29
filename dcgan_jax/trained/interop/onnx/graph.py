"""The graph of an ONNX model, to which the layers of a network are added one by one.

Batch norm is linear once its statistics are fixed, so it is folded into the layer before it. Images are NHWC,
as everywhere in this project, and features NCHW, as in ONNX: hence a transposition next to the image, and
another order of the units of the dense layer next to the pixels.
"""

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from dcgan_jax.core import conv
from dcgan_jax.core.layers import bilinear_filter
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.errors import InputError

OPSET, IR_VERSION = 13, 7  # of ONNX 1.8 of 2020, the first with all that is needed here
IDENTITY = {'scale': [1.0], 'bias': [0.0]}  # of a batch norm without parameters

Pair = tuple[int, int]
Shape = list[int | str]


def library(file_format: str = 'onnx') -> ModuleType:
  """Imports the package onnx, for a format that needs it.

  Raises:
    InputError: it is not installed.
  """
  try:
    import onnx
  except ImportError as error:
    raise InputError(f"format={file_format}: needs the package onnx; pip install -e '.[export]'") from error
  return onnx


class Graph:
  """The graph of a network, to which nodes are added; values are referred to by name.

  Attributes:
    module: The network.
    params: Its parameters.
    stats: Its batch-norm statistics, and the vectors of spectral norm.
    half: Whether kernels are stored as float16.
    y: Name of the class weights [B, classes], for conditional batch norms; '' for none.
  """

  def __init__(self, module: Generator | Discriminator, variables: Mapping[str, Any], half: bool):
    self.module, self.half, self.y = module, half, ''
    self.params, self.stats = variables['params'], variables.get('batch_stats', {})
    self._onnx = library()
    self._nodes: list[Any] = []
    self._constants: list[Any] = []

  def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node, names its only output after it, and returns the name."""
    made = self._onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
    self._nodes.append(made)
    return name

  def constant(self, name: str, values: Any, dtype: Any = np.int64) -> str:
    """Adds a constant array and returns its name."""
    array = np.ascontiguousarray(values, dtype)
    self._constants.append(self._onnx.numpy_helper.from_array(array, name))
    return name

  def model(
    self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], metadata: Mapping[str, str] | None
  ) -> bytes:
    """Returns the model with this graph, serialized."""
    helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
    ends = [
      [helper.make_tensor_value_info(name, kind, shape) for name, shape in named.items()]
      for named in (inputs, outputs)
    ]
    graph = helper.make_graph(self._nodes, type(self.module).__name__.lower(), *ends, self._constants)
    opsets = [helper.make_opsetid('', OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name='dcgan_jax')
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata or {}))
    self._onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)

  # Each of the following methods adds a layer and returns the name of its output.

  def part(self, name: str, x: str, start: int, end: int) -> str:
    """Takes some columns: [B, I] -> [B, end - start]."""
    bounds = [
      self.constant(f'{name}.{what}', [at]) for what, at in (('start', start), ('end', end), ('axis', 1))
    ]
    return self.node('Slice', name, x, *bounds)

  def reshaped(self, name: str, x: str, *shape: int) -> str:
    """Reshapes a value; -1 stands for the rest."""
    return self.node('Reshape', name, x, self.constant(f'{name}.shape', shape))

  def told(self, z: str, width: int) -> tuple[str, str]:
    """Returns the input of a generator's first layer, and the classes to concatenate with that of the others.

    Args:
      z: Latents, followed by the class weights, [B, width].
      width: Length of these, see `Latents.width`.

    Returns:
      Two names; the second is '' unless the generator is conditioned by 'concat'.
    """
    noise, condition = width - self.module.classes, self.module.condition
    y = self.part('classes', z, noise, width)
    if condition == 'concat':
      return z, y
    z = self.part('noise', z, 0, noise)
    if condition == 'embedding':
      return self.node('Concat', 'beside_z', z, self.dense(y, 'embedding'), axis=1), ''
    self.y = y
    return z, ''

  def beside(self, x: str, y: str, name: str, size: Pair) -> str:
    """Concatenates classes with the channels: [B, C, H, W] and [B, classes] -> [B, C + classes, H, W]."""
    classes = self.module.classes * getattr(self.module, 'packing', 1)
    pixels = self.reshaped(f'{name}.pixel', y, -1, classes, 1, 1)
    shape = self.constant(f'{name}.image_shape', [1, 1, *size])
    return self.node('Concat', name, x, self.node('Expand', f'{name}.image', pixels, shape), axis=1)

  def activated(self, x: str, name: str) -> str:
    """Adds the ReLU, leaky or plain."""
    if self.module.leak:
      return self.node('LeakyRelu', name, x, alpha=self.module.leak)
    return self.node('Relu', name, x)

  def hidden(self, x: str, y: str, norm: bool, inputs: Pair = (1, 1)) -> str:
    """Adds the dense hidden layers, each with the class concatenated to its units if there is one."""
    for i in range(1, 1 + len(self.module.dense_widths)):
      x = self.dense(x, f'hidden{i}', f'hidden_norm{i}' if norm else '', inputs)
      x = self.activated(x, f'hidden_activation{i}')
      x = self.node('Concat', f'hidden_beside{i}', x, y, axis=1) if y else x
      inputs = (1, 1)
    return x

  def dense(self, x: str, name: str, norm: str = '', inputs: Pair = (1, 1), outputs: Pair = (1, 1)) -> str:
    """Adds a dense layer whose inputs or outputs may be the pixels of features."""
    kernel, scale, bias = self._folded(name, norm, -1)
    units = _channels_first(kernel.shape[1], outputs)
    kernel, scale, bias = kernel[:, units], scale[units], bias if bias is None else bias[units]
    if inputs != (1, 1):
      order = _channels_first(self.module.widths[-1] * math.prod(inputs), inputs)
      kernel = np.concatenate([kernel[order], kernel[len(order) :]])  # The class may follow the pixels.
    return self._of_class(
      self.node('Gemm', name, x, *self._weights(name, kernel, scale, bias, 1)), norm, units
    )

  def conv(self, x: str, i: int, norm: str, size: Pair, stride: int) -> tuple[str, Pair]:
    """Adds a convolution; returns also the height and width of its output."""
    name, k = f'conv{i}', self.module.kernel_size
    kernel, scale, bias = self._folded(name, norm, -1)
    (top, bottom), (left, right) = conv.padding_pairs(self.module.padding, size, (k, k), (stride, stride))
    weights = self._weights(name, kernel.transpose(3, 2, 0, 1), scale, bias, 0)
    x = self.node('Conv', name, x, *weights, strides=[stride] * 2, pads=[top, left, bottom, right])
    return self._of_class(x, norm), (-(-size[0] // stride), -(-size[1] // stride))

  def resize_conv(self, x: str, i: int, norm: str, size: Pair, stride: int) -> tuple[str, Pair]:
    """Adds bilinear upsampling and a convolution; returns also the height and width of its output."""
    if stride > 1:
      scales = self.constant(f'resize{i}.scales', [1, 1, stride, stride], np.float32)
      mode = {'mode': 'linear', 'coordinate_transformation_mode': 'half_pixel'}
      x = self.node('Resize', f'resize{i}', x, '', scales, **mode)
    return self.conv(x, i, norm, (size[0] * stride, size[1] * stride), 1)

  def conv_transpose(self, x: str, i: int, norm: str, size: Pair, stride: int) -> tuple[str, Pair]:
    """Adds a transposed convolution; returns also the height and width of its output."""
    name, k = f'conv{i}', self.module.kernel_size
    kernel, scale, bias = self._folded(name, norm, 2)
    image = size[0] * stride, size[1] * stride
    pairs = conv.padding_pairs(self.module.padding, image, (k, k), (stride, stride))
    (top, bottom), (left, right) = pairs
    # A kernel that is smaller than the stride does not reach the last pixels.
    missing = [n - ((m - 1) * stride + k - sum(pair)) for n, m, pair in zip(image, size, pairs)]
    weights = self._weights(name, kernel.transpose(3, 2, 0, 1), scale, bias, 1)
    x = self.node(
      'ConvTranspose',
      name,
      x,
      *weights,
      strides=[stride] * 2,
      pads=[top, left, bottom, right],
      output_padding=missing,
    )
    return self._of_class(x, norm), image

  def filtered_conv_transpose(self, x: str, i: int, norm: str, size: Pair, stride: int) -> tuple[str, Pair]:
    """Adds a transposed convolution and a filter; returns also the height and width of its output."""
    name, k, taps = f'conv{i}', self.module.kernel_size, bilinear_filter(stride)
    kernel, scale, bias = self._folded(name, norm, 2)
    image, reach = (size[0] * stride, size[1] * stride), k + len(taps) - 1
    pairs = conv.padding_pairs(self.module.padding, image, (reach, reach), (stride, stride))
    before = [len(taps) - 1 - first for first, _ in pairs]
    after = [n + first - ((m - 1) * stride + k) for n, m, (first, _) in zip(image, size, pairs)]
    pads = np.array([*before, *after])
    weights, *biases = self._weights(name, kernel.transpose(3, 2, 0, 1), scale, bias, 1)
    # Padding of the filter that is negative crops its input.
    x = self.node(
      'ConvTranspose', f'{name}.unfiltered', x, weights, strides=[stride] * 2, pads=np.maximum(-pads, 0)
    )
    channels = kernel.shape[2]
    each = np.broadcast_to(np.outer(taps, taps), (channels, 1, len(taps), len(taps)))
    filters = self.constant(f'{name}.filter', each, np.float32)
    x = self.node('Conv', name, x, filters, *biases, group=channels, pads=np.maximum(pads, 0))
    return self._of_class(x, norm), image

  def _of_class(self, x: str, norm: str, units: np.ndarray | None = None) -> str:
    """Scales and shifts x by its class after a conditional batch norm; any other x is returned unchanged.

    Args:
      x: Normalised features, [B, C, H, W] or [B, units].
      norm: Name of the batch norm; '' for none.
      units: Index of each unit in features [H, W, C], int [units]; None for channels.
    """
    if not norm or np.ndim(self._affine(norm)['scale']) == 1:
      return x
    for part, operator in (('scale', 'Mul'), ('bias', 'Add')):
      table = np.asarray(self.params[norm][part])
      table = table if units is None else _repeated(table, len(units))[:, units]
      name = f'{norm}.{part}'
      by_class = self.node('MatMul', name, self.y, self.constant(f'{name}s', table, np.float32))
      if units is None:
        by_class = self.reshaped(f'{name}.pixel', by_class, -1, table.shape[1], 1, 1)
      x = self.node(operator, f'{name}.applied', x, by_class)
    return x

  def _folded(self, layer: str, norm: str, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns a layer's kernel, a scale and a bias, float64, that have the batch norm that follows in them.

    Of a conditional batch norm only the normalisation is folded in, not the scale and bias.

    Args:
      layer: Name of the layer.
      norm: Name of its batch norm; '' for none.
      axis: Axis of the kernel's outputs.

    Returns:
      The kernel, in our layout, what multiplies it, [outputs], and the bias [outputs], None for none.
    """
    params = self.params[layer]
    kernel = np.asarray(params['kernel'], np.float64)
    outputs = kernel.shape[axis]
    scale = np.ones(outputs)
    if getattr(self.module, 'spectral_norm', False):
      kernel = kernel / self._spectral_norm(layer, kernel)
    bias = _repeated(params['bias'], outputs) if 'bias' in params else None
    if norm:
      affine = self._affine(norm)
      affine = IDENTITY if np.ndim(affine['scale']) == 2 else affine
      shift, scale = (_repeated(affine[part], outputs) for part in ('bias', 'scale'))
      mean, variance = (_repeated(self.stats[norm][part], outputs) for part in ('mean', 'var'))
      scale /= np.sqrt(variance + self.module.norm_epsilon)
      bias = ((0 if bias is None else bias) - mean) * scale + shift
    return kernel, scale, bias

  def _affine(self, norm: str) -> Mapping[str, Any]:
    """Returns the scale and bias of a batch norm, [C], or [classes, C] of a conditional one."""
    return self.params[norm] if self.module.norm_affine else IDENTITY

  def _spectral_norm(self, layer: str, kernel: np.ndarray) -> float:
    """Returns the spectral norm of a kernel, after a step of power iteration as in evaluation."""
    u = np.asarray(self.stats[f'spectral_{layer}'][f'{layer}/kernel/u'], np.float64)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = u @ matrix.T
    return float(np.linalg.norm(v @ matrix) / np.linalg.norm(v))

  def _weights(
    self, name: str, kernel: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, axis: int
  ) -> list[str]:
    """Adds the constants of a layer, with its outputs along an axis of the kernel; returns their names."""
    biases = [] if bias is None else [self.constant(f'{name}.bias', bias, np.float32)]
    scale = np.expand_dims(scale, [i for i in range(kernel.ndim) if i != axis])
    if not self.half:
      return [self.constant(f'{name}.kernel', kernel * scale, np.float32), *biases]
    rounded, unit = halved(kernel, axis)
    unit = unit * scale
    stored = self.constant(f'{name}.half', rounded, np.float16)
    cast = self.node('Cast', f'{name}.float', stored, to=self._onnx.TensorProto.FLOAT)
    return [
      self.node('Mul', f'{name}.kernel', cast, self.constant(f'{name}.unit', unit, np.float32)),
      *biases,
    ]


def halved(kernel: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
  """Rounds a kernel to float16, relative to a power of two that is near the largest weight of each output.

  So a weight neither overflows nor loses digits for being small, and one that is float16 already stays as it
  is, unless it is tiny beside others that are above 1.

  Args:
    kernel: Kernel of any shape.
    axis: Axis of the outputs.

  Returns:
    The rounded kernel, float16, and the unit of each output, float32: their product is the kernel.
  """
  others = tuple(i for i in range(kernel.ndim) if i != axis)
  _, exponent = np.frexp(np.abs(kernel).max(others, keepdims=True))
  unit = np.ldexp(np.float32(1), np.clip(exponent, -126, 127))
  return (kernel / unit).astype(np.float16), unit


def _repeated(vector: Any, count: int) -> np.ndarray:
  """Returns a vector of channels [..., C] tiled to all units; a vector of units is returned unchanged."""
  vector = np.asarray(vector, np.float64)
  return np.tile(vector, count // vector.shape[-1])


def _channels_first(count: int, size: Pair) -> np.ndarray:
  """Returns the index in features [H, W, C] of each unit of features [C, H, W], int [count]."""
  return np.arange(count).reshape(*size, -1).transpose(2, 0, 1).ravel()
