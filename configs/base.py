"""Every key with its default: the shape of PyTorch's DCGAN example on 64x64 images.

The other configs are this one and their differences. What each key means, its unit and its choices are in
`dcgan_jax/settings/table.py`, which `python main.py --mode=train --help` prints. Any key can be changed on
the command line: --config.train.batch_size=64
"""

from ml_collections import ConfigDict

from dcgan_jax import settings


def get_config() -> ConfigDict:
  """Returns a config of all keys with their defaults."""
  return settings.default_config()
