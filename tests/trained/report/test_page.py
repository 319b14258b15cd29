"""The page: what is in it, and what it does in a real browser."""

import json
import re
import shutil
import time

import numpy as np
import pytest
from conftest import draw_sample

from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.trained.report import page, runs

EVIL = '<img src=x onerror="window.ran=1">\'&'  # a folder's name cannot have the slash of an end tag
EVIL_CLASSES = ['</script><script>window.ran=1</script>', '"><b onmouseover=alert(1)>', '{{ 7 * 7 }}', '']
DISTANCE = 'classifier_frechet_distance'


def _fill(folder, steps=12):
  """Adds metrics, pictures and an evaluation to an untrained run."""
  draw = np.random.default_rng(0)
  rows = []
  for step in range(50, 50 * steps + 1, 50):
    rows.append(
      {'step': step, 'loss_d': draw.random(), 'loss_g': 1 + draw.random(), 'images_per_second': 100.0}
    )
    rows[-1] |= {'d_real': 0.7, 'd_fake': 0.3}
    coverage = 0.8 if step < 400 else 0.1
    rows.append({'step': step, DISTANCE: 1e4 / step, 'precision': 0.5, 'recall': 0.5, 'coverage': coverage})
    rows[-1] |= {'d_training': step / 100, 'd_held_out': 1.0, 'd_prefers_training': 0.95}
    made = draw.integers(0, 256, (9, 8, 8, 1), np.uint8)
    draw_sample(folder, step, pictures.zoom(pictures.grid(made)))
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows) + '{"step": 9')
  shares = [0.25] * 4
  classes = {'names': EVIL_CLASSES, 'generated': shares, 'data': shares, 'missing': [], 'divergence': 0.0}
  evaluation = {
    'images': EVIL,
    'num': 9,
    'against': EVIL,
    'about': EVIL,
    'protocol': '',
    'scores': {EVIL: 0.5},
  }
  workdir.write_json(folder / 'evaluation.json', evaluation | {'classes': classes})
  pictures.save_png(
    folder / 'neighbours.png', pictures.grid(draw.integers(0, 256, (12, 8, 8, 1), np.uint8), 6)
  )
  return folder


@pytest.fixture(scope='module')
def filled(untrained, tmp_path_factory):
  """A run that has everything, with names that are no good."""
  return _fill(shutil.copytree(untrained, tmp_path_factory.mktemp('runs') / EVIL))


@pytest.fixture(scope='module')
def written(filled):
  page.run([filled], None)
  return filled / 'report.html'


@pytest.fixture(scope='module')
def compared(filled, untrained, tmp_path_factory):
  other = _fill(shutil.copytree(untrained, tmp_path_factory.mktemp('others') / 'other'), steps=8)
  target = other.parent / 'compared.html'
  page.run([filled, other, untrained], str(target))
  return target


@pytest.fixture(scope='module')
def recipes(untrained, tmp_path_factory):
  """The page of two recipes: one of three seeds, of which one has not come as far, and one of a run."""
  parent = tmp_path_factory.mktemp('recipes')
  names = {f'{EVIL}-0': 8, f'{EVIL}-1': 12, f'{EVIL}-2': 12, 'b-0': 12}
  for name, steps in names.items():
    (parent / name).mkdir()
    content = json.loads((untrained / 'config.json').read_text()) | {'seed': int(name[-1])}
    content['train']['augment'] = 'cutout' if name == 'b-0' else content['train']['augment']
    workdir.write_json(parent / name / 'config.json', content)
    workdir.write_json(parent / name / 'versions.json', {'commit': f'{"0123456789" * 4}+'})
    _fill(parent / name, steps)
  page.run([parent / name for name in names], str(parent / 'compared.html'))
  return parent / 'compared.html'


@pytest.fixture
def opened(browser):
  """A function that opens a page in Chromium, which must ask for nothing and report no error."""
  said, contexts = [], []

  def open_page(path, **options):
    contexts.append(browser.new_context(**({'viewport': {'width': 1280, 'height': 900}} | options)))
    tab = contexts[-1].new_page()
    tab.on('console', lambda message: said.append(message.text))
    tab.on('pageerror', lambda error: said.append(str(error)))
    tab.on('request', lambda it: None if it.url.startswith(('data:', path.as_uri())) else said.append(it.url))
    tab.goto(path.as_uri())
    return tab

  yield open_page
  for context in contexts:
    context.close()
  assert said == []


