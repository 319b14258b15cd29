"""Draws both networks of a config, with the shapes and parameters that --mode=summary prints.

python benchmarks/networks.py --config=configs/cifar10.py --out=networks.svg

docs/networks.svg is that of cifar10. It has a light and a dark palette.
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from dcgan_jax import settings
from dcgan_jax.runs import experiment
from dcgan_jax.trained.analysis import summary

Point = tuple[float, float]
WIDTH, HEIGHT = 900, 500
TOP, BOTTOM = 150, 372  # heights at which the arrows of G and D run
SLANT = 0.3  # of the depth of a volume, per pixel of its height
STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de }
    text { fill: #1f2328; font: 14px system-ui, sans-serif }
    .title { font-weight: 600 }
    .quiet { fill: #59636e }
    .small { font-size: 12.5px }
    .middle { text-anchor: middle }
    .end { text-anchor: end }
    .normed { fill: #b6d4fe; stroke: #1f5fbf }
    .plain { fill: #f1e3c0; stroke: #8a6100 }
    .arrow { fill: none; stroke: #59636e; stroke-width: 1.5 }
    .head { fill: #59636e }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #3d444d }
      text { fill: #e6edf3 }
      .quiet { fill: #9da7b1 }
      .normed { fill: #173a6b; stroke: #79b0ff }
      .plain { fill: #4a3a12; stroke: #e3b341 }
      .arrow { stroke: #9da7b1 }
      .head { fill: #9da7b1 }
    }
"""


class Volume(NamedTuple):
  """What a layer makes: an image, features, or a vector, and the layer that made it."""

  shape: tuple[int, ...]  # [H, W, C] or [C]
  normed: bool
  layer: str = ''
  parameters: int = 0

  @property
  def size(self) -> tuple[float, float]:
    """Width and height in the drawing; the width grows with the channels, the height with the image."""
    if len(self.shape) == 1:
      return 8.0, 8.0 if self.shape == (1,) else 80.0
    return max(6.0, 2.6 * self.shape[-1] ** 0.5), 14 + 1.25 * self.shape[0]

  @property
  def slant(self) -> float:
    """How far the back of the drawing lies up and to the right; a vector is flat."""
    return SLANT * self.size[1] if len(self.shape) == 3 else 0.0

  @property
  def label(self) -> str:
    """The shape, as in 4 × 4 × 512."""
    return ' × '.join(map(str, self.shape))


def volumes(network: summary.Network, given: tuple[int, ...]) -> list[Volume]:
  """Returns the input of a network and the output of each layer; norms belong to the layer before them."""
  found = [Volume(given, False)]
  for layer in network.layers:
    if layer.kind == 'BatchNorm':  # It comes after a reshape, if there is one.
      found[-1] = found[-1]._replace(normed=True, shape=layer.shape[1:])
    else:
      found.append(Volume(layer.shape[1:], False, layer.name, layer.parameters))
  return found


def row(drawn: list[Volume], y: float, backwards: bool) -> tuple[list[str], list[float]]:
  """Returns the elements of a network, whose arrows run at height y, and the centres of its volumes."""
  widths = [volume.size[0] + volume.slant for volume in drawn]
  gap = (WIDTH - 100 - sum(widths)) / (len(drawn) - 1)
  elements, centres, x = [], [], 50.0
  for i, (volume, width) in enumerate(zip(drawn, widths)):
    left = WIDTH - x - width if backwards else x
    elements += cuboid(volume, left, y)
    centres.append(left + width / 2)
    if i + 1 < len(drawn):
      start, end = (left - 6, left - gap + 6) if backwards else (left + width + 6, left + width + gap - 6)
      after, middle = drawn[i + 1], (start + end) / 2
      elements += [*arrow((start, y), (end, y)), text(middle, y - 8, after.layer)]
      elements.append(text(middle, y + 18, f'{after.parameters:,}', 'quiet small middle'))
    x += width + gap
  return elements, centres


