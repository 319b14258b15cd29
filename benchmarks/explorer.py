"""Measures an exported page in headless Chromium: time to the first image, frame times of a drag, and pixels.

python benchmarks/explorer.py --page=FOLDER [--workdir=runs/cifar10_32] [--openings=5] [--device=webgpu]

Each measurement opens the page in a new Chromium, so that nothing is compiled or cached. The first image is
timed from navigation to its pixels on the canvas, a frame of a drag from the mouse move. With the workdir of
the run, the 48 images of the sheet are compared to `--mode=sample`; the status is 1 if a pixel differs by
more than 1.
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from playwright import sync_api

from dcgan_jax.runs import sampling

QUIET = ['--disable-background-networking', '--disable-component-update', '--disable-sync']
# Chromium's software GPU, to try WebGPU without hardware; slow.
SOFTWARE_GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan']
MOVES = 40  # mouse moves per drag
PIXELS = """all => all.map(one => {
  const {data} = one.getContext('2d').getImageData(0, 0, one.width, one.height);
  return [...data];
})"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_: object) -> None:
    pass


def measure(page: sync_api.Page, address: str) -> tuple[float, list[float], np.ndarray]:
  """Opens the page and drags on its map; returns both times in milliseconds, and the RGBA of the sheet."""
  page.goto(address)
  page.wait_for_selector('html[data-ready]', state='attached', timeout=120_000)
  first = page.evaluate("performance.getEntriesByName('first-image')[0].startTime")
  sheet = np.array(page.eval_on_selector_all('#sheet canvas', PIXELS))
  page.evaluate('performance.clearMeasures()')
  box = page.locator('#surface').bounding_box()
  assert box is not None
  page.mouse.move(box['x'] + 40, box['y'] + 40)
  page.mouse.down()
  for i in range(MOVES):
    page.mouse.move(box['x'] + 40 + 9 * i, box['y'] + 40 + 7 * i)
    page.wait_for_timeout(20)
  page.mouse.up()
  page.wait_for_timeout(300)
  return first, page.evaluate("performance.getEntriesByName('draw').map(one => one.duration)"), sheet


def main() -> int:
  """Prints a line of medians and a line about the pixels."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--page', required=True)
  parser.add_argument('--workdir')
  parser.add_argument('--openings', type=int, default=5)
  parser.add_argument('--device', choices=['wasm', 'webgpu'], default='wasm')
  asked = parser.parse_args()
  handler = functools.partial(_Quiet, directory=asked.page)
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  address = f'http://127.0.0.1:{server.server_port}/?device={asked.device}'
  flags = [*QUIET, *(SOFTWARE_GPU if asked.device == 'webgpu' else ['--disable-gpu'])]
  firsts: list[float] = []
  draws: list[float] = []
  with sync_api.sync_playwright() as driver:
    for _ in range(asked.openings):
      program = driver.chromium.launch(
        executable_path=shutil.which('chromium'), args=flags, chromium_sandbox=False
      )
      first, drawn, sheet = measure(program.new_page(viewport={'width': 1280, 'height': 900}), address)
      firsts.append(first)
      draws += drawn
      program.close()
  size = sum(path.stat().st_size for path in Path(asked.page).rglob('*') if path.is_file())
  print(
    f'{asked.page} ({size / 1e6:.1f} MB), {asked.device}: first picture after {np.median(firsts):.0f} ms, '
    f'{min(firsts):.0f} to {max(firsts):.0f} in {len(firsts)} openings; a picture of a drag '
    f'{np.median(draws):.1f} ms, 95 % below {np.quantile(draws, 0.95):.0f} ms, of {len(draws)}'
  )
  if asked.workdir is None:
    return 0
  want = sampling.open_sampler(asked.workdir).sample(48).astype(int)
  shown = sheet.reshape(*want.shape[:3], 4)[..., : want.shape[-1]]
  print(f'pixels differ by {abs(shown - want).max()} of 255 at most, {(shown != want).mean():.4%} of them')
  return int(abs(shown - want).max() > 1)


if __name__ == '__main__':
  sys.exit(main())