def _wait_until(tab, holds):
  """Waits, as Playwright's `wait_for_function` cannot on a page whose policy forbids eval."""
  for _ in range(200):
    if holds():
      return
    tab.wait_for_timeout(50)
  pytest.fail('nothing has changed for ten seconds')


def _texts(html):
  return [re.sub(r'\s+', ' ', text) for text in re.findall(r'<h2[^>]*>(.*?)</h2>', html)]


@pytest.mark.slow
def test_a_page_has_all_sections(written):
  html = written.read_text()
  assert _texts(html) == [
    'Samples',
    'Over training',
    'Latent walk',
    'Curves',
    'Evaluation',
    'Classes',
    'Nearest real images',
    'Settings',
    'Networks',
  ]
  assert "default-src 'none'; img-src data:; style-src 'sha256-" in html.replace('&#39;', "'")
  assert 'mode collapse: coverage has fallen from 0.800 at step 50 to 0.100' in html
  assert '--config.data.image_size=(8,8)' in html and 'EVIL' not in html
  assert 'Mean logit of D over steps 0 to 600: training images from 0.5 to 6' in html
  assert '<p class="help">The curves part as D learns its training images by heart.</p>' in html
  assert 'it prefers them to held-out ones in 95% of pairs' in html
  assert written.stat().st_size < 5e6


@pytest.mark.slow(1)
def test_text_is_escaped_everywhere(written, compared, recipes):
  for path in (written, compared, recipes):
    html = path.read_text()
    assert '<img src=x' not in html and '&lt;img src=x onerror=' in html
    assert html.count('<script') == html.count('</script>')
  assert '<script>window.ran' not in written.read_text() and '{{ 7 * 7 }}' in written.read_text()


@pytest.mark.slow(2)
def test_sections_without_data_are_left_out(untrained, tmp_path):
  shutil.copy(untrained / 'config.json', tmp_path)
  html, notes = page.render([runs.read(tmp_path)])
  assert _texts(html) == ['Settings', 'Networks'] and notes == []
  assert 'for no step yet' not in html and 'it was not trained here' in html
  (tmp_path / 'config.json').write_text('{')
  html, notes = page.render([runs.read(tmp_path)])
  assert _texts(html) == [] and len(notes) == 1 and 'is not JSON' in html


@pytest.mark.slow(2)
def test_a_run_without_pictures_is_drawn(untrained):
  html, _ = page.render([runs.read(untrained)])
  assert _texts(html) == ['Samples', 'Latent walk', 'Settings', 'Networks']
  assert 'Step 0, the last checkpoint' in html
  html, _ = page.render([runs.read(untrained)], with_images=False)
  assert _texts(html) == ['Settings', 'Networks']


@pytest.mark.slow(2)
def test_damaged_pictures_and_checkpoints_are_notes(filled, tmp_path):
  folder = shutil.copytree(filled, tmp_path / 'run')
  workdir.sample(folder, 600).write_bytes(b'no picture')
  (folder / 'neighbours.png').write_text('')
  for path in (folder / 'checkpoints/0/state').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  html, notes = page.render([runs.read(folder)])
  assert [note.partition(': ')[0].rpartition('/')[2] for note in notes] == [
    'step_00000600.png',
    '0',
    'neighbours.png',
  ]
  assert _texts(html)[:2] == ['Over training', 'Curves']


def test_hundreds_of_large_pictures_stay_below_five_megabytes(untrained, tmp_path):
  folder = shutil.copytree(untrained, tmp_path / 'run')
  noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
  draw_sample(folder, 0, noise)
  for step in range(1, 300):
    workdir.sample(folder, step).symlink_to(workdir.sample(folder, 0))
  html, _ = page.render([runs.read(folder)], with_images=False)
  assert 'Over training' in html and 1e6 < len(html.encode()) < 5e6


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '1e308', '-3e38', '1e-320', '0'])
def test_any_number_in_the_metrics_makes_a_page(tmp_path, number):
  names = ('loss_d', 'loss_g', 'd_real', 'd_fake', DISTANCE, 'precision', 'coverage', 'images_per_second')
  odd = json.loads(number)
  rows = [{'step': step, **dict.fromkeys(names, odd if step else 0.5)} for step in (0, 0, 7, 3, 2**31 - 1)]
  for written in (rows, rows[:2], rows[2:]):
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in written))
    html, notes = page.render([runs.read(tmp_path)], with_images=False)
    assert '</html>' in html and len(notes) == 1  # There is no config.


