import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from dcgan_jax import data
from dcgan_jax.data import sources
from dcgan_jax.errors import InputError

GREEN = (0, 255, 0)
FIT = data.Fit((8, 8), 1)


def test_folder_names_what_it_skips(pictures_folder, capfd):
  source = data.open_source(f'folder:{pictures_folder}', 'train', data.Fit((8, 8), 3))
  images, skipped = data.load(source, 'folder')
  assert [name.rsplit('/', 1)[1] for name in skipped] == ['truncated.png']
  printed = capfd.readouterr().out
  assert images.shape == (8, 8, 8, 3) and images.dtype == np.uint8
  assert 'notes.txt' in printed and 'text.jpg' in printed and 'empty.png' in printed
  assert 'skipped 2 unreadable' in printed and 'skipped 1 unreadable' in printed
  assert 'truncated.png' in printed.splitlines()[-1]
  green = [np.abs(image.astype(int) - GREEN).max() < 90 for image in images]
  assert sum(green) == 6  # They are all formats of the bands, of which JPEG and CMYK are near.


def test_folder_without_images(tmp_path, bands):
  fit = data.Fit((8, 8), 3)
  with pytest.raises(InputError, match='no such folder'):
    data.open_source(f'folder:{tmp_path}/missing', 'train', fit)
  with pytest.raises(InputError, match='no readable image in 0 file'):
    data.open_source(f'folder:{tmp_path}', 'train', fit)
  (tmp_path / 'x.png').write_text('no image')
  with pytest.raises(InputError, match='no readable image in 1 file'):
    data.open_source(f'folder:{tmp_path}', 'train', fit)
  bands.save(tmp_path / 'x.png')
  whole = (tmp_path / 'x.png').read_bytes()
  (tmp_path / 'x.png').write_bytes(whole[:50])  # a good header, no pixels
  with pytest.raises(InputError, match='none of 1 images can be decoded'):
    data.load(data.open_source(f'folder:{tmp_path}', 'train', fit), 'folder')


def test_digits():
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((16, 16), 1)), 'digits')
  assert images.shape == (1797, 16, 16, 1) and images.min() == 0 and images.max() > 200
  with pytest.raises(InputError, match='gray'):
    data.open_source('digits', 'train', data.Fit((16, 16), 3))
  with pytest.raises(InputError, match='choose digits'):
    data.open_source('mnist', 'train', data.Fit((16, 16), 1))


def test_labels():
  labels, names = sources.Digits(FIT).labels()
  assert len(labels) == 1797 and names == tuple('0123456789') and set(labels) == set(range(10))


def test_labels_of_a_folder_are_its_folders(tmp_path):
  for name in ('cats', 'dogs'):
    (tmp_path / name).mkdir()
    Image.new('L', (8, 8)).save(tmp_path / name / 'a.png')
  labels, names = sources.open_folder(tmp_path, FIT).labels()
  assert names == ('cats', 'dogs') and list(labels) == [0, 1]
  with pytest.raises(InputError, match='have no classes'):
    sources.open_folder(tmp_path / 'cats', FIT).labels()


def test_stacked_images_have_a_gray_image_in_each_channel():
  source = data.open_source('stacked:digits', 'train', data.Fit((8, 8), 3))
  gray = data.open_source('digits', 'train', FIT)
  images, (classes, names) = source.read([0, 7, 127_999]), source.labels()
  of_gray, _ = gray.labels()
  assert len(source) == 128_000 and len(names) == 1000 and names[123] == '1-2-3'
  for image, index in zip(images, (0, 7, 127_999)):
    triple = source.triples[index]
    for channel, member in enumerate(gray.read(list(triple))):
      np.testing.assert_array_equal(image[..., channel], member[..., 0])
    assert names[classes[index]] == '-'.join(str(of_gray[i]) for i in triple)
  assert source.identity() != gray.identity() and source.fit == data.Fit((8, 8), 3)
  assert len(np.unique(classes)) == 1000
  with pytest.raises(InputError, match=r'data.channels=1: .* set it to 3'):
    data.open_source('stacked:digits', 'train', FIT)


def test_threads_that_read_triples_decode_the_gray_images_once(monkeypatch):
  calls, decode = [], sources.load

  def load(*arguments):
    calls.append(arguments)
    time.sleep(0.2)  # so that the other threads come while this one decodes
    return decode(*arguments)

  monkeypatch.setattr(sources, 'load', load)
  source = data.open_source('stacked:digits', 'train', data.Fit((8, 8), 3))
  with ThreadPoolExecutor(4) as pool:
    made = list(pool.map(source.read, [[0, 7]] * 4))
  assert len(calls) == 1
  for images in made[1:]:
    np.testing.assert_array_equal(images, made[0])


def test_odd_files_of_a_folder_are_named_or_left_out(tmp_path, bands, capsys):
  """Handles circular links, pipes, devices, hidden files and names that are not valid text."""
  good = os.fsencode(tmp_path) + b'/\xff\n.png'
  bands.save(tmp_path / 'x.png')
  os.rename(tmp_path / 'x.png', good)
  bands.save(tmp_path / '.hidden.png')
  os.mkfifo(tmp_path / 'pipe.png')
  (tmp_path / 'loop.png').symlink_to('loop.png')
  (tmp_path / 'zero.png').symlink_to('/dev/zero')
  (tmp_path / 'up').symlink_to(tmp_path)
  source = data.open_source(f'folder:{tmp_path}', 'train', FIT)
  images, skipped = data.load(source, 'folder')
  assert len(images) == 1 and not skipped and source.identity().startswith('folder ')
  printed = capsys.readouterr().out
  assert 'skipped 3 unreadable' in printed and printed.count('\n') == 1
  os.rename(good, os.fsencode(tmp_path) + b'/\xff\n.txt')
  with pytest.raises(InputError, match='no readable image'):
    data.open_source(f'folder:{tmp_path}', 'train', FIT)
  assert '\\udcff\\n.txt' in str(InputError('\udcff\n.txt'))


@pytest.mark.skipif(not hasattr(os, 'fork') or os.getuid() != 0, reason='only root can become nobody')
def test_folders_and_files_without_permission_are_named(tmp_path, bands):
  """Reads as another user, without permission for a folder and a file."""
  for path in (tmp_path, *tmp_path.parents):
    if path != Path('/') and not path.stat().st_mode & 1:
      path.chmod(0o755)
  (tmp_path / 'closed').mkdir()
  bands.save(tmp_path / 'closed' / 'a.png')
  bands.save(tmp_path / 'secret.png')
  bands.save(tmp_path / 'open.png')
  (tmp_path / 'closed').chmod(0)
  (tmp_path / 'secret.png').chmod(0)
  code = (
    'import os, sys; from dcgan_jax import data; from PIL import PngImagePlugin; os.setuid(65534); '
    'source = data.open_source(f"folder:{sys.argv[1]}", "train", data.Fit((8, 8), 3)); print(len(source))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.splitlines()[-1] == '1'
  assert 'skipped 2 unreadable' in done.stdout and 'secret.png' in done.stdout and 'closed' in done.stdout
