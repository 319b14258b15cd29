"""The folder of a trained generator in place of a run: modes take it or refuse it, and leave it as it is."""

import json
import shutil

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY, state_of, untrained_run
from PIL import Image

import dcgan_jax
from configs import digits
from dcgan_jax import settings
from dcgan_jax.core import norm_statistics
from dcgan_jax.devices import placement
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import extractors
from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.records.workdir import Origin
from dcgan_jax.runs import experiment, sampling, starting
from dcgan_jax.trained.hub import writing
from dcgan_jax.trained.interop import exporting

MOST = 3_000_000  # bytes of a generator in models/


@pytest.fixture(scope='module', autouse=True)
def few_samples():
  """Few latents from which statistics are taken."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(norm_statistics, 'SAMPLES', 200)
    yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run with population statistics and a moving average."""
  keys = {'sample.statistics': 'population', 'train.ema_decay': 0.9}
  return untrained_run(tmp_path_factory.mktemp('runs') / 'a_run', keys)


@pytest.fixture(scope='module')
def alone(run, tmp_path_factory):
  """The folder of its generator, without D and in float16."""
  out = tmp_path_factory.mktemp('models') / 'alone'
  writing.run(run, 'last', str(out), license='mit', network='generator', dtype='float16')
  return out


@pytest.fixture(scope='module')
def both(run, tmp_path_factory):
  """The folder of both networks, in float32."""
  out = tmp_path_factory.mktemp('models') / 'both'
  writing.run(run, 'last', str(out))
  return out


@pytest.fixture(autouse=True)
def untouched(request):
  """Checks that a test has changed nothing in the folders that it uses."""
  folders = [request.getfixturevalue(x) for x in ('alone', 'both') if x in request.fixturenames]
  before = [_content(folder) for folder in folders]
  yield
  assert [_content(folder) for folder in folders] == before


def _content(folder):
  return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture
def by_brightness(monkeypatch):
  """A stand-in for the classifier: images that are brighter above are 3, others 5."""

  def look(images):
    above, below = images[:, :4].mean((1, 2, 3)), images[:, 4:].mean((1, 2, 3))
    features = np.random.default_rng(0).standard_normal((len(images), 4)).astype(np.float32)
    return {'features': features, 'probabilities': np.eye(10)[np.where(above > below, 3, 5)]}

  def extractor(source, real, labels, folder=None):
    assert folder is None  # It would keep the classifier there.
    return extractors.Extractor('classifier', 'features=test', look, 'brightness')

  monkeypatch.setattr(extractors, 'classifier_extractor', extractor)


def test_kernels_in_half_the_bytes_make_nearly_the_images_of_the_run(run, alone, both, capsys):
  numpy = pytest.importorskip('safetensors.numpy')
  exact, halved = (numpy.load_file(folder / 'model.safetensors') for folder in (both, alone))
  assert halved.keys() == {name for name in exact if name.startswith('generator.')}
  for name, array in halved.items():
    want = np.float16 if name.endswith('kernel') else np.float32
    assert array.dtype == want
    np.testing.assert_array_equal(array, exact[name].astype(want))
  sampler, of_run = dcgan_jax.load(alone), sampling.open_sampler(run)
  assert (sampler.statistics, sampler.folder, sampler.step) == ('population', None, 0)
  made, want = sampler.sample(70, seed=3), of_run.sample(70, seed=3)
  assert 0 < np.abs(made.astype(int) - want).max() <= 2
  for statistics in ('stored', 'population'):  # There are no others in the folder.
    np.testing.assert_array_equal(sampler.sample(70, 3, statistics), made)
  np.testing.assert_array_equal(dcgan_jax.load(both).sample(70, seed=3), want)
  picture, num = writing.grid(sampler, 0)
  assert num == 64
  with Image.open(alone / 'grid.png') as kept:
    np.testing.assert_array_equal(pictures.to_array(kept), picture)


def test_it_is_said_what_rounding_changes(run, tmp_path, capsys):
  writing.run(run, 'last', str(tmp_path / 'x'), dtype='float16')
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(f'{tmp_path}/x: the generator and the discriminator of step 0; ')
  assert lines[1].startswith(f'{tmp_path}/x: float16 changes grid.png by 0.') and lines[1].endswith(
    ' at most'
  )


def test_kernels_beyond_float16_are_refused():
  with pytest.raises(InputError, match='dtype=float16: the kernels have numbers beyond 65504'):
    writing._halved({'conv1': {'kernel': np.float32([1e5])}})
  kept = writing._halved({'norm1': {'scale': np.float32([1e5])}})
  assert kept['norm1']['scale'].dtype == np.float32


def test_the_card_has_the_command(alone, both):
  text = (alone / 'README.md').read_text()
  assert 'rounded to float16' in text and 'python main.py \\\n  --config=configs/digits.py' in text
  assert "--config.generator.widths='(8,6)'" in text or "'--config.generator.widths=(8,6)'" in text
  assert 'discriminator' not in text.partition('## Sample')[0] and 'license: mit' in text
  assert 'main.py' not in (both / 'README.md').read_text()


