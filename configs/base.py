"""All keys at their defaults, which follow PyTorch's DCGAN example on 64x64 images.

The other configs modify this one. `dcgan_jax/settings/table.py` documents every key; `--mode=train --help`
prints it. Any key can be overridden on the command line: --config.train.batch_size=64
"""

from ml_collections import ConfigDict

from dcgan_jax import settings


def get_config() -> ConfigDict:
  """Returns a config with all keys at their defaults."""
  return settings.default_config()
