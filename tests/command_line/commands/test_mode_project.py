"""Projections from the command line."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.mark.slow
def test_from_pictures_to_latents_and_back(trained, tmp_path, printed_by, standard_promotion):
  folder, _ = trained
  printed_by('--mode=sample', f'--workdir={folder}', '--num=5', '--seed=4', f'--out={tmp_path}/pictures')
  out = tmp_path / 'found'
  flags = [f'--images={tmp_path}/pictures', '--steps=60', '--starts=2', f'--out={out}']
  printed = printed_by('--mode=project', f'--workdir={folder}', *flags)
  assert printed.startswith('pixel error') and f'5 images by step 24 of {folder}' in printed
  report = json.loads((out / 'project.json').read_text())
  assert report['images'][4]['file'] == f'{tmp_path}/pictures/00004.png'
  assert report['mean']['pixel_error'] < 5
  latents = f'--latents={out}/z.npy'
  printed_by('--mode=sample', f'--workdir={folder}', latents, f'--out={tmp_path}/again')
  for i in range(5):
    a, b = (np.asarray(Image.open(tmp_path / name / f'0000{i}.png')) for name in ('pictures', 'again'))
    error = np.abs(a.astype(float) - b).mean()
    assert abs(error - report['images'][i]['pixel_error']) < 0.02
  printed = printed_by(
    '--mode=walk', f'--workdir={folder}', latents, '--points=4,0', f'--out={tmp_path}/walk.png'
  )
  assert printed.endswith(f'latents of {out}/z.npy, in {tmp_path}/walk.png\n')


def test_a_picture_that_is_none_is_one_line(untrained, tmp_path, refused):
  line = refused('--mode=project', f'--workdir={untrained}', f'--images={tmp_path}/x.png')
  assert line.startswith(f'error: images={tmp_path}/x.png: no such file')


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ([], 'error: --images is missing, which --mode=project needs: Images to find latents of'),
    (['--images=x', '--steps=0'], 'steps=0'),
    (['--images=x', '--starts=65'], 'starts=65'),
    (['--images=x'], 'workdir=/nonexistent: no run here'),
  ],
)
def test_bad_flags_are_one_line(refused, flags, text):
  assert text in refused('--mode=project', '--workdir=/nonexistent', *flags)
