"""CIFAR-10 at its own 32x32.

  python main.py --config=configs/cifar10_32.py

The networks are those of a 32x32 CIFAR-10 DCGAN with latent arithmetic and IS/FID. Its description has no
training recipe, so the rest is the paper's.
Run time: 100 epochs of 391 steps are about four hours on two CPU cores; much less on a GPU.
Expect: possibly checkerboards, which --config.generator.upsample=filtered avoids.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:cifar10'
  config.data.image_size = (32, 32)
  config.generator.widths = (512, 256, 128)
  config.generator.strides = (2, 2, 2)
  config.generator.norm = (True, True, True)
  config.discriminator.widths = (64, 128, 256)
  config.discriminator.strides = (2, 2, 2)
  config.discriminator.norm = (False, True, True)
  config.train.batch_size = 128
  config.train.num_epochs = 100
  config.sample.every_steps = 391  # an epoch
  config.eval.every_steps = 782  # two epochs
  return config
