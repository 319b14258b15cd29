"""The PyTorch side of the benchmarks: the networks and the train step of a config.

The code follows PyTorch's DCGAN example and TensorFlow's DCGAN tutorial, with the same layers, updates and
Adam, for any config in `configs/` whose order is not 'one_per_batch'. Where TensorFlow's padding puts an odd
zero after the image, these layers put it before; the work is the same.
"""

import math

import torch
from ml_collections import ConfigDict
from torch import nn

from dcgan_jax import settings

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# Recommended by PyTorch's example and its performance guide; defaults in JAX.
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = True


def generator(config: ConfigDict) -> nn.Sequential:
  """Returns the generator, z [B, z_size, 1, 1] -> images [B, C, H, W]."""
  net, (height, width) = config.generator, settings.check(config).data.size
  base = height // math.prod(net.strides), width // math.prod(net.strides)
  layers = [nn.ConvTranspose2d(config.latent.size, net.widths[0], base, bias=net.use_bias)]
  if net.norm[0] and net.dense_norm == 'unit':  # like Keras, normalised before the reshape
    shape = net.widths[0], *base
    units = nn.BatchNorm1d(math.prod(shape), net.norm_epsilon, 1 - net.norm_momentum)
    layers += [nn.Flatten(), units, nn.Unflatten(1, shape), *_activation(net)]
  else:
    layers += _norm_and_activation(net, 0)
  channels = (*net.widths, config.data.channels)
  for i, stride in enumerate(net.strides):
    pad, extra = _padding(net.kernel_size, stride)
    layers.append(
      nn.ConvTranspose2d(channels[i], channels[i + 1], net.kernel_size, stride, pad, extra, bias=net.use_bias)
    )
    if i + 1 < len(net.strides):
      layers += _norm_and_activation(net, i + 1)
  return nn.Sequential(*layers, nn.Tanh())


def discriminator(config: ConfigDict) -> nn.Sequential:
  """Returns the discriminator, images [B, C, H, W] -> logits [B]."""
  net, (height, width) = config.discriminator, settings.check(config).data.size
  layers: list[nn.Module] = []
  channels = (config.data.channels, *net.widths)
  for i, stride in enumerate(net.strides):
    pad, _ = _padding(net.kernel_size, stride)
    layers.append(nn.Conv2d(channels[i], channels[i + 1], net.kernel_size, stride, pad, bias=net.use_bias))
    layers += _norm_and_activation(net, i)
  last = height // math.prod(net.strides), width // math.prod(net.strides)
  return nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, last, bias=net.use_bias), nn.Flatten(0))


def _padding(kernel_size: int, stride: int) -> tuple[int, int]:
  """Returns padding and output_padding for features of size image / stride."""
  pad = (kernel_size - stride + 1) // 2
  return pad, stride + 2 * pad - kernel_size


def _norm_and_activation(net: ConfigDict, i: int) -> list[nn.Module]:
  """Returns the modules after the i-th layer of a network: batch norm, activation and dropout, if any."""
  layers: list[nn.Module] = []
  if net.norm[i]:
    layers.append(nn.BatchNorm2d(net.widths[i], net.norm_epsilon, 1 - net.norm_momentum))
  return layers + _activation(net)


def _activation(net: ConfigDict) -> list[nn.Module]:
  """Returns the activation of a hidden layer, and dropout, if any."""
  activation = nn.LeakyReLU(net.leak, inplace=True) if net.leak else nn.ReLU(inplace=True)
  return [activation, nn.Dropout(net.dropout)] if net.dropout else [activation]


def initialize(network: nn.Sequential, initializer: str) -> None:
  """Initialises the weights: 'normal' as in the paper, 'glorot' as in Keras."""
  layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
  for layer in layers:
    if initializer == 'normal':
      nn.init.normal_(layer.weight, 0.0, 0.02)
    else:
      # The kernel of a layer that is dense in Keras covers its whole input, so each pixel is a unit.
      _, _, *kernel = layer.weight.shape
      area = math.prod(kernel)
      inputs, outputs = layer.in_channels * area, layer.out_channels * area
      if isinstance(layer, nn.ConvTranspose2d) and layer is layers[0]:
        inputs = layer.in_channels
      if isinstance(layer, nn.Conv2d) and layer is layers[-1]:
        outputs = layer.out_channels
      limit = math.sqrt(6 / (inputs + outputs))
      nn.init.uniform_(layer.weight, -limit, limit)
      if layer.bias is not None:
        nn.init.zeros_(layer.bias)
  for norm in network:
    if isinstance(norm, nn.BatchNorm2d) and initializer == 'normal':
      nn.init.normal_(norm.weight, 1.0, 0.02)


