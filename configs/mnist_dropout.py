"""28x28 MNIST with the findings of a resumable MNIST run of 5,000 steps, one key each.

  python main.py --config=configs/mnist_dropout.py

Run time: about 22 minutes on two CPU cores, less on a GPU.
Expect: a sample grid of the same latents every 100 steps, and a GIF of them at the end.

The findings are: normal rather than uniform z (latent.prior), dropout in D (discriminator.dropout), and batch
norm in some layers only (generator.norm, discriminator.norm). The networks of that run are unknown; these are
those of `mnist.py`.
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
  config = mnist.get_config()
  config.latent.prior = 'normal'
  config.generator.norm = (True, True, False)
  config.generator.dense_norm = 'channel'
  config.discriminator.norm = (False, True)
  config.discriminator.dropout = 0.3
  for network in (config.generator, config.discriminator):  # the paper's values
    network.leak = 0.2
    network.initializer = 'normal'
  config.generator.leak = 0.0
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.learning_rate = 2e-4
    optimizer.b1 = 0.5
    optimizer.epsilon = 1e-8

  config.train.batch_size = 128
  config.train.num_steps = 5000
  config.train.order = 'alternating'
  config.sample.every_steps = 100
  config.sample.num = 64
  config.eval.every_steps = 250
  config.checkpoint.every_steps = 500
  return config