def test_no_link_in_a_workdir_is_written_through(tmp_path):
  """Leaves alone what links that lie in a workdir from elsewhere point to."""
  (tmp_path / 'precious').write_text('precious')
  run = tmp_path / 'run'
  run.mkdir()
  (run / 'metrics.jsonl').touch()
  for name in ('report.html', 'report.html.part'):
    (run / name).symlink_to(tmp_path / 'precious')
  page.run([run], None)
  assert (tmp_path / 'precious').read_text() == 'precious'
  assert '</html>' in (run / 'report.html').read_text() and not (run / 'report.html').is_symlink()


@pytest.mark.slow
def test_signs_in_very_many_scores_are_found_in_time_that_grows_with_their_number(tmp_path):
  """Would compare each score with all before it, which took minutes."""
  rows = [{'step': i, DISTANCE: 2.0, 'coverage': 0.5} for i in range(100_000)]
  start = time.process_time()
  assert runs.warnings_of(rows, DISTANCE) == []
  assert time.process_time() - start < 20


def test_nothing_fails_a_run_that_is_trained(tmp_path, capsys, monkeypatch):
  page.write_after_training(tmp_path)
  assert capsys.readouterr().err == (
    f'{tmp_path}/report.html: cannot be written: workdir={tmp_path}: no run here (no config.json); '
    'train one there first\n'
  )
  monkeypatch.setattr(page, 'render', lambda *_: 1 / 0)
  (tmp_path / 'samples').mkdir()
  page.write_after_training(tmp_path)
  assert capsys.readouterr().err == f'{tmp_path}/report.html: cannot be written: division by zero\n'


@pytest.mark.slow
def test_names_are_shown_and_not_run(opened, written):
  tab = opened(written)
  assert tab.inner_text('h1') == EVIL and tab.title() == f'{EVIL} · DCGAN'
  assert tab.locator('.shares tbody th').all_inner_texts() == EVIL_CLASSES
  assert tab.evaluate('window.ran') is None


@pytest.mark.slow
def test_the_slider_moves_the_picture_by_keyboard(opened, written):
  tab = opened(written)
  before = tab.get_attribute('.film img', 'src')
  tab.focus('.film input')
  tab.keyboard.press('ArrowLeft')
  assert tab.inner_text('.film output') == 'step 550'
  after = tab.get_attribute('.film img', 'src')
  assert after != before and after.startswith('data:image/webp')
  assert '550' in tab.get_attribute('.film img', 'alt')
  tab.keyboard.press('Home')
  assert tab.inner_text('.film output') == 'step 50'
  tab.click('.film button')
  _wait_until(tab, lambda: tab.inner_text('.film output') != 'step 50')


@pytest.mark.slow
def test_dark_and_light(opened, written):
  ground = 'getComputedStyle(document.body).backgroundColor'
  light, dark = (opened(written, color_scheme=scheme) for scheme in ('light', 'dark'))
  colours = light.evaluate(ground), dark.evaluate(ground)
  assert colours == ('rgb(252, 252, 250)', 'rgb(20, 21, 23)')
  light.focus('#theme')
  light.keyboard.press('Enter')
  dark.click('#theme')
  assert (dark.evaluate(ground), light.evaluate(ground)) == colours


@pytest.mark.slow
@pytest.mark.parametrize('width', [390, 320])
def test_a_phone_scrolls_in_one_direction(opened, written, compared, recipes, width):
  for path in (written, compared, recipes):
    tab = opened(path, viewport={'width': width, 'height': 800})
    tab.evaluate('document.querySelectorAll("details").forEach((it) => { it.open = true; })')
    assert tab.evaluate('document.documentElement.scrollWidth') == width


