"""Folders for the Hugging Face Hub: written, read again, and damaged."""

import json
import re
import shutil
import sys
import types

import jax
import numpy as np
import pytest
import yaml
from conftest import untrained_run
from PIL import Image

import dcgan_jax
from dcgan_jax import settings
from dcgan_jax.core import norm_statistics
from dcgan_jax.errors import InputError
from dcgan_jax.records import hub, workdir
from dcgan_jax.runs import experiment, weights
from dcgan_jax.trained.hub import card, loading, writing

FILES = ['README.md', 'config.json', 'grid.png', 'model.safetensors']
HOSTILE = 'a|b <script>alert(1)</script> `x` *y* [z](http://w) "q": {r} \\ é\n# s'


@pytest.fixture(scope='module', autouse=True)
def few_samples():
  """Few latents from which statistics are taken."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(norm_statistics, 'SAMPLES', 200)
    yield


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A run with classes, population statistics and scores, and the folder that was made of it."""
  folder, out = tmp_path_factory.mktemp('runs') / 'a_run', tmp_path_factory.mktemp('hub') / 'new' / 'folder'
  keys = {'data.classes': 10, 'sample.statistics': 'population', 'train.ema_decay': 0.9}
  untrained_run(folder, keys)
  names = ['zero', HOSTILE, *'23456789']
  workdir.write_json(folder / 'classes.json', {'names': names, 'counts': [910, *[10] * 9]})
  report = {
    'images': f'step 0 of {folder}, seed 0',
    'num': 50,
    'protocol': 'features=classifier/2 samples=50',
  }
  workdir.write_json(folder / 'evaluation.json', report | {'scores': {'classifier_frechet_distance': 12.5}})
  workdir.write_json(folder / 'evaluation_inception.json', report | {'images': 'step 9 of x', 'scores': {}})
  (folder / 'metrics.jsonl').write_text('{"step": 0, "fid": 3.25, "protocol": "samples=7"}\n')
  writing.run(folder, 'last', str(out), None, 'cc-by-4.0')
  return folder, out


@pytest.mark.slow
def test_the_folder_gives_the_pixels_of_the_run(written):
  folder, out = written
  assert sorted(path.name for path in out.iterdir()) == FILES
  ours, theirs = dcgan_jax.load(out), dcgan_jax.load(folder)
  assert ours.step == theirs.step == 0 and ours.classes == theirs.classes
  np.testing.assert_array_equal(ours.sample(5, seed=3), theirs.sample(5, seed=3))
  np.testing.assert_array_equal(ours.sample(2, label='zero'), theirs.sample(2, label='zero'))
  stored = theirs.sample(5, seed=3, statistics='stored')
  assert (stored != ours.sample(5, seed=3)).any()  # The statistics of the population are in the file.
  assert ours.latents == theirs.latents and ours.latents.counts[0] == 910
  again = ours.sample(5, seed=3, statistics='population')  # measured once more, with the same shares
  np.testing.assert_array_equal(again, theirs.sample(5, seed=3, statistics='population'))


@pytest.mark.slow(2)
def test_a_large_discriminator_is_no_reason_to_refuse_the_folder(tmp_path, monkeypatch):
  folder, out = tmp_path / 'run', tmp_path / 'out'
  untrained_run(folder, {'discriminator.widths': (6, 200)})
  writing.run(folder, 'last', str(out))
  model = hub.read(out)
  state = experiment.build(model.settings).shapes
  judge, made = (
    sum(leaf.size for leaf in jax.tree.leaves(network.variables))
    for network in (state.discriminator, state.generator)
  )
  assert judge > 2 * made  # The file is larger than one of two generators.
  monkeypatch.setattr(weights, 'SPARE_BYTES', 2**13)
  assert (out / 'model.safetensors').stat().st_size > weights.SPARE_BYTES + 8 * made
  assert dcgan_jax.load(out).step == 0
  (out / 'model.safetensors').write_bytes(bytes(weights.SPARE_BYTES + 8 * (made + judge) + 1))
  with pytest.raises(InputError, match='too large'):
    dcgan_jax.load(out)


@pytest.mark.slow(2)
def test_the_folder_has_both_networks(written):
  numpy = pytest.importorskip('safetensors.numpy')
  arrays = numpy.load_file(written[1] / 'model.safetensors')
  kinds = {name.split('.')[0] for name in arrays}
  assert kinds == {'generator', 'discriminator'}


