"""16x16 handwritten digits bundled with scikit-learn: a first run without a download.

  python main.py --config=configs/digits.py

Run time: about 65 seconds on two CPU cores.
Expect: digits appear within a few hundred steps, and nearly all are legible at the end; see samples.gif.
Classifier distance 27.6, coverage 0.76 by --mode=evaluate.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'digits'
  config.data.image_size = (16, 16)
  config.data.channels = 1
  config.generator.widths = (128, 64)
  config.generator.strides = (2, 2)
  config.generator.norm = (True, True)
  config.discriminator.widths = (64, 128)
  config.discriminator.strides = (2, 2)
  config.discriminator.norm = (False, True)
  config.discriminator_optimizer.learning_rate = 1e-4  # at G's rate D would memorise the 1,797 images
  config.train.batch_size = 64
  config.train.num_steps = 2900
  config.train.ema_decay = 0.99
  config.train.augment = 'translation'  # without it both networks memorise the images
  config.log.every_steps = 50
  config.sample.every_steps = 100
  return config
