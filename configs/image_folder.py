"""Your own images at 64x64: a folder of PNG, JPEG, WebP, BMP or GIF files of any size, also in subfolders.

  python main.py --config=configs/image_folder.py --config.data.source=folder:PATH

Images are in colour; --config.data.channels=1 makes them gray, and 4 keeps their alpha. The strides must
divide --config.data.image_size. Arrays: --config.data.source=npy:PATH.
Run time: 20,000 steps need a GPU; there, add --config.train.dtype=bfloat16.
On two CPU cores add --config.data.image_size=32
--config.generator.widths='(128,64,32,16)' --config.discriminator.widths='(16,32,64,128)'
Expect: a few hundred images are enough to try it, a few thousand to get good results. With few, try
--config.train.augment=translation: it improved digits a lot, and made no difference for 1,000 photos.
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