def test_from_the_hub(written, monkeypatch):
  asked = []

  def download(name, **options):
    asked.append((name, options))
    return str(written[1])

  stand_in = types.ModuleType('huggingface_hub')
  stand_in.__spec__ = types.SimpleNamespace(name='huggingface_hub')
  stand_in.snapshot_download = download
  monkeypatch.setitem(sys.modules, 'huggingface_hub', stand_in)
  made = dcgan_jax.load('hf://someone/a-model_1.0').sample(3)
  np.testing.assert_array_equal(made, dcgan_jax.load(written[1]).sample(3))
  assert asked == [('someone/a-model_1.0', {'allow_patterns': ['config.json', 'model.safetensors']})]

  def fail(name, **options):
    raise ConnectionError('404 Client Error.\n\nRepository Not Found')

  stand_in.snapshot_download = fail
  with pytest.raises(InputError, match=r'^hf://someone/none: cannot be downloaded: 404 Client Error\.$'):
    dcgan_jax.load('hf://someone/none')
  for name in ('model', 'a/b/c', '../x/y', 'a/b?c', ''):
    with pytest.raises(InputError, match='must be hf://OWNER/NAME'):
      dcgan_jax.load(f'hf://{name}')


def test_without_the_package_of_the_hub(monkeypatch):
  monkeypatch.setattr(loading.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r"needs the package huggingface_hub; pip install -e '\.\[hub\]'"):
    dcgan_jax.load('hf://someone/model')


def test_the_card(written):
  text = (written[1] / 'README.md').read_text()
  _, front, body = text.split('---\n', 2)
  assert yaml.safe_load(front) == {
    'library_name': 'dcgan_jax',
    'pipeline_tag': 'unconditional-image-generation',
    'tags': ['dcgan', 'gan', 'jax', 'flax', 'image-generation'],
    'license': 'cc-by-4.0',
  }
  assert body.startswith('\n# a\\_run\n\n![80 images of this generator](grid.png)\n')
  for line in (
    '| Fréchet distance | 12.5 |',
    'Protocol: features=classifier/2 samples=50',
    '| FID | 3.25 |',
    'Protocol: samples=7',
    'By `--mode=evaluate`, 50 images:',
    'Taken during training:',
    '| data.source | digits |',
    "sampler = dcgan_jax.load('hf://OWNER/NAME')  # or the path of a copy of this folder",
    'images = sampler.sample(16, seed=0, label=0)  # uint8 [16, 8, 8, 1]',
    'As stated by whoever made this card: cc-by-4.0',
  ):
    assert line in body.splitlines(), line
  assert 'population statistics. The generator is a moving average of the trained one.' in body
  assert body.count('| score | value |') == 2 and '<script>' not in body
  assert 'a\\|b &lt;script&gt;alert\\(1\\)' in body
  with Image.open(written[1] / 'grid.png') as picture:
    assert picture.width < picture.height and len(picture.convert('L').getcolors()) > 20


def test_no_text_leaves_its_place():
  assert not re.search(r'(?<!\\)[|`*\[\]<>]', card.escaped(HOSTILE)) and '\n' not in card.escaped(HOSTILE)


@pytest.mark.parametrize('words', ['CC BY 4.0', HOSTILE, 'ours: "yes", #no', "don't", '- x', '😀'])
def test_any_licence_is_one_text_of_the_front_matter(words):
  front = card._front_matter(words).split('---\n')
  assert front[0] == '' and front[-1] == ''
  content = yaml.safe_load('---\n'.join(front[1:-1]))
  assert content['license'] == 'other' and content['license_name'] == words


def test_no_path_of_this_machine_is_told(written, tmp_path):
  for source, told in {
    'folder:/home/me/secret/faces': 'folder:faces',
    'npy:/home/me/secret:1/x.npy': 'npy:x.npy',
    'stacked:folder:/home/me/secret/faces/': 'stacked:folder:faces',
    'tfds:mnist': 'tfds:mnist',
    'digits': 'digits',
  }.items():
    chosen = settings.from_dict(
      {
        'data': {'source': source, 'channels': 1 + 2 * source.startswith('stacked')},
        'eval': {'weights': '/home/me/secret/w'},
      }
    )
    safe = writing.without_paths(chosen)
    assert safe.data.source == told and 'secret' not in str(safe)
  assert all(str(written[0]).encode() not in (written[1] / name).read_bytes() for name in FILES)


def _config(**changes):
  def damage(folder):
    content = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(content | changes))

  return damage


def _write(name, content):
  return lambda folder: (folder / name).write_bytes(content)


