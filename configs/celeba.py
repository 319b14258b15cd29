"""64x64 faces with the paper's largest networks (paper, figure 1; the authors' code for faces).

  python main.py --config=configs/celeba.py
  python main.py --config=configs/celeba.py --config.data.source=tfds:lsun/bedroom --workdir=runs/bedrooms

The second line trains on the paper's LSUN bedrooms. If tfds reports that the download quota of CelebA is
exceeded, put the images into a folder and add --config.data.source=folder:PATH.
Run time: 25 epochs of 1,272 steps on CelebA need a GPU; there, add --config.train.dtype=bfloat16.
Expect: this config was not trained here.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.data.source = 'tfds:celeb_a'
  config.latent.prior = 'uniform'
  config.generator.widths = (1024, 512, 256, 128)
  config.generator.dense_norm = 'unit'
  config.discriminator.widths = (128, 256, 512, 1024)
  for network in (config.generator, config.discriminator):
    network.kernel_size = 5
    network.padding = 'symmetric'
    network.norm_epsilon = 1e-8
  for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
    optimizer.l2 = 1e-5
  config.train.batch_size = 128
  config.train.num_epochs = 25
  config.train.order = 'one_per_batch'
  config.sample.every_steps = 500
  return config
