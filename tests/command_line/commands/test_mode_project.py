"""Projections from the command line."""

import json

import numpy as np
import pytest
from conftest import start, succeed
from PIL import Image


@pytest.mark.slow
def test_from_pictures_to_latents_and_back(trained, tmp_path):
  folder, _ = trained
  succeed('--mode=sample', f'--workdir={folder}', '--num=5', '--seed=4', f'--out={tmp_path}/pictures')
  out = tmp_path / 'found'
  flags = [f'--images={tmp_path}/pictures', '--steps=60', '--starts=2', f'--out={out}']
  printed = succeed('--mode=project', f'--workdir={folder}', *flags)
  assert printed.startswith('pixel error') and f'5 images by step 24 of {folder}' in printed
  report = json.loads((out / 'project.json').read_text())
  assert report['images'][4]['file'] == f'{tmp_path}/pictures/00004.png'
  assert report['mean']['pixel_error'] < 5
  latents = f'--latents={out}/z.npy'
  succeed('--mode=sample', f'--workdir={folder}', latents, f'--out={tmp_path}/again')
  for i in range(5):
    a, b = (np.asarray(Image.open(tmp_path / name / f'0000{i}.png')) for name in ('pictures', 'again'))
    error = np.abs(a.astype(float) - b).mean()
    assert abs(error - report['images'][i]['pixel_error']) < 0.02
  printed = succeed(
    '--mode=walk', f'--workdir={folder}', latents, '--points=4,0', f'--out={tmp_path}/walk.png'
  )
  assert printed.endswith(f'latents of {out}/z.npy, in {tmp_path}/walk.png\n')


@pytest.mark.slow
def test_a_picture_that_is_none_is_one_line(trained, tmp_path):
  done = start('--mode=project', f'--workdir={trained[0]}', f'--images={tmp_path}/x.png')
  assert done.returncode == 2 and done.stderr.startswith(f'error: images={tmp_path}/x.png: no such file')


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ([], 'error: --images is missing, which --mode=project needs: Images whose latents'),
    (['--images=x', '--steps=0'], 'steps=0'),
    (['--images=x', '--starts=65'], 'starts=65'),
    (['--images=x'], 'workdir=/nonexistent: no run here'),
  ],
)
def test_bad_flags_are_one_line(refused, flags, text):
  assert text in refused('--mode=project', '--workdir=/nonexistent', *flags)
