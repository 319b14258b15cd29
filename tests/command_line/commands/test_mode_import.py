"""Imports from the command line."""

import numpy as np
import pytest
from PIL import Image

import dcgan_jax
from configs import cifar10
from dcgan_jax.records import checkpoints


@pytest.mark.slow
def test_the_command_and_what_comes_after(tmp_path, printed_by):
  """Imports without a config, and makes the images of the run's picture again from Python."""
  torch = pytest.importorskip('torch')
  from benchmarks import torch_dcgan

  config = cifar10.get_config()
  config.data.image_size, config.latent.size = (16, 16), 10
  config.generator.update({'widths': (8, 4), 'strides': (2, 2), 'norm': (True, True)})
  config.discriminator.update({'widths': (4, 8), 'strides': (2, 2), 'norm': (False, True)})
  for name, network in (('g', torch_dcgan.generator(config)), ('d', torch_dcgan.discriminator(config))):
    torch.save(network.state_dict(), tmp_path / name)
  folder = tmp_path / 'run'
  printed = printed_by(
    '--mode=import', '--format=pytorch', f'--workdir={folder}', f'--source={tmp_path / "d"},{tmp_path / "g"}'
  )
  assert 'images 16x16x3, latents of 10 numbers' in printed
  assert 'batch-norm statistics as stored there' in printed and printed.count('\n') == 4
  assert checkpoints.steps(folder / 'checkpoints') == [0]
  sheet = dcgan_jax.load(folder).sheet(config.sample.num, config.seed)
  with Image.open(folder / 'samples' / 'step_00000000.png') as picture:
    np.testing.assert_array_equal(np.asarray(picture), sheet)