def _cut(folder):
  whole = (folder / 'model.safetensors').read_bytes()
  (folder / 'model.safetensors').write_bytes(whole[: len(whole) // 2])


def _arrays(change):
  def damage(folder):
    numpy = pytest.importorskip('safetensors.numpy')
    arrays = numpy.load_file(folder / 'model.safetensors')
    change(arrays)
    numpy.save_file(arrays, folder / 'model.safetensors')

  return damage


NAME = 'generator.params.conv1.kernel'
DAMAGE = [
  (_write('config.json', b'{'), 'config.json: is not JSON'),
  (_write('config.json', b'[]'), 'is not of dcgan_jax'),
  (lambda folder: (folder / 'config.json').unlink(), 'config.json: cannot be read'),
  (_config(library_name='transformers'), 'is not of dcgan_jax'),
  (_config(format=2), 'format=2; this version of dcgan_jax reads format=1; update it'),
  (_config(settings={'latent': {'size': -1}}), 'settings: latent.size=-1'),
  (_config(settings=None), 'has no section "settings"'),
  (_config(step='1'), "step='1': must be a whole number"),
  (_config(classes=['a']), 'has the names of 1 classes, and data.classes=10'),
  (_config(classes='abc'), 'has no list "classes"'),
  (
    _config(counts=[1, 2]),
    'config.json: "counts" must be the number of images of each of the 10 classes',
  ),
  (_cut, 'model.safetensors: is damaged or no file of safetensors'),
  (_write('model.safetensors', b''), 'model.safetensors: is damaged or no file of safetensors'),
  (lambda folder: (folder / 'model.safetensors').unlink(), 'model.safetensors: cannot be read: No such file'),
  (_arrays(lambda arrays: arrays.pop(NAME)), f'{NAME} is missing'),
  (_arrays(lambda arrays: arrays.update({NAME: arrays[NAME][:1]})), f'{NAME} is float32 (1, '),
  (_arrays(lambda arrays: arrays.update({NAME: arrays[NAME] * np.nan})), 'numbers that are not finite'),
]


@pytest.mark.parametrize('damage, said', DAMAGE)
def test_a_damaged_folder_is_refused_in_a_line(damage, said, written, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(written[1], folder)
  damage(folder)
  with pytest.raises(InputError) as refused:
    dcgan_jax.load(folder)
  assert said in str(refused.value) and '\n' not in str(refused.value)
  assert str(folder) in str(refused.value)


def test_a_folder_has_a_single_step(written):
  with pytest.raises(InputError, match=r'checkpoint=best: .* has a single step'):
    dcgan_jax.load(written[1], 'best')


def test_reports_that_are_no_reports(tmp_path):
  workdir.write_json(tmp_path / 'evaluation.json', {'scores': [1]})
  with pytest.raises(InputError, match='is not a report of --mode=evaluate'):
    card.find_scores(tmp_path, 3)
  assert card.find_scores(tmp_path / 'none', 3) == []


@pytest.mark.parametrize(
  ('content', 'free'),
  [
    (lambda own: own, True),
    (lambda own: own.replace(b'\n', b'\r\n'), True),  # as git may check it out
    (lambda own: own + b'\n', False),
    (lambda own: own.replace(b'seed', b'Seed'), False),
    (lambda own: b'more\n' + own, False),
    (lambda own: own.rpartition(b'<!--')[0], False),
    (lambda own: b'', False),
    (lambda own: b'# of something else\n', False),
    (lambda own: b'\xff' + own, False),
  ],
)
def test_only_a_card_that_was_not_edited_is_written_anew(written, tmp_path, content, free):
  own = (written[1] / 'README.md').read_bytes()
  (tmp_path / 'README.md').write_bytes(content(own))
  assert writing._is_free(tmp_path / 'README.md') == free


def test_a_card_is_not_written_over_what_is_no_file(tmp_path):
  (tmp_path / 'README.md').mkdir()
  assert writing._is_free(tmp_path / 'none.md') and not writing._is_free(tmp_path / 'README.md')


def test_from_the_command_line(call_main, refused, untrained, tmp_path):
  out = tmp_path / 'folder'
  out.mkdir()
  (out / '.gitattributes').write_text('as it is')
  flags = ['--mode=export', '--format=hub', f'--workdir={untrained}']
  status, printed, error = call_main(*flags, f'--out={out}')
  assert (status, error) == (0, '') and printed.count('\n') == 1
  assert printed.startswith(f'{out}: the generator and the discriminator of step 0; 0.0')
  assert sorted(path.name for path in out.iterdir()) == ['.gitattributes', *FILES]
  card_text = (out / 'README.md').read_text()
  assert 'None were taken of this step.' in card_text and 'has not stated it' in card_text
  assert call_main(*flags, f'--out={out}', '--license=mit')[0] == 0  # It is written anew.
  assert 'license: mit\n' in (out / 'README.md').read_text()

  (out / 'README.md').write_text(card_text.replace('None were', 'All were'))
  edited = (out / 'README.md').read_text()
  status, printed, error = call_main(*flags, f'--out={out}')
  assert (status, error) == (0, '') and (out / 'README.md').read_text() == edited
  assert printed.startswith(
    f'{out}/README.md: is kept, because it was edited or is of something else or of an older '
    'version; remove it'
  )
  assert printed.count('\n') == 2

  assert '--out is missing' in refused(*flags)
  assert 'network=discriminator: draws nothing' in refused(*flags, '--out=x', '--network=discriminator')
  assert 'has a config.json of something else' in refused(*flags, f'--out={untrained}')
  assert 'is a file' in refused(*flags, f'--out={out / "README.md"}')
  assert 'license: is empty' in refused(*flags, f'--out={out}', '--license= ')
  flags[1] = '--format=onnx'
  assert 'license=mit: belongs in a model card; format=onnx writes none' in refused(*flags, '--license=mit')
  assert 'dtype=float16: is for format=hub; format=onnx chooses its own' in refused(*flags, '--dtype=float16')
