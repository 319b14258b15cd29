"""Every setting, once, with its unit and choices. The other configs are this one and their differences.

The values here are the most common ones: the shape of PyTorch's DCGAN example on 64x64 images.
Any key can be changed on the command line: --config.train.batch_size=64
"""

from ml_collections import ConfigDict


def network(widths: tuple[int, ...], strides: tuple[int, ...], norm: tuple[bool, ...]) -> ConfigDict:
  """The settings that generator and discriminator share."""
  config = ConfigDict()
  config.widths = widths  # channels of each hidden layer, from input to output
  config.strides = strides  # pixels, of each convolution, from input to output
  config.norm = norm  # for each hidden layer, whether batch norm follows it
  config.kernel_size = 4  # pixels, of every convolution
  config.padding = 'same'  # same (TensorFlow, PyTorch's k=4) | symmetric (Theano: the paper's authors)
  config.use_bias = False  # whether convolutions and dense layers have a bias
  config.norm_epsilon = 1e-5  # added to the variance: 1e-5 PyTorch, 1e-3 Keras, 1e-8 the authors
  config.norm_momentum = 0.9  # of the running statistics, in [0, 1): 0.9 PyTorch, 0.99 Keras
  config.leak = 0.2  # slope of the leaky ReLU below zero, in [0, 1); 0 is the plain ReLU
  config.dropout = 0.0  # rate after each hidden layer, in [0, 1)
  config.initializer = 'normal'  # normal (N(0, 0.02), the paper) | glorot (Glorot uniform, Keras)
  return config


def optimizer() -> ConfigDict:
  """Adam's settings, for one network."""
  config = ConfigDict()
  config.learning_rate = 2e-4  # step size, > 0
  config.b1 = 0.5  # decay of the gradient's average, in [0, 1)
  config.b2 = 0.999  # decay of the squared gradient's average, in [0, 1)
  config.epsilon = 1e-8  # added to its root, > 0: 1e-8 PyTorch, 1e-7 Keras
  config.l2 = 0.0  # times the parameters is added to the gradients, >= 0: 1e-5 the authors
  config.decay_after = 0  # steps with the constant rate before it falls
  config.decay_steps = 0  # steps over which it falls linearly to 0; 0 keeps it constant
  return config


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.seed = 0  # of everything random: initialisation, latents, order of images, dropout; >= 0

  config.data = ConfigDict()
  config.data.source = 'digits'  # digits (ship with scikit-learn) | tfds:NAME | folder:PATH
  config.data.split = 'train'  # of a tfds data set, in its notation: train, test, train[:10%] ...
  config.data.image_size = (64, 64)  # pixels: height, width; one number for a square
  config.data.channels = 3  # of the images: 1 gray | 3 RGB
  config.data.fit = 'crop'  # crop (largest centred part of the right shape) | squash (the whole image)
  config.data.background = (255, 255, 255)  # RGB, 0..255, that transparent pixels are laid on
  config.data.flip = False  # mirror each image left to right with probability 1/2
  config.data.memory_limit = 4096  # MiB of each device; a data set that takes more decoded is streamed
  config.data.workers = 0  # processes that read a streamed data set; 0 reads in threads

  config.latent = ConfigDict()
  config.latent.size = 100  # numbers in each z
  config.latent.prior = 'normal'  # normal (N(0, 1)) | uniform (U[-1, 1], the paper)

  config.generator = network(widths=(512, 256, 128, 64), strides=(2, 2, 2, 2), norm=(True,) * 4)
  config.generator.leak = 0.0  # plain ReLU
  config.generator.dense_norm = 'channel'  # first layer's norm and bias: channel (PyTorch) | unit (Keras)
  config.generator.upsample = 'transposed'  # transposed (convolution) | bilinear (resize + convolution)

  config.discriminator = network(
    widths=(64, 128, 256, 512), strides=(2, 2, 2, 2), norm=(False, True, True, True)
  )

  config.generator_optimizer = optimizer()
  config.discriminator_optimizer = optimizer()

  config.train = ConfigDict()
  config.train.batch_size = 128  # images, over all devices together
  config.train.num_steps = 0  # train steps; 0 takes num_epochs
  config.train.num_epochs = 25  # passes over the data; used when num_steps is 0
  # alternating (D learns, then G through it) | simultaneous (both from the same pass, TF's tutorial)
  # | one_per_batch (a batch trains G or D in turn, the paper's authors)
  config.train.order = 'alternating'
  config.train.d_steps = 1  # D's updates for each of G's, each on its own batch; > 1 needs alternating
  config.train.fresh_z = False  # G learns from a new z rather than from the fakes that D just saw
  config.train.loss = 'non_saturating'  # non_saturating | minimax | least_squares | hinge | wasserstein
  config.train.real_label = 1.0  # D's target for real images, in (0.5, 1]; 0.9 is one-sided smoothing
  config.train.ema_decay = 0.0  # of a moving average of G to sample from, in [0, 1); 0 keeps none
  config.train.accumulate = 1  # parts of a batch that are worked on one after the other, to save memory
  config.train.sync_norm = True  # batch norm by all devices' images; False by each device's own, faster
  config.train.dtype = 'float32'  # of the computation: float32 | bfloat16 (parameters stay float32)
  config.train.steps_per_dispatch = 0  # steps that are one program, at most; 0 takes 10 for small models
  config.train.fast_conv = True  # convolutions with fast derivatives; False takes plain lax

  config.log = ConfigDict()
  config.log.every_steps = 50  # steps between lines of metrics
  config.log.tensorboard = True  # also write TensorBoard events

  config.sample = ConfigDict()
  config.sample.every_steps = 100  # steps between pictures; 0 makes none, and no GIF
  config.sample.num = 64  # images in a picture, always of the same latents

  config.eval = ConfigDict()
  config.eval.every_steps = 0  # steps between scores of G, by which the best checkpoint is kept; 0 takes none
  config.eval.num = 2000  # generated images that are scored, and real ones whose neighbourhoods are taken
  config.eval.features = 'classifier'  # classifier (of the data's own classes) | inception (FID)
  config.eval.weights = ''  # Inception's file; '' takes the one in the cache

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 1000  # steps between checkpoints; the last step always has one
  config.checkpoint.keep = 3  # how many of the last checkpoints to keep
  return config
