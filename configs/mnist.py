"""28x28 MNIST with the recipe of TensorFlow's DCGAN tutorial.

  python main.py --config=configs/mnist.py

Run time: 100 epochs of 235 steps at about 0.5 s per step on two CPU cores, three and a half hours; much less
on a GPU.
Expect: digits take shape from the tenth epoch on. The run writes a sample grid every epoch, a checkpoint
every 15 epochs and a GIF at the end.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:mnist'
  config.data.image_size = (28, 28)
  config.data.channels = 1

  config.generator.widths = (256, 128, 64)
  config.generator.strides = (1, 2, 2)
  config.generator.norm = (True, True, True)
  config.generator.dense_norm = 'unit'
  config.discriminator.widths = (64, 128)
  config.discriminator.strides = (2, 2)
  config.discriminator.norm = (False, False)
  config.discriminator.use_bias = True
  config.discriminator.dropout = 0.3
  for network in (config.generator, config.discriminator):  # Keras' defaults
    network.kernel_size = 5
    network.leak = 0.3
    network.norm_epsilon = 1e-3
    network.norm_momentum = 0.99
    network.initializer = 'glorot'
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.learning_rate = 1e-4
    optimizer.b1 = 0.9
    optimizer.epsilon = 1e-7

  config.train.batch_size = 256
  config.train.num_epochs = 100
  config.train.order = 'simultaneous'
  config.sample.num = 16
  config.sample.every_steps = 235  # an epoch
  config.eval.every_steps = 470  # two epochs
  config.checkpoint.every_steps = 3525  # 15 epochs
  return config
