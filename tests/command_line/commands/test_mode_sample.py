"""Sampling from the command line."""

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def test_sample_grid_array_and_folder(trained, tmp_path, printed_by):
  folder, _ = trained
  base = ['--mode=sample', f'--workdir={folder}', '--seed=3', '--num=70']
  assert '70 images of step 24' in printed_by(*base, f'--out={tmp_path}/x.npz')
  made = np.load(tmp_path / 'x.npz')['x']
  assert made.shape == (70, 8, 8, 1) and made.dtype == np.uint8 and made.std() > 1
  printed_by(*base, f'--out={tmp_path}/pictures')
  pictures = sorted((tmp_path / 'pictures').iterdir())
  assert len(pictures) == 70
  np.testing.assert_array_equal(np.asarray(Image.open(pictures[69])), made[69, :, :, 0])
  printed_by(*base[:-1], '--num=5', f'--out={tmp_path}/grid.png', '--checkpoint=16')
  with Image.open(tmp_path / 'grid.png') as grid:
    assert grid.size == (16 * (3 * 10 + 2), 16 * (2 * 10 + 2))  # enlarged to 512 pixels