def cuboid(volume: Volume, left: float, y: float) -> list[str]:
  """Returns the elements of a volume around the height y, and of its label below."""
  (width, height), depth = volume.size, volume.slant
  top, bottom, right = y - (height - depth) / 2, y + (height + depth) / 2, left + width
  name = 'normed' if volume.normed else 'plain'
  faces = [
    [(left, top), (right, top), (right, bottom), (left, bottom)],
    [(left, top), (left + depth, top - depth), (right + depth, top - depth), (right, top)],
    [(right, top), (right + depth, top - depth), (right + depth, bottom - depth), (right, bottom)],
  ]
  drawn = [shape('polygon', name, *face) for face in faces]
  return [*drawn, text(left + (width + depth) / 2, bottom + 20, volume.label, 'small middle')]


def arrow(start: Point, end: Point) -> list[str]:
  """Returns a line with a head at its end, which runs along x or y."""
  (x0, y0), (x, y) = start, end
  dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
  neck = (x - 8 * dx, y - 8 * dy)
  sides = [(neck[0] + 4 * sign * dy, neck[1] + 4 * sign * dx) for sign in (1, -1)]
  return [shape('polyline', 'arrow', start, neck), shape('polygon', 'head', end, *sides)]


def shape(element: str, name: str, *points: Point) -> str:
  """Returns a polygon or a polyline."""
  return f'<{element} class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def text(x: float, y: float, words: str, name: str = 'middle') -> str:
  """Returns a line of text."""
  return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{words}</text>'


def svg(config: Path) -> str:
  """Returns the drawing."""
  built = experiment.build(settings.check(runpy.run_path(str(config))['get_config']()))
  image = (*built.settings.data.size, built.settings.data.channels)
  g, d = summary.networks(built)
  of_g, centres = row(volumes(g, (built.gan.latents.width,)), TOP, backwards=False)
  of_d, judged = row(volumes(d, image), BOTTOM, backwards=True)
  elements = [
    f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
    text(24, 34, f'G, the generator: {g.parameters:,} parameters', 'title'),
    text(24, 56, 'transposed convolutions, batch norm, ReLU; tanh at the end', 'quiet'),
    *of_g,
    text(centres[0], TOP - 66, 'z'),
    text(centres[-1] + 2, TOP - 84, 'G(z)'),
    *arrow((judged[0], TOP + 98), (judged[0], BOTTOM - 72)),
    text(judged[0] - 14, (TOP + BOTTOM) / 2 + 18, 'G(z), or a real image x', 'end'),
    *of_d,
    text(judged[-1], BOTTOM - 20, 'logit'),
    text(24, HEIGHT - 46, f'D, the discriminator: {d.parameters:,} parameters', 'title'),
    text(24, HEIGHT - 24, 'strided convolutions, batch norm, leaky ReLU; sigmoid(logit) is D(x)', 'quiet'),
    *legend(24, 268, 'normed', 'after batch norm'),
    *legend(184, 268, 'plain', 'without'),
  ]
  head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
  title = f'<title>Generator and discriminator of {config.name}, with shapes and parameters</title>'
  inner = [title, f'<style>{STYLE}  </style>', *elements]
  return '\n'.join([head, *(f'  {element}' for element in inner), '</svg>', ''])


def legend(x: float, y: float, name: str, words: str) -> list[str]:
  """Returns a coloured square and what it means."""
  return [
    f'<rect class="{name}" x="{x}" y="{y - 12}" width="14" height="14"/>',
    text(x + 22, y, words, 'quiet'),
  ]


def main() -> None:
  """Writes the drawing."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', type=Path, required=True, help='a file of configs/')
  parser.add_argument('--out', type=Path, required=True, help='the SVG to write')
  arguments = parser.parse_args()
  arguments.out.write_text(svg(arguments.config))


if __name__ == '__main__':
  main()
