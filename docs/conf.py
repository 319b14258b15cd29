"""Builds the site from the pages of this repository: sphinx-build -W --keep-going -c docs . build/site

The Markdown files are also read on code hosts, so they have no Sphinx directives; this file adds what only
the site has. The film and the explorer on its front page are of a run of the digits that it trains in
build/front, N steps long by `-D front_steps=N`. They are made once; remove build/site to make them again.
"""

import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
CONTENTS = {
  'Learn': ['docs/understand', 'examples/tour', 'docs/library'],
  'Train': [
    'docs/own_images',
    'docs/data',
    'docs/training',
    'docs/runs',
    'docs/compare',
    'docs/evaluation',
    'docs/distributed',
  ],
  'Use': ['docs/exploring', 'docs/web', 'docs/exporting'],
  'Look up': ['docs/configs_and_keys', 'docs/api', 'docs/troubleshooting', 'docs/results', 'CHANGELOG'],
  'Measurements': [
    'docs/measurements/ablation',
    'docs/measurements/stacked_mnist',
    'docs/measurements/init_from',
    'docs/measurements/speed',
    'docs/measurements/targets',
    'docs/measurements/faults',
    'docs/measurements/fuzzing',
    'docs/measurements/exports',
  ],
  'Develop': ['docs/developers/architecture', 'CONTRIBUTING', 'SECURITY'],
}

project = 'dcgan_jax'
author = 'The dcgan_jax authors'
copyright = author
root_doc = 'README'
include_patterns = ['*.md', 'docs/**.md', 'docs/api.rst', 'examples/*.ipynb']
exclude_patterns = ['.*', 'build', 'runs', 'docs/package.md']
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']

myst_heading_anchors = 4
nb_execution_mode = 'off'  # The notebook is committed with the outputs of a whole run.
default_role = 'code'
autodoc_inherit_docstrings = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = 'sphinx_book_theme'
html_title = project
html_favicon = '../dcgan_jax/trained/explorer/static/icon.svg'
html_static_path = ['site.css']
html_css_files = ['site.css']
html_show_sourcelink = False
html_copy_source = False
html_context = {'default_mode': 'auto'}
html_theme_options = {'home_page_in_toc': True, 'navbar_persistent': [], 'use_download_button': False}

# What a page would load from another server. Links are not.
FOREIGN = re.compile(
  r'<(?:script|img|iframe|link|source)\b[^>]+(?:src|href)="(?:https?:)?//[^"]*|url\(["\']?https?:[^)]*'
)
FRONT = """
<div class="front"><figure>
<img src="film.webp" alt="The same 64 samples from the first step to the last" width="448">
<figcaption>The training of <code>configs/digits.py</code></figcaption>
</figure><figure>
<iframe src="explorer/index.html?device=wasm" title="The generator of digits" loading="lazy"></iframe>
<figcaption>Its generator at work, in this page.
<a href="explorer/index.html?device=wasm">Open it alone</a></figcaption>
</figure></div>
"""


def add_what_only_the_site_has(app: Sphinx, name: str, source: list[str]) -> None:
  """Adds film, explorer and table of contents to the README, and the modules of core to the API."""
  if name == root_doc:
    intro, heading, rest = source[0].partition('\n## ')
    source[0] = f'{intro}{FRONT}{heading}{rest}\n{contents()}'
  if name == 'docs/api':
    source[0] += '\n'.join(core())


def contents() -> str:
  """Returns the table of contents as directives."""
  return '\n'.join(
    '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', *pages, '```'])
    for caption, pages in CONTENTS.items()
  )


def core() -> list[str]:
  """Returns a section for each module of core."""
  from dcgan_jax import core

  names = [module.name for module in pkgutil.walk_packages(core.__path__, 'dcgan_jax.core.')]
  return [f'\n{name}\n{"-" * len(name)}\n\n.. automodule:: {name}\n   :members:\n' for name in names]


def train(app: Sphinx) -> None:
  """Trains the digits, and writes the film and the explorer beside the pages, unless they are there."""
  folder, out = ROOT / 'build' / 'front', Path(app.outdir)
  if (out / 'explorer').exists():
    return
  folder.mkdir(parents=True, exist_ok=True)

  def call(*flags: str) -> None:
    subprocess.run([sys.executable, ROOT / 'main.py', *flags], cwd=folder, check=True)

  steps = [f'--config.train.num_steps={app.config.front_steps}'] if app.config.front_steps else []
  call(f'--config={ROOT / "configs" / "digits.py"}', '--allow_config_change', *steps)
  call('--mode=film', '--workdir=runs/digits', f'--out={out / "film.webp"}', '--size=320', '--fps=10')
  call('--mode=export', '--format=web', '--workdir=runs/digits', f'--out={out / "explorer"}')
  for path in (out / 'explorer' / 'vendor').glob('*asyncify*'):
    path.unlink()  # 7 MB for WebGPU, which so small a generator does not need


def finish(app: Sphinx, error: Exception | None) -> None:
  """Gives the front page the name that servers look for; refuses pages that load anything from elsewhere."""
  if error:
    return
  out = Path(app.outdir)
  shutil.copy(out / f'{root_doc}.html', out / 'index.html')
  for path in out.rglob('*.map'):  # of the theme's scripts, for debuggers
    path.unlink()
  for path in [*out.rglob('*.html'), *out.rglob('*.css')]:
    if found := FOREIGN.search(path.read_text()):
      raise ExtensionError(f'{path}: loads {found[0]}')


def setup(app: Sphinx) -> None:
  """Connects all that to Sphinx."""
  app.add_config_value('front_steps', 0, '')
  app.connect('builder-inited', train)
  app.connect('source-read', add_what_only_the_site_has)
  app.connect('build-finished', finish)
