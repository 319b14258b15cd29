"""The table of all keys: for each its default, what is valid, and one line of help.

A new key is a line here and its use; configs, their checks, config.json and `--mode=train --help` follow. A
key that the config.json of an earlier run lacks was added since, and gets its default: that must be what such
a run was trained with.
"""

from dataclasses import dataclass

from dcgan_jax.settings.rules import (
  AUGMENT,
  CHANNELS,
  CLASSES,
  COLOUR,
  COUNT,
  COUNTS,
  DTYPES,
  FLAG,
  FLAGS,
  FRACTION,
  HUNDREDS,
  IMAGE_SIZE,
  NATURAL,
  NOT_NEGATIVE,
  PATH,
  POSITIVE,
  REAL_LABEL,
  SEED,
  SOURCE,
  SPLIT,
  UNITS,
  VALUE_RANGE,
  key,
  one_of,
  section,
)


@dataclass(frozen=True)
class Data:
  """Which images to learn from, and how they are made to fit."""

  source: str = key(
    'digits',
    SOURCE,
    'digits (ship with scikit-learn) | tfds:NAME | folder:PATH | npy:PATH (.npy or .npz of [N, H, W] or '
    '[N, H, W, C]) | stacked:SOURCE (triples as RGB)',
  )
  split: str = key('train', SPLIT, 'of a tfds data set, in its notation: train, test, train[:10%] ...')
  image_size: tuple[int, ...] = key((64, 64), IMAGE_SIZE, 'pixels: height, width; one number for a square')
  channels: int = key(
    3, CHANNELS, 'of the images: 1 gray | 3 RGB | 4 RGBA, G makes transparency | with npy: as many as it has'
  )
  dtype: str = key('uint8', one_of(*DTYPES), 'of the numbers of npy: ' + ' | '.join(DTYPES))
  value_range: tuple[float, ...] = key(
    (), VALUE_RANGE, 'lowest and highest number of npy:, which floats need; () for all that an integer has'
  )
  fit: str = key(
    'crop', one_of('crop', 'squash'), 'crop (largest centred part of the right shape) | squash (the whole)'
  )
  background: tuple[int, int, int] = key(
    (255, 255, 255), COLOUR, 'RGB, 0..255, that transparent pixels are laid on, with 1 or 3 channels'
  )
  classes: int = key(
    0, CLASSES, 'that G makes on request and D judges by: as many as the data has; 0 for none'
  )
  flip: bool = key(False, FLAG, 'mirror each image left to right with probability 1/2')
  memory_limit: int = key(
    4096, NATURAL, 'MiB of each device; more than that, decoded, is read from the disk as needed', free=True
  )
  workers: int = key(
    0, NATURAL, 'processes that decode what the disk has no room for either; 0 uses threads', free=True
  )

  @property
  def size(self) -> tuple[int, int]:
    """Height and width in pixels, also where `image_size` is one number."""
    return (self.image_size[0], self.image_size[-1])

  @property
  def is_array(self) -> bool:
    """Whether the images are an array, and not pictures of 8 bits."""
    return self.source.startswith('npy:')

  @property
  def transparent(self) -> bool:
    """Whether the images are pictures with an opacity."""
    return self.channels == 4 and not self.is_array


@dataclass(frozen=True)
class Latent:
  """The generator's input."""

  size: int = key(100, COUNT, 'numbers in each z')
  prior: str = key('normal', one_of('normal', 'uniform'), 'normal (N(0, 1)) | uniform (U[-1, 1], the paper)')


@dataclass(frozen=True)
class Network:
  """What generator and discriminator share."""

  widths: tuple[int, ...] = key(
    (512, 256, 128, 64), COUNTS, 'channels of each hidden layer, from input to output'
  )
  strides: tuple[int, ...] = key((2, 2, 2, 2), COUNTS, 'pixels, of each convolution, from input to output')
  norm: tuple[bool, ...] = key((True,) * 4, FLAGS, 'for each hidden layer, whether batch norm follows it')
  dense_widths: tuple[int, ...] = key(
    (), UNITS, 'units of fully connected hidden layers at the end that has no pixels; () for none'
  )
  kernel_size: int = key(4, COUNT, 'pixels, of every convolution')
  padding: str = key(
    'same', one_of('same', 'symmetric'), "same (TensorFlow, PyTorch's k=4) | symmetric (Theano: the authors)"
  )
  use_bias: bool = key(False, FLAG, 'whether convolutions and dense layers have a bias')
  norm_epsilon: float = key(
    1e-5, POSITIVE, 'added to the variance: 1e-5 PyTorch, 1e-3 Keras, 1e-8 the authors'
  )
  norm_affine: bool = key(True, FLAG, 'scale and bias in each batch norm; the authors have none for MNIST')
  norm_momentum: float = key(0.9, FRACTION, 'of the running statistics, in [0, 1): 0.9 PyTorch, 0.99 Keras')
  leak: float = key(0.2, FRACTION, 'slope of the leaky ReLU below zero, in [0, 1); 0 is the plain ReLU')
  dropout: float = key(0.0, FRACTION, 'rate after each hidden layer, in [0, 1)')
  initializer: str = key(
    'normal', one_of('normal', 'glorot'), 'normal (N(0, 0.02), the paper) | glorot (Glorot uniform, Keras)'
  )