@pytest.mark.slow
def test_charts_are_read_by_keyboard_and_pointer(opened, written):
  tab = opened(written)
  chart = tab.locator('.chart', has_text='Fréchet distance')
  assert (
    chart.locator('.at').inner_text() == 'step 600' and chart.locator('.legend b').inner_text() == '16.67'
  )
  plot = chart.locator('.plot > svg')
  plot.focus()
  plot.press('Home')
  assert chart.locator('.at').inner_text() == 'step 50' and chart.locator('.legend b').inner_text() == '200'
  plot.hover(position={'x': plot.bounding_box()['width'] / 2, 'y': 50})
  assert (
    chart.locator('.at').inner_text() == 'step 300' and chart.locator('.legend b').inner_text() == '33.33'
  )
  assert 'from 200 to 16.67' in plot.get_attribute('aria-label')


@pytest.mark.slow
def test_the_walk_moves_unless_the_reader_wants_it_still(opened, written):
  pixels = 'document.querySelector(".loop canvas").toDataURL()'
  moving, still = (opened(written, reduced_motion=wish) for wish in ('no-preference', 'reduce'))
  for tab, word in ((moving, 'Pause'), (still, 'Play')):
    tab.wait_for_selector('.loop canvas')
    assert tab.inner_text('.walk button') == word
  first, stays = moving.evaluate(pixels), still.evaluate(pixels)
  _wait_until(moving, lambda: moving.evaluate(pixels) != first)
  assert still.evaluate(pixels) == stays
  moving.click('.walk button')
  paused = moving.evaluate(pixels)
  moving.wait_for_timeout(300)
  assert moving.evaluate(pixels) == paused and moving.inner_text('.walk button') == 'Play'


@pytest.mark.slow
def test_headings_are_in_order_and_pictures_have_words(opened, written, compared, recipes):
  for path in (written, compared, recipes):
    tab = opened(path)
    levels = tab.evaluate('[...document.querySelectorAll("h1,h2,h3")].map((it) => Number(it.tagName[1]))')
    assert levels[0] == 1 and levels.count(1) == 1 and max(np.diff(levels)) <= 1
    assert all(tab.evaluate('[...document.images].map((it) => it.alt)'))
    assert tab.evaluate('[...document.images].every((it) => it.naturalWidth > 0)')


@pytest.mark.slow
def test_runs_are_compared(opened, compared):
  tab = opened(compared)
  assert tab.locator('.overview tbody tr').count() == 3 and tab.locator('.beside .grid img').count() == 3
  chart = tab.locator('.chart', has_text='Loss: generator')
  assert chart.locator('path').count() == 2 and chart.locator('.legend li').count() == 2
  styles = [
    chart.locator('path')
    .nth(i)
    .evaluate('(it) => [getComputedStyle(it).stroke, getComputedStyle(it).strokeDasharray]')
    for i in range(2)
  ]
  assert all(a != b for a, b in zip(*styles))
  assert 'All settings are the same' in tab.inner_text('section:has(#settings)')


def test_recipes_are_compared_over_seeds(recipes):
  html = recipes.read_text()
  assert html.count('<th scope="rowgroup"') == 2 and html.count('<figure class="grid') == 4
  assert 'seeds 0, 1, 2<br>400 · 600 · 600 steps' in html and 'The best score of a run is biased' in html
  assert 'last scored in training<small>step 400</small>' in html
  assert '<code>train.augment</code>' in html and '<code>seed</code>' not in html
  assert html.count(': trained with commit 012345678901+.') == 1
  assert 'have come to different steps: 400 · 600 · 600 steps' in html
  for suffix in ('md', 'csv', 'tex'):
    assert 'last scored in training' in (recipes.parent / f'compared_table.{suffix}').read_text()


def test_runs_that_are_no_seeds_of_each_other_have_no_table(compared):
  assert 'Recipe' not in compared.read_text() and [*compared.parent.glob('*_table*')] == []


@pytest.mark.slow
def test_the_mean_of_seeds_is_read_with_its_deviation(opened, recipes):
  tab = opened(recipes)
  chart = tab.locator('.chart', has_text='Loss: generator')
  assert chart.locator('path.band').count() == 1 and chart.locator('path.faint').count() == 1
  plot, legend = chart.locator('.plot > svg'), chart.locator('.legend b')
  assert ' ± ' in legend.nth(0).inner_text() and ' ± ' not in legend.nth(1).inner_text()
  plot.focus()
  plot.press('Home')
  assert chart.locator('.at').inner_text() == 'step 50' and ' ± ' in legend.nth(0).inner_text()
