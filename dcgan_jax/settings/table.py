"""The table of all keys: the default, the rule and one line of help of each.

To add a key, add a line here and use it; configs, checks, config.json and `--mode=train --help` follow. Runs
older than a key get its default, so the default must be what they were trained with.
"""

from dataclasses import dataclass

from dcgan_jax.settings.rules import (
  AUGMENT,
  BELOW_HALF,
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
  """The training images and their format."""

  source: str = key(
    'digits',
    SOURCE,
    'digits (bundled with scikit-learn) | tfds:NAME | folder:PATH | npy:PATH (.npy or .npz of [N, H, W] or '
    '[N, H, W, C]) | stacked:SOURCE (triples of gray images as RGB)',
  )
  split: str = key(
    'train', SPLIT, 'split of a tfds data set, as tfds writes it: train, test, train[:10%] ...'
  )
  image_size: tuple[int, ...] = key(
    (64, 64), IMAGE_SIZE, 'height and width in pixels; one number for a square'
  )
  channels: int = key(
    3, CHANNELS, '1 gray | 3 RGB | 4 RGBA, G generates alpha too | with npy:, as many as the array has'
  )
  dtype: str = key('uint8', one_of(*DTYPES), 'dtype of an npy: array: ' + ' | '.join(DTYPES))
  value_range: tuple[float, ...] = key(
    (), VALUE_RANGE, 'lowest and highest value of an npy: array; () for the full range of an integer dtype'
  )
  fit: str = key(
    'crop', one_of('crop', 'squash'), 'crop (largest centred part of the right shape) | squash (the whole)'
  )
  background: tuple[int, int, int] = key(
    (255, 255, 255), COLOUR, 'RGB in 0..255 behind transparent pixels, with 1 or 3 channels'
  )
  classes: int = key(0, CLASSES, 'number of classes to condition on, as many as the data has; 0 for none')
  flip: bool = key(False, FLAG, 'mirror each image horizontally with probability 1/2')
  held_out: float = key(
    0.0, BELOW_HALF, 'share of the images not to train on, at most 500, to tell whether others are memorised'
  )
  memory_limit: int = key(
    4096, NATURAL, 'MiB per device for the decoded data set; a larger one is read from disk', free=True
  )
  workers: int = key(
    0, NATURAL, 'worker processes to decode images that the disk has no room for; 0 for threads', free=True
  )

  @property
  def size(self) -> tuple[int, int]:
    """Height and width in pixels, also if `image_size` is one number."""
    return (self.image_size[0], self.image_size[-1])

  @property
  def is_array(self) -> bool:
    """Whether the images are an array rather than 8-bit pictures."""
    return self.source.startswith('npy:')

  @property
  def transparent(self) -> bool:
    """Whether the images are pictures with an alpha channel."""
    return self.channels == 4 and not self.is_array


@dataclass(frozen=True)
class Latent:
  """The generator's input."""

  size: int = key(100, COUNT, 'dimension of z')
  prior: str = key('normal', one_of('normal', 'uniform'), 'normal (N(0, 1)) | uniform (U[-1, 1], the paper)')


@dataclass(frozen=True)
class Network:
  """Keys of both networks."""

  widths: tuple[int, ...] = key(
    (512, 256, 128, 64), COUNTS, 'channels of each hidden layer, from input to output'
  )
  strides: tuple[int, ...] = key((2, 2, 2, 2), COUNTS, 'stride of each convolution, from input to output')
  norm: tuple[bool, ...] = key((True,) * 4, FLAGS, 'batch norm after each hidden layer')
  dense_widths: tuple[int, ...] = key(
    (), UNITS, 'units of additional dense layers, next to z in G and to the logit in D; () for none'
  )
  kernel_size: int = key(4, COUNT, 'kernel size of all convolutions, in pixels')
  padding: str = key(
    'same', one_of('same', 'symmetric'), "same (TensorFlow, PyTorch's k=4) | symmetric (Theano, the authors)"
  )
  use_bias: bool = key(False, FLAG, 'biases in convolutions and dense layers')
  norm_epsilon: float = key(
    1e-5, POSITIVE, 'epsilon of batch norm: 1e-5 PyTorch, 1e-3 Keras, 1e-8 the authors'
  )
  norm_affine: bool = key(True, FLAG, 'scale and bias in each batch norm; the authors have none for MNIST')
  norm_momentum: float = key(
    0.9, FRACTION, 'decay of the running statistics, in [0, 1): 0.9 PyTorch, 0.99 Keras'
  )
  leak: float = key(0.2, FRACTION, 'negative slope of the leaky ReLU, in [0, 1); 0 for a plain ReLU')
  dropout: float = key(0.0, FRACTION, 'dropout rate after each hidden layer, in [0, 1)')
  initializer: str = key(
    'normal',
    one_of('normal', 'glorot', 'he'),
    'normal (N(0, 0.02), the paper) | glorot (Glorot uniform, Keras) | he (N(0, 2 / fan-in), for any width)',
  )


@dataclass(frozen=True)
class Generator(Network):
  """Keys of the generator."""

  dense_norm: str = key(
    'channel',
    one_of('channel', 'unit'),
    'norm and bias of the first layer, per channel (PyTorch) | unit (Keras)',
  )
  upsample: str = key(
    'transposed',
    one_of('transposed', 'filtered', 'bilinear'),
    'transposed (convolution) | filtered (transposed + [1, 3, 3, 1], no checkerboard) | bilinear (resize + '
    'convolution, slower)',
  )
  condition: str = key(
    'concat',
    one_of('concat', 'embedding', 'norm'),
    'class conditioning: concat (to the input of each layer, the authors) | embedding (appended to z) | '
    'norm (scale and bias of each batch norm)',
  )


@dataclass(frozen=True)
class Discriminator(Network):
  """Keys of the discriminator."""

  condition: str = key(
    'projection',
    one_of('projection', 'concat'),
    'class conditioning: projection (of the last features) | concat (to the input of each layer)',
  )
  packing: int = key(1, COUNT, 'images judged together, stacked along the channels (PacGAN)')
  spectral_norm: bool = key(False, FLAG, 'divide each kernel by its largest singular value')


@dataclass(frozen=True)
class Optimizer:
  """Adam, for one network."""

  learning_rate: float = key(2e-4, POSITIVE, 'learning rate, > 0')
  b1: float = key(0.5, FRACTION, "decay of the gradient's average, in [0, 1)")
  b2: float = key(0.999, FRACTION, "decay of the squared gradient's average, in [0, 1)")
  epsilon: float = key(1e-8, POSITIVE, 'epsilon of Adam, > 0: 1e-8 PyTorch, 1e-7 Keras')
  l2: float = key(
    0.0, NOT_NEGATIVE, 'factor of the parameters added to the gradients, >= 0: 1e-5 the authors'
  )
  decay_after: int = key(0, NATURAL, 'train steps at a constant rate before the decay')
  decay_steps: int = key(0, NATURAL, 'train steps of the decay; 0 for a constant rate')
  decay: str = key('linear', one_of('linear', 'cosine'), 'shape of the decay: linear | cosine')
  final_rate: float = key(0.0, NOT_NEGATIVE, 'learning rate after the decay, >= 0')


@dataclass(frozen=True)
class Train:
  """How the networks are trained."""

  batch_size: int = key(128, COUNT, 'images per batch, over all devices')
  num_steps: int = key(0, NATURAL, 'train steps; 0 to use num_epochs', free=True)
  num_epochs: int = key(25, NATURAL, 'passes over the data, if num_steps is 0', free=True)
  order: str = key(
    'alternating',
    one_of('alternating', 'simultaneous', 'one_per_batch'),
    "alternating (D, then G through the new D) | simultaneous (both from one pass, TensorFlow's tutorial)"
    ' | one_per_batch (G and D in turn, a batch each, the authors)',
  )
  d_steps: int = key(1, COUNT, 'updates of D per update of G, a batch each; > 1 needs alternating')
  fresh_z: bool = key(False, FLAG, 'update G on new latents rather than on those that D just saw')
  loss: str = key(
    'non_saturating',
    one_of('non_saturating', 'minimax', 'least_squares', 'hinge', 'wasserstein', 'relativistic'),
    'non_saturating | minimax | least_squares | hinge | wasserstein | relativistic',
  )
  real_label: float = key(
    1.0, REAL_LABEL, 'target of D for real images, in (0.5, 1]; 0.9 is one-sided label smoothing'
  )
  r1: float = key(0.0, NOT_NEGATIVE, 'gamma of the gradient penalty on real images, e.g. 1; 0 for none')
  r2: float = key(0.0, NOT_NEGATIVE, 'gamma of the gradient penalty on fakes, e.g. 1; 0 for none')
  gradient_penalty: float = key(
    0.0,
    NOT_NEGATIVE,
    'factor of the WGAN-GP gradient penalty between real images and fakes, e.g. 10; 0 for none',
  )
  augment: str = key(
    '',
    AUGMENT,
    'augmentation of all images that D sees: any of color,translation,cutout; empty for none',
  )
  ema_decay: float = key(
    0.0, FRACTION, 'decay of the moving average of G to sample from, in [0, 1); 0 for none'
  )
  ema_half_life: int = key(
    0, NATURAL, 'half-life of the moving average in images, instead of ema_decay; 0 for none'
  )
  freeze: int = key(
    0, NATURAL, 'layers of D nearest the image that keep the parameters of --init_from (FreezeD); 0 for none'
  )
  accumulate: int = key(
    1, COUNT, 'parts of a batch whose gradients are accumulated one by one, to save memory'
  )
  sync_norm: bool = key(True, FLAG, 'batch statistics over all devices; False for per device, faster')
  dtype: str = key(
    'float32',
    one_of('float32', 'bfloat16'),
    'dtype of the computation: float32 | bfloat16 (parameters stay float32)',
  )
  matmul_precision: str = key(
    'default',
    one_of('default', 'high', 'highest'),
    'precision of float32 products: default (TF32 on a GPU, bfloat16 on a TPU) | high | highest (float32)',
  )
  steps_per_dispatch: int = key(
    0,
    NATURAL,
    'maximum steps per call of the program; 0 for 1 on a CPU, elsewhere 10, or 100 for a small model',
    free=True,
  )
  fast_conv: bool = key(True, FLAG, 'convolutions with fast derivatives; False for plain lax')
  deterministic: bool = key(
    False, FLAG, 'bitwise reproducible on a GPU, more slowly; a CPU always is', free=True
  )
  on_collapse: str = key(
    'continue',
    one_of('continue', 'stop', retired=('rollback',)),
    'when D has won, or scores have got much worse: continue (and say so) | stop',
    free=True,
  )

  @property
  def images_per_step(self) -> int:
    """Number of real images per step."""
    return self.batch_size * self.d_steps


@dataclass(frozen=True)
class Recurring:
  """An interval in one of three units."""

  every_steps: int = key(0, NATURAL, 'interval in train steps', free=True)
  every_images: int = key(0, NATURAL, 'interval in real images, instead of every_steps', free=True)
  every_epochs: float = key(
    0.0, NOT_NEGATIVE, 'interval in epochs, e.g. 0.5, instead of every_steps', free=True
  )

  @property
  def happens(self) -> bool:
    """Whether any interval is set."""
    return bool(self.every_steps or self.every_images or self.every_epochs)

  def steps_between(self, images_per_step: int, num_images: int) -> int:
    """Returns the interval in steps; 0 for never.

    Args:
      images_per_step: Number of real images per step.
      num_images: Size of the data set.
    """
    images = self.every_images or self.every_epochs * num_images
    return max(1, round(images / images_per_step)) if images else self.every_steps


@dataclass(frozen=True)
class Log(Recurring):
  """Logging of metrics."""

  every_steps: int = key(50, COUNT, 'steps between rows of metrics', free=True)
  tensorboard: bool = key(True, FLAG, 'also write TensorBoard events', free=True)
  report: bool = key(True, FLAG, 'also write report.html when the run ends', free=True)
  tracker: str = key(
    'none',
    one_of('none', 'wandb', 'trackio'),
    'experiment tracker: none | wandb (Weights & Biases) | trackio',
    free=True,
  )


@dataclass(frozen=True)
class Sample(Recurring):
  """Sample grids during training."""

  every_steps: int = key(100, NATURAL, 'steps between sample grids; 0 for none, and no GIF', free=True)
  num: int = key(64, COUNT, 'images per grid, always of the same latents', free=True)
  statistics: str = key(
    'stored',
    one_of('stored', 'population'),
    'batch-norm statistics of G for grids, scores and samples: stored (running averages) | population '
    '(measured over 10,000 latents)',
    free=True,
  )


@dataclass(frozen=True)
class Eval(Recurring):
  """Scores during training."""

  every_steps: int = key(
    0, NATURAL, 'steps between scores of G, which select the best checkpoint; 0 for none', free=True
  )
  num: int = key(
    2000,
    HUNDREDS,
    'generated images to score, and real images for the neighbourhood scores',
    free=True,
  )
  features: str = key(
    'classifier',
    one_of('classifier', 'inception'),
    'feature extractor: classifier (of the classes of the data, else of rotations) | inception (FID)',
    free=True,
  )
  weights: str = key('', PATH, 'path of the Inception weights; empty for the file in the cache', free=True)


@dataclass(frozen=True)
class Checkpoint(Recurring):
  """Checkpoints during training."""

  every_steps: int = key(1000, COUNT, 'steps between checkpoints; the last step always has one', free=True)
  keep: int = key(3, COUNT, 'number of recent checkpoints to keep', free=True)


@dataclass(frozen=True)
class Settings:
  """All settings of a run. The defaults follow PyTorch's DCGAN example on 64x64 images."""

  seed: int = key(0, SEED, 'seed of all randomness: initialisation, latents, image order, dropout')
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