MODES = [
  ['--mode=sample', '--num=4', '--out={out}/x.png'],
  ['--mode=sample', '--num=4', '--statistics=population', '--out={out}/x.npz'],
  ['--mode=walk', '--points=0,1', '--out={out}/x.png'],
  ['--mode=walk', '--points=class:3', '--num=64', '--out={out}/x.png'],
  ['--mode=walk', '--directions=sefa', '--num=2', '--out={out}/x.png'],
  ['--mode=walk', '--plus=0', '--minus=1', '--plus2=2', '--out={out}/x.png'],
  ['--mode=project', '--images={pictures}', '--num=1', '--steps=2', '--starts=1', '--out={out}/x'],
  ['--mode=export', '--format=onnx', '--out={out}/x.onnx'],
  ['--mode=export', '--format=stablehlo', '--out={out}/x.stablehlo'],
  ['--mode=export', '--format=safetensors', '--out={out}/x.safetensors'],
  ['--mode=export', '--format=pytorch', '--out={out}/x.pth'],
  ['--mode=export', '--format=web', '--out={out}/x'],
  ['--mode=export', '--format=hub', '--network=generator', '--out={out}/x'],
]


@pytest.mark.slow
@pytest.mark.parametrize('arguments', MODES, ids=lambda x: ' '.join(x[:2]))
def test_modes_that_take_it(alone, arguments, printed_by, tmp_path, by_brightness, standard_promotion):
  (tmp_path / 'pictures').mkdir()
  Image.new('L', (8, 8), 90).save(tmp_path / 'pictures' / '0.png')
  filled = [argument.format(out=tmp_path, pictures=tmp_path / 'pictures') for argument in arguments]
  printed = printed_by(*filled, f'--workdir={alone}')
  assert [path for path in tmp_path.iterdir() if path.name != 'pictures']
  assert ('has no discriminator' in printed) == (arguments[0] == '--mode=project')


@pytest.mark.slow
def test_its_page_names_no_checkpoint(alone, printed_by, tmp_path, standard_promotion):
  """Commands of the page are refused with `--checkpoint`, because there is a single step."""
  printed_by('--mode=export', '--format=web', f'--workdir={alone}', f'--out={tmp_path}/page')
  assert json.loads((tmp_path / 'page' / 'explorer.json').read_text())['checkpoint'] is None


@pytest.mark.slow(2)
def test_its_layers(alone, printed_by, standard_promotion):
  assert 'Generator' in printed_by('--mode=summary', f'--workdir={alone}')


@pytest.mark.slow
def test_it_is_exported_as_the_same_folder(alone, tmp_path):
  writing.run(alone, 'last', str(tmp_path / 'again'), network='generator', dtype='float16')
  names = ('model.safetensors', 'config.json', 'grid.png')
  assert all((tmp_path / 'again' / name).read_bytes() == (alone / name).read_bytes() for name in names)


@pytest.mark.slow(2)
def test_classes_come_with_it(tmp_path, printed_by):
  run, out = untrained_run(tmp_path / 'run', {'data.classes': 10}), tmp_path / 'model'
  workdir.write_json(run / 'classes.json', {'names': ['zero', *'123456789'], 'counts': [10] * 10})
  writing.run(run, 'last', str(out), network='generator', dtype='float16')
  before = _content(out)
  printed_by('--mode=sample', f'--workdir={out}', '--class=zero,3', '--num=2', f'--out={tmp_path}/x.npz')
  with np.load(tmp_path / 'x.npz') as made:
    for i, label in enumerate(('zero', '3')):
      want = dcgan_jax.load(run).sample(2, label=label)
      assert np.abs(made['x'][2 * i : 2 * i + 2].astype(int) - want).max() <= 2
  assert _content(out) == before and workdir.read_class_counts(out) == (10,) * 10


@pytest.mark.slow
def test_both_networks_are_exported(both, run):
  ours, theirs = (experiment.open_run(folder, 'last') for folder in (both, run))
  for kind in ('generator', 'discriminator'):
    a, b = (exporting.network_of(each, kind) for each in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)
    assert a.about | {'run': ''} == b.about | {'run': ''}


@pytest.mark.slow
def test_it_is_scored_and_loses_a_class_without_a_file(alone, by_brightness, printed_by, tmp_path):
  printed = printed_by('--mode=evaluate', f'--workdir={alone}', '--num=50')
  assert 'statistics=population' in printed and 'only printed: results are kept' in printed
  printed = printed_by('--mode=forget', '--class=3', '--num=200', f'--workdir={alone}')
  assert '> 3' in printed and 'only printed' in printed


@pytest.mark.slow(2)
def test_scores_against_other_data_are_not_kept_by_a_run(run, by_brightness, printed_by):
  printed = printed_by('--mode=evaluate', f'--workdir={run}', '--num=50', '--data=digits')
  assert 'images of digits' in printed and 'only printed' in printed
  assert not list(run.glob('evaluation*'))


