"""The library call of each mode and its arguments."""

import importlib
from pathlib import Path

import pytest

from configs import cifar10, digits, svhn
from dcgan_jax import settings
from dcgan_jax.command_line import shared
from dcgan_jax.evaluation.extractors import Chosen
from dcgan_jax.records.workdir import Origin
from dcgan_jax.trained.analysis.inversion import Search
from dcgan_jax.trained.report import page
from dcgan_jax.trained.targets import names
from dcgan_jax.training import loop

DIGITS = settings.check(digits.get_config())
CIFAR10, SVHN = (settings.check(config.get_config()) for config in (cifar10, svhn))
W = Path('w')

CALLS = [
  (['--config=configs/digits.py'], 'training.loop', (DIGITS, Path('runs/digits'), False, False, None)),
  (
    ['--mode=train', '--config=configs/digits.py', '--workdir=w', '--allow_config_change', '--profile'],
    'training.loop',
    (DIGITS, W, True, True, None),
  ),
  (['--mode', 'summary', '--config', 'configs/digits.py'], 'trained.analysis.summary', (DIGITS,)),
  (
    ['--mode=summary', '--config=configs/digits.py', '--target=cpu', '--num=5'],
    'trained.targets.report',
    (DIGITS, names.parse('cpu'), 5, 1),
  ),
  (
    ['--mode=sample', '--workdir=w'],
    'runs.sampling',
    (W, 'last', 'samples.png', None, 0, None, None, None),
  ),
  (
    [
      '-mode=sample',
      '-workdir=w',
      '-num=3',
      '-seed=5',
      '-out=x',
      '-latents=z',
      '-class=0,1',
      '-statistics=batch',
      '-checkpoint=7',
    ],
    'runs.sampling',
    (W, '7', 'x', 3, 5, 'z', '0,1', 'batch'),
  ),
  (['--mode=probe', '--workdir=w'], 'trained.analysis.probe', (W, None, 'last', None)),
  (
    ['--mode=probe', '--workdir=w', '--num=9', '--checkpoint=best', '--data=tfds:mnist'],
    'trained.analysis.probe',
    (W, 9, 'best', 'tfds:mnist'),
  ),
  (
    ['--mode=forget', '--workdir=w', '--class=0'],
    'trained.analysis.forget',
    (W, 2000, 0, 'last', '0', None, None, None),
  ),
  (
    [
      '--mode=forget',
      '--workdir=w',
      '--class=a b',
      '--layer=1',
      '--drop=2',
      '--num=3',
      '--seed=4',
      '--statistics=batch',
    ],
    'trained.analysis.forget',
    (W, 3, 4, 'last', 'a b', 1, 2, 'batch'),
  ),
  (
    ['--mode=evaluate', '--workdir=w'],
    'evaluation.evaluate',
    (W, 10_000, 0, 'last', Chosen('classifier'), None, None, None),
  ),
  (
    [
      '--mode=evaluate',
      '--workdir=w',
      '--features=inception',
      '--weights=p',
      '--resizer=pytorch',
      '--images=i',
      '--data=folder:d',
    ],
    'evaluation.evaluate',
    (W, 10_000, 0, 'last', Chosen('inception', 'p', False, 'pytorch'), 'i', None, 'folder:d'),
  ),
  (
    [
      '--mode=evaluate',
      '--workdir=w',
      '--features=inception',
      '--download',
      '--num=50',
      '--checkpoint=best',
      '--statistics=population',
    ],
    'evaluation.evaluate',
    (W, 50, 0, 'best', Chosen('inception', None, True), None, 'population', None),
  ),
  (
    ['--mode=project', '--workdir=w', '--images=a b'],
    'trained.analysis.project',
    (W, 'last', 'project', 'a b', 64, 0, None, Search(200, 4)),
  ),
  (
    [
      '--mode=project',
      '--workdir=w',
      '--checkpoint=best',
      '--images=tfds:mnist:train',
      '--num=5',
      '--seed=3',
      '--class=3,8',
      '--steps=7',
      '--starts=2',
      '--out=o',
    ],
    'trained.analysis.project',
    (W, 'best', 'o', 'tfds:mnist:train', 5, 3, '3,8', Search(7, 2)),
  ),
  (
    ['--mode=import', '--workdir=w', '--format=pytorch', '--source=a,b'],
    'trained.interop.importing',
    (CIFAR10, W, 'pytorch', 'a,b'),
  ),
  (
    ['--mode=import', '--workdir=w', '--format=newmu', '--source=a'],
    'trained.interop.importing',
    (SVHN, W, 'newmu', 'a'),
  ),
  (
    ['--mode=import', '--config=configs/digits.py', '--format=newmu', '--source=a'],
    'trained.interop.importing',
    (DIGITS, Path('runs/digits'), 'newmu', 'a'),
  ),
  (
    ['--mode=export', '--workdir=w', '--format=onnx'],
    'trained.interop.exporting',
    (W, 'last', 'onnx', None, None, None),
  ),
  (
    [
      '--mode=export',
      '--workdir=w',
      '--format=pytorch',
      '--out=o',
      '--network=discriminator',
      '--statistics=population',
      '--checkpoint=best',
    ],
    'trained.interop.exporting',
    (W, 'best', 'pytorch', 'o', 'discriminator', 'population'),
  ),
  (
    ['--mode=export', '--workdir=w', '--format=hub', '--out=o', '--license=mit', '--statistics=stored'],
    'trained.hub.writing',
    (W, 'last', 'o', 'stored', 'mit', None, 'float32'),
  ),
  (
    ['--mode=export', '--workdir=w', '--format=hub', '--out=o', '--network=generator', '--dtype=float16'],
    'trained.hub.writing',
    (W, 'last', 'o', None, None, 'generator', 'float16'),
  ),
]