@dataclass(frozen=True)
class Generator(Network):
  """The generator's keys."""

  dense_norm: str = key(
    'channel', one_of('channel', 'unit'), "first layer's norm and bias: channel (PyTorch) | unit (Keras)"
  )
  upsample: str = key(
    'transposed',
    one_of('transposed', 'bilinear'),
    'transposed (convolution) | bilinear (resize + convolution)',
  )
  condition: str = key(
    'concat',
    one_of('concat', 'embedding', 'norm'),
    'how it is told the class: concat (beside the input of each layer, the authors) | embedding (beside z) | '
    'norm (scale and bias of each batch norm)',
  )


@dataclass(frozen=True)
class Discriminator(Network):
  """The discriminator's keys."""

  condition: str = key(
    'projection',
    one_of('projection', 'concat'),
    'how it is told the class: projection (of the last features) | concat (beside the input of each layer)',
  )
  packing: int = key(1, COUNT, 'images that it judges together, side by side in the channels (PacGAN)')
  spectral_norm: bool = key(False, FLAG, 'divide each kernel by its largest singular value')


@dataclass(frozen=True)
class Optimizer:
  """Adam, for one network."""

  learning_rate: float = key(2e-4, POSITIVE, 'step size, > 0')
  b1: float = key(0.5, FRACTION, "decay of the gradient's average, in [0, 1)")
  b2: float = key(0.999, FRACTION, "decay of the squared gradient's average, in [0, 1)")
  epsilon: float = key(1e-8, POSITIVE, 'added to its root, > 0: 1e-8 PyTorch, 1e-7 Keras')
  l2: float = key(0.0, NOT_NEGATIVE, 'times the parameters is added to the gradients, >= 0: 1e-5 the authors')
  decay_after: int = key(0, NATURAL, 'train steps with the constant rate before it falls')
  decay_steps: int = key(0, NATURAL, 'train steps over which it falls linearly to 0; 0 keeps it constant')


@dataclass(frozen=True)
class Train:
  """How both networks learn."""

  batch_size: int = key(128, COUNT, 'images, over all devices together')
  num_steps: int = key(0, NATURAL, 'train steps; 0 takes num_epochs', free=True)
  num_epochs: int = key(25, NATURAL, 'passes over the data; used when num_steps is 0', free=True)
  order: str = key(
    'alternating',
    one_of('alternating', 'simultaneous', 'one_per_batch'),
    "alternating (D learns, then G through it) | simultaneous (both from one pass, TensorFlow's tutorial)"
    " | one_per_batch (a batch trains G or D in turn, the paper's authors)",
  )
  d_steps: int = key(1, COUNT, "D's updates for each of G's, each on its own batch; > 1 needs alternating")
  fresh_z: bool = key(False, FLAG, 'G learns from a new z rather than from the fakes that D just saw')
  loss: str = key(
    'non_saturating',
    one_of('non_saturating', 'minimax', 'least_squares', 'hinge', 'wasserstein', 'relativistic'),
    'non_saturating | minimax | least_squares | hinge | wasserstein | relativistic',
  )
  real_label: float = key(
    1.0, REAL_LABEL, "D's target for real images, in (0.5, 1]; 0.9 is one-sided smoothing"
  )
  r1: float = key(0.0, NOT_NEGATIVE, 'gamma of the gradient penalty on real images, e.g. 1; 0 for none')
  r2: float = key(0.0, NOT_NEGATIVE, 'gamma of the gradient penalty on fakes, e.g. 1; 0 for none')
  gradient_penalty: float = key(
    0.0,
    NOT_NEGATIVE,
    "factor of WGAN-GP's gradient penalty between real images and fakes, e.g. 10; 0 for none",
  )
  augment: str = key(
    '',
    AUGMENT,
    'augmentation of all images that D judges: any of color,translation,cutout; empty for none',
  )
  ema_decay: float = key(0.0, FRACTION, 'of a moving average of G to sample from, in [0, 1); 0 keeps none')
  ema_half_life: int = key(
    0, NATURAL, 'images after which half of the moving average is new; instead of ema_decay; 0 for none'
  )
  accumulate: int = key(1, COUNT, 'parts of a batch that are worked on one after the other, to save memory')
  sync_norm: bool = key(True, FLAG, "batch norm by all devices' images; False by each device's own, faster")
  dtype: str = key(
    'float32',
    one_of('float32', 'bfloat16'),
    'of the computation: float32 | bfloat16 (parameters stay float32)',
  )
  matmul_precision: str = key(
    'default',
    one_of('default', 'high', 'highest'),
    'of float32 products: default (TF32 on a GPU, bfloat16 on a TPU) | high | highest (float32)',
  )
  steps_per_dispatch: int = key(
    0,
    NATURAL,
    'steps that are one program, at most; 0 takes 1 on a CPU, and elsewhere 10, or 100 of a small model',
    free=True,
  )
  fast_conv: bool = key(True, FLAG, 'convolutions with fast derivatives; False takes plain lax')
  deterministic: bool = key(False, FLAG, 'a GPU repeats every bit, more slowly; a CPU always does', free=True)
  on_collapse: str = key(
    'continue',
    one_of('continue', 'stop', 'rollback'),
    'when D has won, or scores have got much worse: continue (and say so) | stop | rollback (to the best '
    'checkpoint, with both learning rates halved, three times at most)',
    free=True,
  )

  @property
  def images_per_step(self) -> int:
    """Real images that one step learns from."""
    return self.batch_size * self.d_steps