def test_data_elsewhere_are_named(alone, refused):
  error = refused('--mode=evaluate', f'--workdir={alone}', '--data=folder:/nonexistent')
  assert 'data.source=folder:/nonexistent' in error


@pytest.mark.parametrize('arguments', [
  [*TINY],
  ['--mode=train'],
  ['--mode=film'],
  ['--mode=report'],
  ['--mode=verify'],
  ['--mode=probe'],
], ids=lambda x: x[0])  # fmt: skip
def test_modes_that_take_a_run_alone(alone, arguments, refused):
  error = refused(*arguments, f'--workdir={alone}')
  assert error.startswith(f'error: workdir={alone}: is the folder of a trained generator, not of a run; ')


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['--mode=sample', '--checkpoint=best'], 'has a single step; leave the checkpoint out'),
    (['--mode=export', '--format=onnx', '--network=discriminator'], 'has a generator alone'),
    (['--mode=export', '--format=hub', '--out=x'], 'or --network=generator'),
    (['--mode=sample', '--class=3'], 'this generator is unconditional'),
  ],
)
def test_what_it_has_not_is_refused(alone, arguments, text, refused):
  assert text in refused(*arguments, f'--workdir={alone}')


def test_a_run_with_a_file_of_weights_stays_a_run(run, tmp_path):
  folder = shutil.copytree(run, tmp_path / 'run')
  (folder / 'model.safetensors').write_bytes(b'')
  assert workdir.keeping(folder) == folder and sampling.open_sampler(folder).folder == folder


def _parts(**changes):
  config = digits.get_config()
  tiny = {'data.image_size': (8, 8), 'generator.widths': (8, 6), 'discriminator.widths': (6, 8)}
  config.update_from_flattened_dict(tiny | {'latent.size': 10, 'seed': 3, 'train.ema_decay': 0.9} | changes)
  return experiment.build(settings.check(config))


def _begin(folder, new, parts, checkpoint='last'):
  new.mkdir()
  asked = Origin(folder, checkpoint)
  assert starting.check(asked, new, parts) == asked
  return starting.first_state(parts, new, placement.mesh(), asked)


@pytest.mark.slow
def test_training_starts_from_it(run, alone, both, tmp_path, capsys):
  parts, old = _parts(), state_of(run, 0)
  state = _begin(alone, tmp_path / 'a', parts)
  chance = parts.first_state()
  assert capsys.readouterr().out.startswith(
    f'init_from={alone}:last: step 0, a generator alone: D starts at random\n  G: taken: dense, conv1, conv2;'
  )
  jax.tree.map(np.testing.assert_array_equal, state.discriminator, chance.discriminator)
  for name in ('dense', 'conv1', 'conv2'):
    want = np.asarray(old.ema['params'][name]['kernel']).astype(np.float16)
    np.testing.assert_array_equal(state.generator.params[name]['kernel'], want)
    np.testing.assert_array_equal(state.ema['params'][name]['kernel'], want)
  record = json.loads((tmp_path / 'a' / 'init_from.json').read_text())
  assert record['discriminator']['taken'] == [] and record['workdir'] == str(alone)

  state = _begin(both, tmp_path / 'b', _parts(**{'train.freeze': 2}))
  assert 'a generator alone' not in capsys.readouterr().out
  jax.tree.map(np.testing.assert_array_equal, state.discriminator.params, old.discriminator.params)


@pytest.mark.parametrize(
  ('changes', 'checkpoint', 'text'),
  [
    ({}, 'best', 'checkpoint=best: .* has a single step'),
    ({'train.freeze': 1}, 'last', 'train.freeze=1: conv1 of D would stay at random, for init_from='),
    ({'latent.size': 9, 'generator.kernel_size': 3}, 'last', 'no layer of it fits'),
  ],
)
def test_what_training_cannot_start_from(alone, tmp_path, changes, checkpoint, text):
  with pytest.raises(InputError, match=text):
    _begin(alone, tmp_path / 'run', _parts(**changes), checkpoint)


def test_generators_of_the_repository():
  """Loads each of `models/`, whose card has a picture and says where it comes from."""
  for folder in sorted(path.parent for path in (ROOT / 'models').glob('*/config.json')):
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST, folder
    text, chosen = (folder / 'README.md').read_text(), workdir.read_settings(folder)
    for words in (
      f'| data.source | {chosen.data.source}',
      'As stated by whoever made this card: ',
      'python main.py \\\n  --config=configs/',
      '| score | value |',
      f'| seed | {chosen.seed} |',
    ):
      assert words.replace('_', '\\_') in text or words in text, (folder, words)
    picture, _ = writing.grid(dcgan_jax.load(folder), chosen.seed)
    with Image.open(folder / 'grid.png') as kept:
      # Other processors sum in another order.
      assert np.abs(pictures.to_array(kept).astype(int) - picture).mean() <= 1, folder
