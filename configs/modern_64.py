"""CIFAR-10 by class at 64x64, with the recipe of `image_folder`.

  python main.py --config=configs/modern_64.py
  python main.py --mode=sample --workdir=runs/modern_64 --class=all --num=10 --out=classes.png

The networks are those of `cifar10`, PyTorch's example, and class-conditional. Other data that have classes
need --config.data.source, and --config.data.classes if they are not ten; `image_folder` is for data without.
Run time: 20,000 steps. On a GPU, add --config.train.dtype=bfloat16. On two CPU cores, half the widths take
about 0.4 s per step:
--config.generator.widths='(256,128,64,32)' --config.discriminator.widths='(32,64,128,256)'
Expect: shapes and colours of each class after 2,000 steps; docs/results.md compares it to `cifar10`.
"""

from ml_collections import ConfigDict

from configs import image_folder


def get_config() -> ConfigDict:
  config = image_folder.get_config()
  config.data.source = 'tfds:cifar10'
  config.data.classes = 10
  config.data.held_out = 0.0  # CIFAR-10 has a test split.
  config.sample.num = 100
  return config
