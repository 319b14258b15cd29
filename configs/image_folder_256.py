"""Your own images at 256x256: `image_folder` with two more layers in each network.

  python main.py --config=configs/image_folder_256.py --config.data.source=folder:PATH

Run time: 20,000 steps need a GPU; there, add --config.train.dtype=bfloat16.
The same command with --mode=summary prints the memory of a step, which --config.train.accumulate divides.
Expect: at a quarter of the widths, coloured shapes after 150 steps on emoji, see docs/own_images.md. The full
widths were not trained here, and plain DCGANs are not sharp at this size.
"""

from ml_collections import ConfigDict

from configs import image_folder


def get_config() -> ConfigDict:
  config = image_folder.get_config()
  config.data.image_size = (256, 256)
  config.generator.widths = (1024, 512, 256, 128, 64, 32)
  config.discriminator.widths = (32, 64, 128, 256, 512, 1024)
  config.generator.strides = config.discriminator.strides = (2,) * 6
  config.generator.norm = (True,) * 6
  config.discriminator.norm = (False,) * 6
  return config
