"""Your own images at 64x64: a folder of PNG, JPEG, WebP, BMP or GIF files of any size, also in subfolders.

  python main.py --config=configs/image_folder.py --config.data.source=folder:PATH

Images are in colour; --config.data.channels=1 makes them gray, and 4 keeps their alpha. The strides must
divide --config.data.image_size. Arrays: --config.data.source=npy:PATH.
The recipe: a relativistic loss with gradient penalties instead of batch norm in D, as in `modern`, twice its
learning rates, a filter after G's transposed convolutions, and kernels of D that begin large enough for
layers of any width.
Run time: 20,000 steps. On a GPU, add --config.train.dtype=bfloat16. On two CPU cores, half the widths take
about 0.4 s per step:
--config.generator.widths='(256,128,64,32)' --config.discriminator.widths='(32,64,128,256)'
Expect: shapes and colours after 500 steps on emoji; docs/own_images.md says more.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'folder:'
  config.data.flip = True
  config.data.held_out = 0.05
  config.generator.upsample = 'filtered'
  config.discriminator.norm = (False, False, False, False)  # Gradient penalties are per image.
  config.discriminator.initializer = 'he'
  config.train.loss = 'relativistic'
  config.train.r1 = 1.0
  config.train.r2 = 1.0
  config.train.batch_size = 64
  config.train.num_steps = 20000
  config.train.ema_half_life = 20_000
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.learning_rate = 4e-4
    optimizer.b1 = 0.0
    optimizer.b2 = 0.99
  config.sample.every_steps = 250
  config.sample.statistics = 'population'
  config.eval.every_steps = 500
  return config
