"""28x28 MNIST with a digit on request: the conditional model of the paper's authors.

  python main.py --config=configs/mnist_conditional.py
  python main.py --mode=sample --workdir=runs/mnist_conditional --class=all --num=10

In both networks the class is concatenated to the input of every layer. Differences from the authors' code:
G ends in tanh and images are in [-1, 1], as everywhere in this project, not in a sigmoid and [0, 1], which is
the same up to a factor of 2. The 50,000 training images, 391 updates per epoch, are others, because tfds has
another order. The learning rate decays linearly to 0 over the last 100 of 200 epochs in every step, not once
per epoch. The last batch of an epoch is filled up from the next epoch; theirs has 80 images.
Run time: 78,200 steps. On two CPU cores, --config.train.num_steps=7820 are 20 epochs.
Expect: digits of the requested class from the first epochs on.
"""

from ml_collections import ConfigDict

from configs import base

EPOCH = 391  # steps of 128 images per 50,000


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:mnist'
  config.data.split = 'train[:50000]'
  config.data.image_size = (28, 28)
  config.data.channels = 1
  config.data.classes = 10
  config.latent.prior = 'uniform'

  config.generator.widths = (128, 64)
  config.generator.strides = (2, 2)
  config.generator.norm = (True, True)
  config.generator.dense_widths = (1024,)
  config.generator.dense_norm = 'unit'
  config.discriminator.widths = (64, 128)
  config.discriminator.strides = (2, 2)
  config.discriminator.norm = (False, True)
  config.discriminator.dense_widths = (1024,)
  for network in (config.generator, config.discriminator):
    network.condition = 'concat'
    network.kernel_size = 5
    network.padding = 'symmetric'
    network.norm_epsilon = 1e-8
    network.norm_affine = False
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.l2 = 2.5e-5
    optimizer.decay_after = 100 * EPOCH
    optimizer.decay_steps = 100 * EPOCH

  config.train.batch_size = 128
  config.train.num_steps = 200 * EPOCH
  config.train.order = 'one_per_batch'
  config.sample.num = 80
  config.sample.every_steps = EPOCH
  config.eval.every_steps = 2 * EPOCH
  config.checkpoint.every_steps = 2 * EPOCH
  return config
