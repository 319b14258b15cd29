"""CIFAR-10 resized to 64x64, with the networks and the recipe of PyTorch's DCGAN example.

  python main.py --config=configs/cifar10.py

Run time: 25 epochs of 391 steps are about four hours on two CPU cores; much less on a GPU,
even less with --config.train.dtype=bfloat16.
Expect: coloured blobs that resemble animals and vehicles; DCGAN samples of CIFAR-10 are not sharp.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:cifar10'
  config.train.batch_size = 128
  config.train.num_epochs = 25
  config.sample.num = 128  # as many as the example's fixed noise
  config.sample.every_steps = 100
  config.eval.every_steps = 1000
  return config
