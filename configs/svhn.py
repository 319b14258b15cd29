"""32x32 street-view house numbers: the model and the recipe released by the authors of the paper.

  python main.py --config=configs/svhn.py

Run time: 200 epochs of 1,145 steps, which update G and D in turn, need a GPU;
there, add --config.train.dtype=bfloat16.
Expect: this config was not trained here. docs/exporting.md shows samples of the authors' weights.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:svhn_cropped'
  config.data.image_size = (32, 32)
  config.generator.widths = (256, 128, 64)
  config.generator.strides = (2, 2, 2)
  config.generator.norm = (True, True, True)
  config.generator.dense_norm = 'unit'
  config.discriminator.widths = (64, 128, 256)
  config.discriminator.strides = (2, 2, 2)
  config.discriminator.norm = (False, True, True)
  for network in (config.generator, config.discriminator):
    network.kernel_size = 5
    network.padding = 'symmetric'
    network.norm_epsilon = 1e-8
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.learning_rate = 5e-4
    optimizer.l2 = 1e-5
  config.train.batch_size = 64
  config.train.num_epochs = 200
  config.train.order = 'one_per_batch'
  config.sample.every_steps = 1000
  config.eval.every_steps = 5000
  config.checkpoint.every_steps = 5000
  return config