@dataclass(frozen=True)
class Recurring:
  """How often something is done, in one of three units."""

  every_steps: int = key(0, NATURAL, 'train steps between two times', free=True)
  every_images: int = key(0, NATURAL, 'real images between two times, instead of every_steps', free=True)
  every_epochs: float = key(
    0.0, NOT_NEGATIVE, 'passes over the data between two times, e.g. 0.5, instead of every_steps', free=True
  )

  @property
  def happens(self) -> bool:
    """Returns whether it is done at all."""
    return bool(self.every_steps or self.every_images or self.every_epochs)

  def steps_between(self, images_per_step: int, num_images: int) -> int:
    """Returns how many steps there are between two times; 0 for never.

    Args:
      images_per_step: real images that one step learns from.
      num_images: of the data set.
    """
    images = self.every_images or self.every_epochs * num_images
    return max(1, round(images / images_per_step)) if images else self.every_steps


@dataclass(frozen=True)
class Log(Recurring):
  """Metrics."""

  every_steps: int = key(50, COUNT, 'steps between lines of metrics', free=True)
  tensorboard: bool = key(True, FLAG, 'also write TensorBoard events', free=True)
  report: bool = key(True, FLAG, 'also write report.html, a page to look at, when the run ends', free=True)
  tracker: str = key(
    'none',
    one_of('none', 'wandb', 'trackio'),
    'also tell a service: none | wandb (Weights & Biases) | trackio',
    free=True,
  )


@dataclass(frozen=True)
class Sample(Recurring):
  """Pictures during training."""

  every_steps: int = key(100, NATURAL, 'steps between pictures; 0 makes none, and no GIF', free=True)
  num: int = key(64, COUNT, 'images in a picture, always of the same latents', free=True)
  statistics: str = key(
    'stored',
    one_of('stored', 'population'),
    "G's batch norm in pictures, scores and samples: stored (running averages) | population (10,000 latents)",
    free=True,
  )


@dataclass(frozen=True)
class Eval(Recurring):
  """Scores during training."""

  every_steps: int = key(
    0, NATURAL, 'steps between scores of G, by which the best checkpoint is kept; 0 takes none', free=True
  )
  num: int = key(
    2000,
    HUNDREDS,
    'generated images that are scored, and real ones whose neighbourhoods are taken',
    free=True,
  )
  features: str = key(
    'classifier',
    one_of('classifier', 'inception'),
    "classifier (of the data's own classes) | inception (FID)",
    free=True,
  )
  weights: str = key('', PATH, "Inception's file; '' takes the one in the cache", free=True)


@dataclass(frozen=True)
class Checkpoint(Recurring):
  """Saved states."""

  every_steps: int = key(1000, COUNT, 'steps between checkpoints; the last step always has one', free=True)
  keep: int = key(3, COUNT, 'how many of the last checkpoints to keep', free=True)


@dataclass(frozen=True)
class Settings:
  """All settings of a run. The defaults are the shape of PyTorch's DCGAN example on 64x64 images."""

  seed: int = key(0, SEED, 'of everything random: initialisation, latents, order of images, dropout')
  data: Data = section(Data)
  latent: Latent = section(Latent)
  generator: Generator = section(Generator, leak=0.0)
  discriminator: Discriminator = section(
    Discriminator, widths=(64, 128, 256, 512), norm=(False, True, True, True)
  )
  generator_optimizer: Optimizer = section(Optimizer)
  discriminator_optimizer: Optimizer = section(Optimizer)
  train: Train = section(Train)
  log: Log = section(Log)
  sample: Sample = section(Sample)
  eval: Eval = section(Eval)
  checkpoint: Checkpoint = section(Checkpoint)