class TrainStep:
  """A train step, images uint8 [B, C, H, W] -> {'loss_d', 'loss_g'}, that updates its networks in place.

  It does not wait for a GPU; reading a loss does.

  Attributes:
    generator: See the function `generator`.
    discriminator: See the function `discriminator`.
    optimizers: Adam of the generator and the discriminator.
  """

  def __init__(self, config: ConfigDict, memory_format: torch.memory_format, compiled: bool = False):
    """Creates both networks and their optimizers.

    Args:
      config: Config with order 'alternating' (PyTorch's example) or 'simultaneous' (TensorFlow's tutorial),
        or with the relativistic loss, R1 and R2 (R3GAN's trainer).
      memory_format: Layout of images and weights, torch.contiguous_format (NCHW) | torch.channels_last.
      compiled: Whether torch.compile compiles each network.
    """
    self.config, self.memory_format = config, memory_format
    self.generator = generator(config).to(DEVICE, memory_format=memory_format)
    self.discriminator = discriminator(config).to(DEVICE, memory_format=memory_format)
    initialize(self.generator, config.generator.initializer)
    initialize(self.discriminator, config.discriminator.initializer)
    # Fused Adam refuses parameters whose gradients have another memory format.
    fused = DEVICE == 'cuda' and memory_format == torch.contiguous_format
    self.optimizers = [
      torch.optim.Adam(net.parameters(), o.learning_rate, (o.b1, o.b2), o.epsilon, fused=fused)
      for net, o in (
        (self.generator, config.generator_optimizer),
        (self.discriminator, config.discriminator_optimizer),
      )
    ]
    self._g, self._d = self.generator, self.discriminator
    if compiled:
      torch._functorch.config.donated_buffer = False  # allows a second backward pass
      self._g, self._d = (torch.compile(net, dynamic=False) for net in (self.generator, self.discriminator))
    orders = {'alternating': self._alternating, 'simultaneous': self._simultaneous}
    self._update = self._relativistic if config.train.loss == 'relativistic' else orders[config.train.order]
    self._loss = nn.BCEWithLogitsLoss()

  def __call__(self, images: torch.Tensor, z: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Takes one step.

    Args:
      images: Images, uint8 [B, C, H, W].
      z: Latents, float32 [B, z_size, 1, 1]; None to draw them from N(0, 1).
    """
    real = (images.float() / 127.5 - 1.0).to(memory_format=self.memory_format)
    if z is None:
      z = torch.randn(len(images), self.config.latent.size, 1, 1, device=DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=self.config.train.dtype == 'bfloat16'):
      loss_d, loss_g = self._update(real, z)
    return {'loss_d': loss_d.detach(), 'loss_g': loss_g.detach()}

  def _alternating(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Updates D on real images and fakes, then G through the new D, as in PyTorch's example."""
    one, zero = torch.ones(len(real), device=DEVICE), torch.zeros(len(real), device=DEVICE)
    self.discriminator.zero_grad()
    loss_real = self._loss(self._d(real), one)
    loss_real.backward()
    fake = self._g(z)
    loss_fake = self._loss(self._d(fake.detach()), zero)
    loss_fake.backward()
    self.optimizers[1].step()
    self.generator.zero_grad()
    loss_g = self._loss(self._d(fake), one)
    loss_g.backward()
    self.optimizers[0].step()
    return loss_real + loss_fake, loss_g

  def _relativistic(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Updates D with gradient penalties, then G through the new D, as in R3GAN's trainer."""
    train, softplus = self.config.train, nn.functional.softplus
    self.discriminator.zero_grad()
    fake = self._g(z)
    images = [real.detach().requires_grad_(), fake.detach().requires_grad_()]
    real_logits, fake_logits = (self._d(x) for x in images)
    penalty = 0.0
    for gamma, x, logits in zip((train.r1, train.r2), images, (real_logits, fake_logits)):
      (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
      penalty += gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
    loss_d = softplus(fake_logits - real_logits).mean() + penalty
    loss_d.backward()
    self.optimizers[1].step()
    self.generator.zero_grad()
    self.discriminator.requires_grad_(False)
    loss_g = softplus(self._d(real) - self._d(fake)).mean()
    loss_g.backward()
    self.discriminator.requires_grad_(True)
    self.optimizers[0].step()
    return loss_d, loss_g

  def _simultaneous(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Updates both networks from one forward pass, as in TensorFlow's tutorial."""
    one, zero = torch.ones(len(real), device=DEVICE), torch.zeros(len(real), device=DEVICE)
    fake = self._g(z)
    real_logits, fake_logits = self._d(real), self._d(fake)
    loss_g = self._loss(fake_logits, one)
    loss_d = self._loss(real_logits, one) + self._loss(fake_logits, zero)
    for net, loss in ((self.generator, loss_g), (self.discriminator, loss_d)):
      parameters = list(net.parameters())
      for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True)):
        parameter.grad = gradient
    for optimizer in self.optimizers:
      optimizer.step()
    return loss_d, loss_g
