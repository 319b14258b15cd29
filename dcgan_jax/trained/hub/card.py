"""The model card of a generator: README.md as the Hugging Face Hub shows it."""

import dataclasses
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcgan_jax import files, settings
from dcgan_jax.errors import InputError, printable
from dcgan_jax.evaluation import scores
from dcgan_jax.records import metrics
from dcgan_jax.records.hub import NETWORKS, Model
from dcgan_jax.settings import Settings
from dcgan_jax.trained.report import configs

ADDRESS = 'https://arxiv.org/abs/1511.06434'
KEYS = (  # settings on the card; config.json has all
  'data.source',
  'data.split',
  'generator.widths',
  'discriminator.widths',
  'latent.size',
  'latent.prior',
  'train.batch_size',
  'train.order',
  'train.loss',
  'generator_optimizer.learning_rate',
  'discriminator_optimizer.learning_rate',
  'train.ema_decay',
  'train.ema_half_life',
  'train.augment',
  'seed',
)


class Scores(NamedTuple):
  """Scores of a generator: their origin in words, their values by name and their protocol."""

  origin: str
  values: dict[str, float]
  protocol: str


class About(NamedTuple):
  """The content of a card.

  Attributes:
    name: Name of the model.
    model: Content of config.json.
    moving_average: Whether the generator is a moving average of the trained one.
    scores: Scores of the generator.
    license: Licence of the data as stated by the user; None if none is stated.
    images: Number of images in grid.png.
    dtype: Dtype of the kernels.
  """

  name: str
  model: Model
  moving_average: bool
  scores: Sequence[Scores]
  license: str | None
  images: int
  dtype: str = 'float32'


def text(about: About) -> str:
  """Returns the content of README.md."""
  return _signed('\n'.join([_front_matter(about.license), *_lines(about)]) + '\n')


def is_own(content: str) -> bool:
  """Returns whether a README.md was written by `text` and not edited since."""
  return content == _signed(''.join(content.splitlines(keepends=True)[:-1]))


def _signed(words: str) -> str:
  """Appends an invisible line with a hash of the text, by which edits are noticed."""
  digest = hashlib.sha256(words.encode()).hexdigest()
  return f'{words}<!-- Written by dcgan_jax. SHA-256 of all above: {digest} -->\n'


def escaped(words: str) -> str:
  """Escapes any text for a line or a cell of Markdown."""
  return re.sub(r'([\\`*_{}\[\]()#|~])', r'\\\1', html.escape(printable(words), quote=False))


def find_scores(folder: Path, step: int) -> list[Scores]:
  """Returns the scores of a step in a workdir: those of `--mode=evaluate` and those of training.

  Args:
    folder: The workdir.
    step: Step of the checkpoint.

  Raises:
    InputError: A file with scores is damaged.
  """
  found = []
  for path in sorted(folder.glob('evaluation*.json')):
    report = files.read_json(path)
    try:
      values, protocol, origin = dict(report['scores']), str(report['protocol']), str(report['images'])
      values = {str(name): float(value) for name, value in values.items()}
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f'{path}: is not a report of --mode=evaluate; evaluate again, or remove it') from error
    if origin.startswith(f'step {step} of '):
      found.append(Scores(f'`--mode=evaluate`, {report.get("num")} images', values, protocol))
  for row in metrics.read(folder / 'metrics.jsonl', step):
    if row['step'] == step and 'protocol' in row:
      values = {name: value for name, value in row.items() if name not in ('step', 'protocol')}
      found.append(Scores('during training', values, row['protocol']))
  return found


def _front_matter(license: str | None) -> str:
  """Returns the YAML that the Hub reads."""
  import yaml  # installed with ml_collections

  content: dict[str, Any] = {
    'library_name': 'dcgan_jax',
    'pipeline_tag': 'unconditional-image-generation',
    'tags': ['dcgan', 'gan', 'jax', 'flax', 'image-generation'],
  }
  if license is not None and re.fullmatch(r'[a-z0-9.-]+', license):
    content['license'] = license
  elif license is not None:  # The Hub knows licences by short names; this is its form for others.
    content |= {'license': 'other', 'license_name': license}
  return f'---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n'