@pytest.fixture(autouse=True)
def _writes_no_report(monkeypatch):
  monkeypatch.setattr(page, 'write_after_training', lambda *_, **__: None)


@pytest.mark.parametrize(
  ('arguments', 'module', 'want'), CALLS, ids=lambda x: x if isinstance(x, str) else ''
)
def test_flags_reach_the_library(call_main, monkeypatch, arguments, module, want):
  called = []
  library = importlib.import_module(f'dcgan_jax.{module}')
  monkeypatch.setattr(library, 'run', lambda *given: called.append(given))
  monkeypatch.setattr(shared, 'check_run', lambda folder: None)
  assert call_main(*arguments) == (0, '', '')
  assert called == [want]


@pytest.mark.parametrize(
  ('suffix', 'checkpoint'), [('', 'last'), (':last', 'last'), (':best', 'best'), (':07', '7')]
)
def test_init_from_names_a_run_and_a_checkpoint(call_main, monkeypatch, untrained, suffix, checkpoint):
  called = []
  monkeypatch.setattr(loop, 'run', lambda *given: called.append(given))
  arguments = ('--config=configs/digits.py', '--workdir=w', f'--init_from={untrained}{suffix}')
  assert call_main(*arguments) == (0, '', '')
  assert called == [(DIGITS, W, False, False, Origin(untrained.resolve(), checkpoint))]


def test_without_a_config_the_settings_are_those_of_the_run(call_main, monkeypatch, untrained):
  called = []
  monkeypatch.setattr(loop, 'run', lambda *given: called.append(given))
  assert call_main(f'--workdir={untrained}') == (0, '', '')
  chosen, folder, *_ = called[0]
  assert folder == untrained and chosen.latent.size == 10 and chosen.generator.widths == (8, 6)


def test_the_last_value_of_a_key_counts_also_of_a_tuple(call_main, monkeypatch):
  """Gives keys twice, as a script's defaults and a user's own do; 16 and 8 pixels were joined to 16x8."""
  called = []
  monkeypatch.setattr(loop, 'run', lambda *given: called.append(given))
  twice = [f'--config.data.image_size={size}' for size in (16, 8)]
  twice += [f'--config.generator.widths={widths}' for widths in ('(4,3)', '(2,1)')]
  assert call_main('--config=configs/digits.py', *twice) == (0, '', '')
  assert (called[0][0].data.size, called[0][0].generator.widths) == ((8, 8), (2, 1))
