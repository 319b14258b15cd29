"""64x64 Fashion-MNIST with wide networks, biases, and D at half of G's learning rate.

  python main.py --config=configs/fashion_mnist.py

The recipe is that of a 64x64 Fashion-MNIST DCGAN in PyTorch.
Run time: 24 epochs of 938 steps need a GPU; there, add --config.train.dtype=bfloat16.
On two CPU cores add --config.generator.widths='(256,128,64,32)'
--config.discriminator.widths='(32,64,128,256)', which is 16 times less work and takes 0.3 s per step.
Expect: shirts, shoes and trousers appear within the first epoch.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:fashion_mnist'
  config.data.channels = 1
  config.generator.widths = (1024, 512, 256, 128)
  config.discriminator.widths = (128, 256, 512, 1024)
  config.generator.use_bias = True
  config.discriminator.use_bias = True
  config.discriminator_optimizer.learning_rate = 1e-4
  config.train.batch_size = 64
  config.train.num_epochs = 24
  config.train.fresh_z = True
  config.sample.num = 25
  config.sample.every_steps = 469  # half an epoch
  config.eval.every_steps = 469
  config.checkpoint.every_steps = 938  # an epoch
  return config
