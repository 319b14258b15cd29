"""Draws a folder of small transparent PNGs: stars, hearts and glass balls, each with a soft shadow.

  python examples/transparent_shapes.py --out=shapes --num=600
  python main.py --config=configs/image_folder.py --config.data.source=folder:shapes --config.data.channels=4

They need Pillow alone and are the same each time.
"""

import argparse
import colorsys
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE, FINE = 64, 4  # pixels per side; supersampling factor for smooth edges


def star(centre: np.ndarray, radius: float, turn: float) -> list[tuple[float, float]]:
  """Returns the corners of a five-pointed star."""
  angles = turn + np.arange(10) * math.pi / 5
  lengths = np.where(np.arange(10) % 2, 0.45, 1.0) * radius
  return [tuple(centre + r * np.array([math.sin(a), -math.cos(a)])) for a, r in zip(angles, lengths)]


def heart(centre: np.ndarray, radius: float, turn: float) -> list[tuple[float, float]]:
  """Returns the outline of a heart, turned by a third of the angle."""
  t = np.linspace(0, 2 * math.pi, 120)
  x, y = 16 * np.sin(t) ** 3, 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t) - 13 * np.cos(t)
  sin, cos = math.sin(turn / 3), math.cos(turn / 3)
  return [
    tuple(centre + radius / 16 * np.array([cos * a - sin * b, sin * a + cos * b])) for a, b in zip(x, y)
  ]


def draw(random: np.random.Generator) -> Image.Image:
  """Draws one shape of a random kind, colour, size and place, as RGBA."""
  side = SIZE * FINE
  centre = side * random.uniform(0.44, 0.5, 2)
  radius, turn, hue = side * random.uniform(0.3, 0.4), random.uniform(-0.6, 0.6), random.uniform()
  colour = tuple(round(255 * x) for x in colorsys.hsv_to_rgb(hue, 0.75, 0.95))
  kind = random.choice(['star', 'heart', 'ball'])
  mask = Image.new('L', (side, side))
  box = [*(centre - radius), *(centre + radius)]
  if kind == 'ball':
    ImageDraw.Draw(mask).ellipse(box, fill=255)
  else:
    ImageDraw.Draw(mask).polygon((star if kind == 'star' else heart)(centre, radius, turn), fill=255)
  # The shadow: black, soft, and half as opaque as the shape.
  below = Image.new('L', (side, side))
  below.paste(mask, (side // 24, side // 16))
  below = below.filter(ImageFilter.GaussianBlur(side / 28)).point(lambda x: x * 0.5)
  picture = Image.merge('RGBA', [Image.new('L', (side, side))] * 3 + [below])
  opacity = mask.point(lambda x: x * 0.45) if kind == 'ball' else mask  # Glass is see-through.
  picture.alpha_composite(Image.merge('RGBA', [*Image.new('RGB', (side, side), colour).split(), opacity]))
  if kind == 'ball':  # a rim, and a highlight
    pen = ImageDraw.Draw(picture)
    pen.ellipse(box, outline=(*colour, 255), width=side // 28)
    light = centre - radius * 0.4
    pen.ellipse([*(light - radius * 0.18), *(light + radius * 0.18)], fill=(255, 255, 255, 255))
  return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def main() -> None:
  """Writes the files."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', type=Path, required=True, help='folder')
  parser.add_argument('--num', type=int, default=600)
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  random = np.random.default_rng(0)
  for i in range(arguments.num):
    draw(random).save(arguments.out / f'{i:04d}.png')
  print(f'{arguments.num} pictures in {arguments.out}')


if __name__ == '__main__':
  main()
