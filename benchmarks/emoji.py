"""Extracts the 3,786 Noto emoji of 64x64 pixels (Google, Apache License 2.0) from an npm package.

npm pack emoji-datasource-google@16.0.0
python benchmarks/emoji.py emoji-datasource-google-16.0.0.tgz --out=data/emoji

It writes OUT/all, and OUT/1000 and OUT/100: random images of which no two are nearly the same. For these,
variants of skin are left out, and images whose 16x16 thumbnails differ from an earlier one by less than 8 of
255 (RMS).
"""

import argparse
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SHA256 = 'fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438'
FOLDER = 'package/img/google/64/'
SKIN = ('1f3fb', '1f3fc', '1f3fd', '1f3fe', '1f3ff')  # code points, which are parts of the names of the files
SETS = (1000, 100)
LEAST_DIFFERENCE = 8.0


def read(package: Path) -> dict[str, bytes]:
  """Returns the PNG files of a package by name.

  Raises:
    SystemExit: It is not the published package.
  """
  content = package.read_bytes()
  if hashlib.sha256(content).hexdigest() != SHA256:
    raise SystemExit(
      f'{package}: is not emoji-datasource-google-16.0.0.tgz as published: its SHA-256 differs'
    )
  found = {}
  with tarfile.open(fileobj=io.BytesIO(content)) as archive:
    for member in archive:
      file = archive.extractfile(member) if member.name.startswith(FOLDER) else None
      if file is not None and member.name.endswith('.png'):
        found[Path(member.name).name] = file.read()
  return found


def distinct(images: dict[str, bytes]) -> list[str]:
  """Returns the names of images of which no two are nearly the same."""
  kept: list[str] = []
  thumbnails = np.zeros((0, 16 * 16 * 3), np.float32)
  for name in sorted(images):
    if any(tone in name for tone in SKIN):
      continue
    image = Image.open(io.BytesIO(images[name])).convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    white.alpha_composite(image)
    thumbnail = np.asarray(white.convert('RGB').resize((16, 16), Image.Resampling.BOX), np.float32).reshape(
      1, -1
    )
    if (np.square(thumbnails - thumbnail).mean(1) >= LEAST_DIFFERENCE**2).all():
      kept.append(name)
      thumbnails = np.concatenate([thumbnails, thumbnail])
  return kept


def main() -> None:
  """Writes the folders."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('package', type=Path)
  parser.add_argument('--out', type=Path, default=Path('data/emoji'))
  arguments = parser.parse_args()
  images = read(arguments.package)
  shuffled = np.random.default_rng(0).permutation(distinct(images)).tolist()
  sets = {'all': list(images)} | {str(count): shuffled[:count] for count in SETS}
  for title, names in sets.items():
    folder = arguments.out / title
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
      (folder / name).write_bytes(images[name])
    print(f'{folder}: {len(names)} images')


if __name__ == '__main__':
  main()
