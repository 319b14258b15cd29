"""The exported page in a headless Chromium, served as anybody would serve it."""

import functools
import http.server
import json
import shlex
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import untrained_run
from PIL import Image, ImageSequence

from configs import cifar10_32
from dcgan_jax import settings
from dcgan_jax.core import latents
from dcgan_jax.core.latents import Latents
from dcgan_jax.records import checkpoints, workdir
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.trained.explorer import folder

pytest.importorskip('onnx')
pytestmark = pytest.mark.slow
EVIL = '<script>document.title="run"</script><img src=x onerror="document.title=1">'


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


@pytest.fixture(scope='module')
def serve():
  """A function that serves a folder and returns its address."""
  servers = []

  def start(path):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(_Quiet, directory=str(path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    servers.append((server, thread))
    return f'http://127.0.0.1:{server.server_port}/'

  yield start
  for server, thread in servers:
    server.shutdown()
    thread.join()
    server.server_close()


class Page:
  """A page in a browser: what it asks for, what goes wrong, what it shows.

  Attributes:
    asked: addresses of its requests.
    wrong: its errors.
  """

  def __init__(self, browser, address, ready=True):
    self.asked, self.wrong = [], []
    context = browser.new_context(viewport={'width': 1200, 'height': 900})
    context.set_default_timeout(30_000)
    self.page = context.new_page()
    self.page.on('request', lambda request: self.asked.append(request.url))
    self.page.on('pageerror', lambda error: self.wrong.append(str(error)))
    self.page.on('console', lambda message: message.type == 'error' and self.wrong.append(message.text))
    self.page.goto(address)
    if ready:
      self.page.wait_for_selector('html[data-ready]', state='attached')

  def pixels(self, selector='#picture', channels=1):
    """Returns what canvases show, int [N, H, W, channels]."""
    found = self.page.eval_on_selector_all(
      selector,
      """all => all.map(one => {
        const {width, height, data} = one.getContext('2d').getImageData(0, 0, one.width, one.height);
        return {width, height, data: [...data]};
      })""",
    )
    return np.stack(
      [np.reshape(one['data'], (one['height'], one['width'], 4))[..., :channels] for one in found]
    )

  def settle(self, expected, selector='#picture'):
    """Waits until canvases show these images, uint8 [N, H, W, C], within 1 of 255."""
    for _ in range(100):
      shown = self.pixels(selector, expected.shape[-1])
      if shown.shape == expected.shape and abs(shown - expected.astype(int)).max() <= 1:
        return
      self.page.wait_for_timeout(50)
    np.testing.assert_allclose(shown, expected, atol=1)

  def until(self, expression):
    """Waits until an expression of JavaScript is true; the page's policy forbids Playwright's own way."""
    for _ in range(200):
      if self.page.evaluate(expression):
        return
      self.page.wait_for_timeout(25)
    raise AssertionError(f'{expression} never becomes true; the caption is {self.caption!r}')

  def saved(self, selector, path):
    """Presses a button that saves a file, and returns where it is."""
    with self.page.expect_download() as download:
      self.page.click(selector)
    target = path / download.value.suggested_filename
    download.value.save_as(target)
    return target

  @property
  def command(self):
    """The words of the command that draws the picture, as a shell would take them."""
    return shlex.split(self.page.text_content('#command').replace('\\\n', ''))

  @property
  def caption(self):
    return self.page.inner_text('#caption')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """A run whose name is a script, and the page of its generator: (workdir, folder)."""
  run = untrained_run(tmp_path_factory.mktemp('runs') / EVIL.replace('/', ''))
  out = tmp_path_factory.mktemp('page')
  folder.run(run, 'last', str(out))
  return run, out


@pytest.fixture(scope='module')
def sampler(exported):
  return sampling.open_sampler(exported[0])


@pytest.fixture
def page(browser, exported, serve):
  opened = Page(browser, serve(exported[1]))
  yield opened
  opened.page.context.close()
  assert opened.wrong == []


@pytest.fixture(scope='module')
def modules(browser, exported, serve):
  """A page of the same server, which can import the modules and on which nothing runs."""
  context = browser.new_context()
  opened = context.new_page()
  opened.goto(f'{serve(exported[1])}explorer.json')
  yield opened
  context.close()


def test_latents_are_those_of_jax(modules):
  """Draws what JAX draws, of both priors, with classes, and for the largest numbers."""
  seeds, indices = [0, 7, 2**32 - 1], [0, 1, 5, 2**31 - 1]
  for latent in (Latents(100), Latents(100, 'uniform'), Latents(6, classes=10), Latents(3, 'uniform', 7)):
    spec = {'size': latent.size, 'prior': latent.prior, 'classes': ['x'] * latent.classes}
    got = modules.evaluate(
      """async ([seeds, indices, spec]) => {
        const {draw} = await import('/latents.js');
        return seeds.map(seed => indices.map(index => [...draw(seed, index, spec)]));
      }""",
      [seeds, indices, spec],
    )
    for seed, drawn in zip(seeds, got):
      want = latent.sample(jax.random.key(seed), jnp.array(indices))
      np.testing.assert_allclose(drawn, want, rtol=1e-6, err_msg=str(latent))
  got = modules.evaluate("async () => [...(await import('/threefry.js')).normal([0, 5], 200_000)]")
  np.testing.assert_allclose(got, jax.random.normal(jax.random.key(5), (200_000,)), rtol=1e-6)


def test_paths_and_sums_are_those_of_the_library(modules):
  z = np.asarray(latents.sample(jax.random.key(1), jnp.arange(6), 20))
  got = modules.evaluate(
    """async (z) => {
      const {slerp, lerp, arithmetic} = await import('/latents.js');
      const all = z.map(one => Float32Array.from(one));
      const opposite = all[0].map(x => -2 * x);
      return [slerp(all[0], all[1], 0.3), slerp(all[0], all[0], 0.5), lerp(all[0], all[1], 0.3),
        arithmetic(all.slice(0, 3), all.slice(3, 4), all.slice(4)),
        slerp(all[0], opposite, 0.25)].map(x => [...x]);
    }""",
    z.tolist(),
  )
  t = jnp.array([0.3])
  want = [
    latents.slerp(z[0], z[1], t)[0],
    z[0],
    latents.lerp(z[0], z[1], t)[0],
    latents.arithmetic(z[:3], z[3:4], z[4:]),
  ]
  np.testing.assert_allclose(got[:4], want, atol=2e-6)
  length = np.linalg.norm(z[0])
  assert abs(np.linalg.norm(got[4]) - 1.25 * length) < 1e-4  # An eighth of a turn in some direction.
  assert abs(np.dot(got[4], z[0]) / (1.25 * length**2) - 0.5**0.5) < 1e-5


def test_the_map_keeps_to_the_prior(modules):
  """Finds normal latents as long as they were, corners where they belong, and uniform latents in [-1, 1]."""
  z = {prior: latents.sample(jax.random.key(1), jnp.arange(3), 20, prior) for prior in ('normal', 'uniform')}
  got = modules.evaluate(
    """async (given) => {
      const {around, amongThree, directionsAround, moved, CORNERS} = await import('/latents.js');
      const places = [[0, 0], [1, 0], [0, -1], [0.3, 0.4], [-1, 1]];
      const found = {};
      for (const prior of ['normal', 'uniform']) {
        const spec = {size: 20, prior, classes: []};
        const z = given[prior].map(one => Float32Array.from(one));
        const directions = directionsAround(z[0], 3, spec);
        found[prior] = {
          around: places.map(([x, y]) => [...around(z[0], directions, x, y, spec)]),
          three: [...CORNERS, ...places].map(([x, y]) => [...amongThree(z, x, y, spec)]),
          moved: [...moved(z[0], directions, [3, -2], spec)],
        };
      }
      return found;
    }""",
    {prior: np.asarray(one).tolist() for prior, one in z.items()},
  )
  for prior, one in got.items():
    np.testing.assert_array_equal(one['around'][0], z[prior][0])
    np.testing.assert_allclose(one['three'][:3], z[prior], atol=1e-6)
  lengths = np.linalg.norm(z['normal'], axis=1)
  np.testing.assert_allclose(np.linalg.norm(got['normal']['around'], axis=1), lengths[0], rtol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(got['normal']['moved']), lengths[0], rtol=1e-6)
  among = np.linalg.norm(got['normal']['three'], axis=1)
  assert (among > min(lengths) - 1e-5).all() and (among < max(lengths) + 1e-5).all()
  centre, right, down = np.array(got['normal']['around'])[:3]
  np.testing.assert_allclose([centre @ right, centre @ down, right @ down], 0, atol=1e-4)
  for kind in ('around', 'three'):
    assert abs(np.array(got['uniform'][kind])).max() <= 1
  assert abs(np.array(got['uniform']['moved'])).max() > 1  # As in the library, sums are not clipped.


def test_the_pictures_are_those_of_the_mode_sample(page, sampler, exported):
  """Finds them on the stage, the sheet and further on, a script's name as text, and no request elsewhere."""
  page.settle(sampler.sample(1))
  page.settle(sampler.sample(48), '#sheet canvas')
  page.page.fill('#seed', '4294967295')
  page.page.press('#seed', 'Enter')
  page.page.click('#on')
  page.settle(sampler.sample(96, seed=2**32 - 1)[48:], '#sheet canvas')
  assert page.page.inner_text('h1') == exported[0].name and page.page.title().startswith(exported[0].name)
  assert page.page.inner_text('#range') == '48–95'
  server = page.page.evaluate('location.origin')
  assert len(page.asked) > 15 and all(address.startswith(f'{server}/') for address in page.asked)


def test_the_map_is_dragged_by_mouse_and_keys(page, sampler):
  before = page.pixels()
  box = page.page.locator('#surface').bounding_box()
  page.page.mouse.move(box['x'] + 20, box['y'] + 30)
  page.page.mouse.down()
  page.page.mouse.move(box['x'] + 60, box['y'] + 90, steps=4)
  page.page.mouse.up()
  page.until("document.getElementById('caption').textContent.startsWith('Around 0: 0.')")
  dragged = page.caption
  assert abs(page.pixels() - before).max() > 3
  page.page.keyboard.press('Shift+ArrowRight')
  page.until(f'document.getElementById("caption").textContent !== {json.dumps(dragged)}')
  page.page.keyboard.press('Home')
  page.settle(sampler.sample(1))
  assert page.caption == 'Image 0 of seed 0'
  page.page.click('#sheet button:nth-child(4)')
  page.settle(sampler.sample(4)[3:])
  middle = page.pixels('#field')[0, 24:32, 24:32]
  page.settle(sampler.sample(4)[3:])
  page.page.click('text=Between three')
  page.until("document.getElementById('caption').textContent.startsWith('Between 0, 1, 2')")
  page.page.click('#shuffle')
  assert page.page.locator('#sheet [aria-pressed=true]').count() == 3
  assert abs(middle - sampler.sample(4)[3]).max() <= 1


def test_the_tabs_and_the_sheet_are_walked_by_arrow_keys(page):
  page.page.focus('#tab-map')
  page.page.keyboard.press('ArrowRight')
  assert page.page.get_attribute('#tab-walk', 'aria-selected') == 'true'
  assert page.page.is_visible('#legs') and not page.page.is_visible('#field')
  page.page.focus('#sheet button:nth-child(1)')
  page.page.keyboard.press('ArrowDown')
  label = page.page.evaluate("document.activeElement.getAttribute('aria-label')")
  columns = page.page.evaluate(
    "getComputedStyle(document.getElementById('sheet')).gridTemplateColumns.split(' ').length"
  )
  assert label == f'Image {columns} of seed 0'
  page.page.keyboard.press('Enter')
  assert page.page.get_attribute('#sheet button:focus', 'aria-pressed') == 'true'
  assert page.page.locator('#sheet button[tabindex="0"]').count() == 1


def test_a_walk_plays_and_is_saved(page, sampler, tmp_path):
  page.page.click('#tab-walk')
  page.page.click('#walk-clear')
  for number in (4, 1, 8):
    page.page.click(f'#sheet button:nth-child({number})')
  points = np.asarray(latents.sample(jax.random.key(0), jnp.array([3, 0, 7]), 10))
  legs = latents.path(points, jnp.linspace(0, 1, 10))
  rows = sampler.from_latents(legs.reshape(-1, 10)).reshape(3, 10, 8, 8, 1)
  page.settle(rows.transpose(0, 2, 1, 3, 4).reshape(3, 8, 80, 1), '#legs canvas')
  page.page.eval_on_selector('#place', "e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
  page.settle(sampler.sample(4)[3:])
  page.page.click('#play')
  page.until("document.getElementById('place').valueAsNumber > 0.2")
  page.page.click('#play')
  assert page.caption.startswith('Walk, ') and page.page.inner_text('#play') == 'Play'
  assert {'--mode=walk', '--seed=0', '--points=3,0,7', '--checkpoint=0'} <= set(page.command)
  page.page.eval_on_selector('#pace', "e => { e.value = 0.5; e.dispatchEvent(new Event('input')); }")
  saved = page.saved('#gif', tmp_path)
  with Image.open(saved) as picture:
    frames = [np.asarray(frame.convert('L')) for frame in ImageSequence.Iterator(picture)]
    assert (picture.info['duration'], picture.info['loop']) == (50, 0)
  assert len(frames) == 30 and frames[0].shape == (256, 256)
  for frame, index in ((0, 3), (10, 0), (20, 7)):
    shown = frames[frame][16::32, 16::32].astype(int)
    assert abs(shown - sampler.sample(8)[index, ..., 0]).max() <= 1


def test_arithmetic_fills_its_groups(page, sampler, exported):
  page.page.click('#tab-sum')
  groups = [[3, 8, 21], [4, 9, 33], [1, 2, 5]]
  for number in np.ravel(groups):  # A full group hands on to the next.
    page.page.click(f'#sheet button:nth-child({number + 1})')
  z = np.asarray(latents.sample(jax.random.key(0), jnp.arange(48), 10))
  means = np.stack([z[group].mean(0) for group in groups])
  page.settle(sampler.from_latents(means), '.group > canvas')
  page.settle(sampler.from_latents((means[0] - means[1] + means[2])[None]))
  assert {'--plus=3,8,21', '--minus=4,9,33', '--plus2=1,2,5'} <= set(page.command)
  page.page.click('.members button >> nth=0')
  means[0] = z[[8, 21]].mean(0)
  page.settle(sampler.from_latents((means[0] - means[1] + means[2])[None]))


def test_directions_change_a_picture(page, sampler, exported):
  page.page.click('#tab-turn')
  page.page.click('#sheet button:nth-child(6)')
  page.page.eval_on_selector(
    '.direction:nth-child(2) input', "e => { e.value = -1; e.dispatchEvent(new Event('input')); }"
  )
  vectors = np.array(json.loads((exported[1] / 'explorer.json').read_text())['directions'])
  z = np.asarray(latents.sample(jax.random.key(0), jnp.array([5]), 10))[0]
  moved = z - 0.5 * 10**0.5 * vectors[1]
  page.settle(sampler.from_latents(moved[None] * np.linalg.norm(z) / np.linalg.norm(moved)))
  assert page.caption == 'Image 5 of seed 0, changed: 2 by -1.00'
  page.page.click('#turn-reset')
  page.settle(sampler.sample(6)[5:])


def test_what_is_saved_is_what_is_shown(page, sampler, exported, call_main, tmp_path):
  """Saves a picture and its latent, and draws it again by the command that the page shows."""
  page.page.focus('#surface')
  page.page.keyboard.press('Shift+ArrowUp')
  page.until("document.getElementById('caption').textContent.includes('0.20 up')")
  page.page.wait_for_timeout(200)
  shown = page.pixels()
  page.page.click('#keep')
  np.testing.assert_array_equal(page.pixels('#kept canvas'), shown)
  page.page.select_option('#zoom', '16')
  with Image.open(page.saved('#png', tmp_path)) as picture:
    np.testing.assert_array_equal(
      np.asarray(picture.convert('L')), np.kron(shown[0, ..., 0], np.ones((16, 16)))
    )
  page.page.click('summary >> nth=0')
  z = np.load(page.saved('#save-z', tmp_path))
  assert z.shape == (1, 10) and z.dtype == np.float32
  assert abs(sampler.from_latents(z) - shown).max() <= 1
  program, script, *flags = page.command
  assert (program, script) == ('python', 'main.py') and '--latents=z.npy' in flags
  flags = [
    flag.replace('=z.npy', f'={tmp_path / "z.npy"}').replace('=picture', f'={tmp_path / "p"}')
    for flag in flags
  ]
  assert f'--workdir={exported[0].name}' in flags
  flags = [f'--workdir={exported[0]}' if flag.startswith('--workdir') else flag for flag in flags]
  assert call_main(*flags)[0] == 0 and (tmp_path / 'p.png').exists()


def _conditional_run(path):
  """Writes an untrained run of oblong colour images that is told classes, whose names are scripts."""
  config = cifar10_32.get_config()
  config.data.image_size, config.data.classes = (8, 16), 10
  for network in (config.generator, config.discriminator):
    network.widths, network.strides, network.norm = (8, 6), (2, 2), (True, True)
  config.generator.initializer = 'glorot'
  config.latent.size, config.latent.prior = 6, 'uniform'
  chosen = settings.check(config)
  workdir.write_settings(path, chosen, [f'{i} {EVIL}' for i in range(10)])
  saver = checkpoints.Saver(path / 'checkpoints', 1)
  saver.save(experiment.build(chosen).first_state())
  saver.close()
  return path


def test_a_generator_that_is_told_classes(browser, serve, tmp_path):
  run = _conditional_run(tmp_path / 'told')
  folder.run(run, 'last', str(tmp_path / 'page'))
  sampler = sampling.open_sampler(run)
  page = Page(browser, serve(tmp_path / 'page'))
  page.settle(sampler.sample(48), '#sheet canvas')
  page.page.select_option('#class', '7')
  page.settle(sampler.sample(48, label=7), '#sheet canvas')
  page.page.click('#tab-turn')
  page.page.click('#sheet button:nth-child(3)')
  z = np.asarray(latents.sample(jax.random.key(0), jnp.array([2]), 6, 'uniform'))
  page.settle(
    sampler.from_latents(np.concatenate([np.repeat(z, 10, 0), np.eye(10)], 1)), '#class-tiles canvas'
  )
  page.page.select_option('#class-to', '3')
  page.page.eval_on_selector('#class-share', "e => { e.value = 0.25; e.dispatchEvent(new Event('input')); }")
  told = 0.75 * np.eye(10)[[7]] + 0.25 * np.eye(10)[[3]]
  page.settle(sampler.from_latents(np.concatenate([z, told], 1)))
  assert f'25 % 3 {EVIL}' in page.page.text_content('#caption')
  assert page.page.inner_text('#class-tiles span >> nth=4') == f'4 {EVIL}'
  assert page.page.title().startswith('told') and page.page.locator('img, main script').count() == 0
  page.page.context.close()
  assert page.wrong == []


def test_transparent_pictures_have_their_alpha(browser, serve, tmp_path):
  transparent = {'data.source': 'folder:shapes', 'data.channels': 4, 'generator.upsample': 'filtered'}
  run = untrained_run(tmp_path / 'run', transparent)
  folder.run(run, 'last', str(tmp_path / 'page'))
  opened = Page(browser, serve(tmp_path / 'page'))
  want = sampling.open_sampler(run).sample(1)
  assert len(np.unique(want[..., 3])) > 9
  shown = opened.pixels(channels=4)
  np.testing.assert_allclose(shown[..., 3], want[..., 3], atol=1)
  # A canvas keeps colours multiplied by alpha, and rounds them.
  multiplied = [(one[..., :3] * (one[..., 3:] / 255.0)) for one in (shown, want)]
  np.testing.assert_allclose(*multiplied, atol=2)
  assert opened.page.inner_text('#notice') == '' and opened.wrong == []
  assert 'gradient' in opened.page.evaluate("getComputedStyle(document.querySelector('#picture')).background")
  opened.page.context.close()


def test_a_page_that_cannot_run_says_why(browser, exported, serve):
  opened = Page(browser, Path(exported[1], 'index.html').as_uri(), ready=False)
  assert 'was opened as a file' in opened.page.inner_text('#notice')
  assert '“python -m http.server --bind 127.0.0.1”' in opened.page.inner_text('#notice')
  assert not opened.page.is_visible('main')
  opened.page.context.close()
  context = browser.new_context()
  old = context.new_page()
  old.add_init_script('WebAssembly.validate = () => false')
  address = serve(exported[1])
  old.goto(address)
  assert 'no WebAssembly with vector instructions' in old.inner_text('#notice')
  broken = context.new_page()
  broken.route('**/generator-*.onnx', lambda route: route.fulfill(status=404, body=''))
  broken.goto(address)
  broken.wait_for_selector('#notice:not(:empty)')
  assert 'onnx cannot be loaded: 404' in broken.inner_text('#notice')
  context.close()
