"""Your own images: any folder of PNG, JPEG, WebP, BMP or GIF files, of any sizes, also in subfolders.

  python main.py --config=configs/image_folder.py --config.data.source=folder:PATH

64x64 in colour; --config.data.image_size=32 and --config.data.channels=1 change that: any size that the
strides divide. A few hundred images will show that it works, some thousands are needed to learn
from. A GPU's work; on two CPU cores add --config.data.image_size=32
--config.generator.widths='(128,64,32,16)' --config.discriminator.widths='(16,32,64,128)'
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'folder:'
  config.data.flip = True
  config.train.batch_size = 64
  config.train.num_steps = 20000
  config.train.ema_decay = 0.999
  config.sample.every_steps = 200
  return config
