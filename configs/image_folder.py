"""Your own images at 64x64: any folder of PNG, JPEG, WebP, BMP or GIF files, of any size, in subfolders too.

  python main.py --config=configs/image_folder.py --config.data.source=folder:PATH

The images are in colour. --config.data.channels=1 makes them gray, and 4 keeps their transparency. Any
--config.data.image_size works that the strides divide. Arrays: --config.data.source=npy:PATH.
Run time: 20,000 steps need a GPU; there, add --config.train.dtype=bfloat16.
On two CPU cores add --config.data.image_size=32
--config.generator.widths='(128,64,32,16)' --config.discriminator.widths='(16,32,64,128)'
Expect: a few hundred images show that it works; some thousands are needed to learn from. With few, try
--config.train.augment=translation: it made digits much better, and 1,000 photos neither better nor worse.
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