def _lines(about: About) -> list[str]:
  """Returns the lines below the front matter."""
  model, chosen = about.model, about.model.settings
  height, width = chosen.data.size
  images = 'image' if about.images == 1 else 'images'
  classes = ', '.join(escaped(name) for name in model.classes)
  both = ', and its discriminator' if model.networks == NETWORKS else ''
  of_networks = 'both networks' if both else 'the generator'
  return [
    f'# {escaped(about.name)}',
    '',
    f'![{about.images} {images} of this generator](grid.png)',
    '',
    f'A generator of images of {height}x{width} pixels with {chosen.data.channels} '
    f'channel{"s" * (chosen.data.channels > 1)}{both}: a DCGAN '
    f'([Radford, Metz and Chintala 2015]({ADDRESS})), trained with dcgan\\_jax.',
    *(['', f'It draws the class that is asked for: {classes}.'] if classes else []),
    '',
    '## Sample from it',
    '',
    '```python',
    'import dcgan_jax  # and, for hf://, the package huggingface_hub',
    '',
    "sampler = dcgan_jax.load('hf://OWNER/NAME')  # or the path of a copy of this folder",
    f'images = sampler.sample(16, seed=0{", label=0" if classes else ""})  '
    f'# {chosen.data.dtype} [16, {height}, {width}, {chosen.data.channels}]',
    '```',
    '',
    'Image i of a seed depends on its own latent alone. `model.safetensors` has the arrays of '
    f'{of_networks},',
    'such as `generator.params.conv1.kernel`, and `config.json` all settings, from which they are built.',
    '',
    '## Scores',
    '',
    *_score_lines(about.scores),
    '',
    '## How it was trained',
    '',
    *_training_lines(about),
    '',
    '## Licence of the data',
    '',
    f'As stated by whoever made this card: {escaped(about.license)}'
    if about.license
    else 'Whoever made this card has not stated it.',
  ]


def _score_lines(found: Sequence[Scores]) -> list[str]:
  """Returns the tables of scores."""
  if not found:
    return ['None were taken of this step.']
  lines = ['Only scores of the same protocol can be compared, and only FID with what others publish.']
  for taken in found:
    lines += ['', f'Taken {taken.origin}:' if taken.origin == 'during training' else f'By {taken.origin}:']
    lines += ['', '| score | value |', '|---|---|']
    lines += [f'| {escaped(scores.label(name))} | {value:.4g} |' for name, value in taken.values.items()]
    lines += ['', f'Protocol: {escaped(taken.protocol)}']
  return lines


def _training_lines(about: About) -> list[str]:
  """Returns the lines about training."""
  model, chosen = about.model, about.model.settings
  seen = model.step * chosen.train.images_per_step
  average = ' The generator is a moving average of the trained one.' if about.moving_average else ''
  lines = [
    f'{model.step:,} steps, in which it saw {seen:,} images. Batch norm in the generator uses '
    f'{model.statistics} statistics.{average}',
    '',
    '| setting | value |',
    '|---|---|',
  ]
  lines += [f'| {escaped(key)} | {escaped(str(_value(chosen, key)))} |' for key in KEYS]
  return lines if about.dtype == 'float32' else [*lines, '', *_rounding_lines(about)]


def _rounding_lines(about: About) -> list[str]:
  """Returns the lines about rounded kernels: for exact ones, the generator is trained again."""
  presets, values = settings.presets(), settings.flat(dataclasses.asdict(about.model.settings))
  lines = [f'The kernels are rounded to {about.dtype}, and load as float32.']
  if not presets:
    return lines
  nearest = configs.nearest(presets, values)
  again = configs.command(nearest, presets[nearest], values, f'runs/{about.name}')
  return [f'{lines[0]} This trains a generator like it:', '', '```sh', ' \\\n  '.join(again), '```']


def _value(chosen: Settings, key: str) -> Any:
  """Returns the value of a dotted key."""
  found: Any = chosen
  for name in key.split('.'):
    found = getattr(found, name)
  return found
