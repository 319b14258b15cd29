"""Your own images at 128x128: `image_folder` with one more layer in each network.

  python main.py --config=configs/image_folder_128.py --config.data.source=folder:PATH

Run time: 20,000 steps need a GPU; there, add --config.train.dtype=bfloat16.
The same command with --mode=summary prints the memory of a step; --config.train.accumulate=2 halves most of
it.
Expect: at a quarter of the widths, coloured shapes after 300 steps on emoji, see docs/own_images.md. The full
widths were not trained here.
"""

from ml_collections import ConfigDict

from configs import image_folder


def get_config() -> ConfigDict:
  config = image_folder.get_config()
  config.data.image_size = (128, 128)
  config.generator.widths = (1024, 512, 256, 128, 64)
  config.discriminator.widths = (64, 128, 256, 512, 1024)
  config.generator.strides = config.discriminator.strides = (2,) * 5
  config.generator.norm = (True,) * 5
  config.discriminator.norm = (False,) * 5
  return config
